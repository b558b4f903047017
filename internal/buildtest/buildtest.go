// Package buildtest is for tests that run the go command.
package buildtest

import (
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// Flags are those that the test was built with, so that what it builds itself is compiled already, for the most part. The
// compiler's are those of GOFLAGS.
func Flags(t testing.TB) (flags []string) {
	t.Helper()
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("this test does not know how it was built")
	}
	for _, s := range info.Settings {
		if s.Key == "-race" || s.Key == "-tags" {
			flags = append(flags, s.Key+"="+s.Value)
		}
	}
	for f := range strings.FieldsSeq(os.Getenv("GOFLAGS")) {
		if strings.HasPrefix(f, "-gcflags=") {
			flags = append(flags, f)
		}
	}
	return flags
}

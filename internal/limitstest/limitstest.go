// Package limitstest compares the limits of the code with those that operators and users are told. Each package tests its own.
package limitstest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Check compares limits with docs/operations.md, whose path it is given. In a row of two limits a package may have but one:
// it ends with "; " when it is the first, and begins so when it is the second.
func Check(t *testing.T, path string, want map[string]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Limits\n")
	found := map[string]string{}
	for row := range strings.Lines(table) {
		if cells := strings.Split(strings.Trim(row, "| \n"), " | "); len(cells) == 2 {
			found[cells[0]] = cells[1]
		}
	}
	for what, limit := range want {
		told := found[what]
		switch first, second, _ := strings.Cut(told, "; "); {
		case strings.HasSuffix(limit, "; "):
			told = first + "; "
		case strings.HasPrefix(limit, "; "):
			told = "; " + second
		}
		if told != limit {
			t.Errorf("docs/operations.md has %q as the limit of %q; the code has %q", told, what, limit)
		}
	}
}

// Bytes is a number of bytes as it is written there.
func Bytes(n int) string {
	for _, unit := range []string{"B", "KiB"} {
		if n%1024 != 0 {
			return fmt.Sprint(n, " ", unit)
		}
		n /= 1024
	}
	return fmt.Sprint(n, " MiB")
}

// Time is a duration as it is written there.
func Time(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return fmt.Sprint(int(d/time.Hour), " h")
	case d >= time.Minute:
		return fmt.Sprint(int(d/time.Minute), " min")
	case d >= time.Second:
		return fmt.Sprint(int(d/time.Second), " s")
	}
	return fmt.Sprint(int(d/time.Millisecond), " ms")
}

// Thousands is a number as it is written there.
func Thousands(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }

//go:build !fdb

package fdb

import (
	"strings"
	"testing"
)

func TestWithoutTheTagOpenSaysHowToBuild(t *testing.T) {
	db, err := Open("", Dir("app"))
	if db != nil || err == nil || !strings.Contains(err.Error(), "-tags fdb") || !strings.Contains(err.Error(), "libfdb_c") {
		t.Errorf("%v, %v", db, err)
	}
}

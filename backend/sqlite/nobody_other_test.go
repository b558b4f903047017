//go:build !linux

package sqlite

import (
	"os"
	"testing"
)

// asNobody runs f without the rights of root, for whom nothing is read-only.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() == 0 {
		t.Skip("nothing is read-only for root, and only on Linux can a thread be another user")
	}
	f()
}

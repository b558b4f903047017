// Package dbtest names databases for tests of programs whose users choose the store.
package dbtest

import (
	"path/filepath"
	"testing"

	"github.com/dserver-go/dserver/backend/fdb/fdbtest"
)

// Name names an empty database for package open, gone when the test has ended: a SQLite file, or with FDB=1 a directory
// of a FoundationDB cluster.
func Name(t testing.TB) string {
	t.Helper()
	if fdbtest.IsAsked() {
		return fdbtest.Name(t)
	}
	return filepath.Join(t.TempDir(), "test.db")
}

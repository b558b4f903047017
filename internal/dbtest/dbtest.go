// Package dbtest names databases for tests of programs whose users choose the store.
package dbtest

import (
	"path/filepath"
	"testing"

	"github.com/dserver-go/dserver/backend/fdb/fdbtest"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// Name names an empty database for package open, gone when the test has ended: a SQLite file, or with FDB=1 a directory
// of a FoundationDB cluster, or with PG=1 a schema of a PostgreSQL server.
func Name(t testing.TB) string {
	t.Helper()
	if fdbtest.IsAsked() {
		return fdbtest.Name(t)
	}
	if pgtest.IsAsked() {
		return pgtest.Name(t)
	}
	return filepath.Join(t.TempDir(), "test.db")
}

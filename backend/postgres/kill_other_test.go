//go:build !linux

package postgres

import (
	"testing"

	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// killBackend ends one of the server's processes that commits.
func killBackend(t testing.TB, url string) {
	t.Helper()
	pgtest.Exec(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dserver' LIMIT 1`)
}

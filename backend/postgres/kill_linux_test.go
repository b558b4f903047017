package postgres

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// killBackend kills one of the server's processes that commits: the server ends all others as well, and recovers.
func killBackend(t testing.TB, url string) {
	t.Helper()
	pid, err := strconv.Atoi(pgtest.Exec(t, url, `SELECT pid FROM pg_stat_activity
		WHERE application_name = 'dserver' AND query LIKE '%setval%' LIMIT 1`))
	if err != nil {
		pid, err = strconv.Atoi(pgtest.Exec(t, url, `SELECT pid FROM pg_stat_activity WHERE application_name = 'dserver' LIMIT 1`))
	}
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGKILL))
}

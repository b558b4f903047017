package dserver_test

import (
	"testing"

	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// PostgreSQL in real time.
func TestLongBankOnPostgreSQLLosesAndDoublesNothing(t *testing.T) {
	if !pgtest.IsAsked() {
		t.Skip("PG=1 asks for PostgreSQL")
	}
	bankInRealTime(t, pgtest.Name)
}

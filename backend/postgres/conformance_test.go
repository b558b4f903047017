package postgres

import (
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

func TestConformance(t *testing.T) {
	t.Parallel() // it waits for transactions to grow old
	backendtest.Run(t, opener)
}

func BenchmarkConformance(b *testing.B) { backendtest.Bench(b, opener) }

// opener makes a schema, and opens handles onto it that know nothing of each other, as processes do.
func opener(t testing.TB) func() backend.Database {
	name := pgtest.Name(t)
	return func() backend.Database { return openTest(t, name) }
}

func openTest(t testing.TB, name string, opts ...Option) *DB {
	t.Helper()
	db, err := Open(name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

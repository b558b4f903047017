package postgres

import (
	"flag"
	"os"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// TestMain runs more tests at once than there are processors, unless it is told how many: most of them wait, for a server
// or for transactions to grow old.
func TestMain(m *testing.M) {
	flag.Parse()
	isTold := false
	flag.Visit(func(f *flag.Flag) { isTold = isTold || f.Name == "test.parallel" })
	if !isTold {
		_ = flag.Set("test.parallel", "4")
	}
	os.Exit(m.Run())
}

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

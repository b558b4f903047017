package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/sqlite"
)

// opener makes a file, and opens handles onto it that know nothing of each other, as processes do.
func opener(t testing.TB) func() backend.Database {
	path := filepath.Join(t.TempDir(), "test.db")
	return func() backend.Database {
		db, err := sqlite.Open(path)
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
}

func TestConformance(t *testing.T) {
	t.Parallel() // it waits for transactions to grow old
	backendtest.Run(t, opener)
}

func BenchmarkConformance(b *testing.B) { backendtest.Bench(b, opener) }

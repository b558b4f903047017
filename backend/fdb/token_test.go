//go:build fdb

package fdb

import (
	"sync"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// openFresh opens a handle on an empty directory.
func openFresh(t testing.TB, opts ...Option) *DB {
	t.Helper()
	needCluster(t)
	return openTest(t, "", append([]Option{Dir(freshDirectory(t, "")...)}, opts...)...)
}

// addOwn is a transaction that reads a key of its own and adds to a counter.
func addOwn(t testing.TB, db *DB, counter backend.Key, own int) error {
	return db.Transact(t.Context(), func(tx backend.Tx) error {
		_, err := tx.Get(backend.NewKey("own", own)).Get()
		tx.Set(backend.NewKey("own", own), []byte("x"))
		tx.Add(counter, 1)
		return err
	})
}

// A slot that was just given back has a token that is newer than the read version of what is under way.
func TestTokensAreNoConflict(t *testing.T) {
	db := openFresh(t)
	var all sync.WaitGroup
	for worker := range 32 {
		all.Go(func() {
			for range 20 {
				if err := addOwn(t, db, backend.NewKey("n"), worker); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if s := db.Stats(); s.Conflicts != 0 || s.Commits != 32*20 {
		t.Errorf("transactions that have nothing in common: %+v", s)
	}
}

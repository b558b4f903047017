package postgres

import (
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// Two handles answer each other, each when its watch fires: none waits for a look at the clock.
func TestWatchesFireByNotifications(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	handles := []*DB{openTest(t, name), openTest(t, name)}
	const rounds = 100
	done := make(chan time.Duration, 2)
	for me, db := range handles {
		go func() {
			var slow time.Duration
			for i := range rounds {
				began := time.Now()
				turn(t, db, int64(2*i+me))
				if took := time.Since(began); i > 1 {
					slow = max(slow, took)
				}
			}
			done <- slow
		}()
	}
	for range handles {
		if slow := <-done; slow > lookEvery/2 {
			t.Errorf("a turn waited for %v", slow)
		}
	}
}

// turn waits until the counter is at n, and adds to it.
func turn(t *testing.T, db *DB, n int64) {
	for {
		var w backend.Watch
		var value []byte
		err := db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
			w = tx.Watch(backend.NewKey("bell"))
			value, err = tx.Get(backend.NewKey("bell")).Get()
			return err
		})
		if err != nil {
			t.Error(err)
			return
		}
		if now, _ := backend.Counter(value); now == n {
			w.Cancel()
			break
		}
		<-w.Done()
	}
	err := db.Transact(t.Context(), func(tx backend.Tx) error { tx.Add(backend.NewKey("bell"), 1); return nil })
	if err != nil {
		t.Error(err)
	}
}

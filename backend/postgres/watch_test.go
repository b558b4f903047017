package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// Two handles answer each other, each when its watch fires: none waits for a look at the clock.
func TestWatchesFireByNotifications(t *testing.T) {
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

// What another process commits without a notification is found by the next look at the clock, whatever is committed and
// notified meanwhile.
func TestWatchesFireWithoutNotifications(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(db, other *DB){
		"quiet":         func(_, _ *DB) {},
		"own commits":   func(db, _ *DB) { set(t, db, "b", "1") },
		"notifications": func(_, other *DB) { set(t, other, "b", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := pgtest.Name(t)
			db, other, unheard := openTest(t, schema), openTest(t, schema), openTest(t, schema)
			hear := func(hears bool) {
				pgtest.Exec(t, schema, fmt.Sprintf("UPDATE %s.sessions SET hears = %v WHERE id = %d",
					pgtest.SchemaOf(schema), hears, db.session.id.Load()))
			}
			var w backend.Watch
			must(t, db.Read(t.Context(), func(tx backend.ReadTx) error { w = tx.Watch(backend.NewKey("a")); return nil }))
			await(t, "it to listen", func() bool {
				return pgtest.Exec(t, schema, "SELECT count(*) FROM "+pgtest.SchemaOf(schema)+".sessions WHERE hears") == "1"
			})
			meanwhile(db, other) // from now on the other one tells what it writes
			hear(false)
			set(t, unheard, "a", "1")
			hear(true)
			meanwhile(db, other)
			limit := time.After(10 * lookEvery)
			tick := time.NewTicker(lookEvery / 10)
			defer tick.Stop()
			for {
				select {
				case <-w.Done():
					return
				case <-limit:
					t.Fatal("it did not fire")
				case <-tick.C:
					meanwhile(db, other)
				}
			}
		})
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

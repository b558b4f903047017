package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// Two handles answer each other, each when its watch fires: no look at the clock helps.
func TestWatchesFireByNotifications(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	const rounds = 100
	done := make(chan bool, 2)
	for me := range 2 {
		db := openTest(t, name, neverLook)
		go func() {
			for i := range rounds {
				turn(t, db, int64(2*i+me))
			}
			done <- true
		}()
	}
	limit := time.After(time.Minute)
	for range 2 {
		select {
		case <-done:
		case <-limit:
			t.Fatal("a watch did not fire")
		}
	}
}

// neverLook leaves watches to notifications alone.
func neverLook(o *options) { o.lookEvery = time.Hour }

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
			limit := time.After(30 * time.Second)
			tick := time.NewTicker(100 * time.Millisecond)
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
		select {
		case <-w.Done():
		case <-t.Context().Done():
			return
		}
	}
	err := db.Transact(t.Context(), func(tx backend.Tx) error { tx.Add(backend.NewKey("bell"), 1); return nil })
	if err != nil {
		t.Error(err)
	}
}

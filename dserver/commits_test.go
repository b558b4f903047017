package dserver_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// commitsDB counts the transactions that wrote something.
type commitsDB struct {
	backend.Database
	n atomic.Int64
}

func (d *commitsDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	wrote := false
	err := d.Database.Transact(ctx, func(tx backend.Tx) error {
		w := &writingTx{Tx: tx}
		err := fn(w)
		wrote = w.wrote
		return err
	})
	if err == nil && wrote {
		d.n.Add(1)
	}
	return err
}

// writingTx notes whether there is anything to commit.
type writingTx struct {
	backend.Tx
	wrote bool
}

func (t *writingTx) Set(key backend.Key, value []byte) { t.wrote = true; t.Tx.Set(key, value) }
func (t *writingTx) Clear(r backend.Range)             { t.wrote = true; t.Tx.Clear(r) }
func (t *writingTx) Add(key backend.Key, delta int64)  { t.wrote = true; t.Tx.Add(key, delta) }
func (t *writingTx) Append(prefix backend.Key, value []byte) {
	t.wrote = true
	t.Tx.Append(prefix, value)
}
func (t *writingTx) Stamp(key backend.Key) { t.wrote = true; t.Tx.Stamp(key) }

// countCommits counts the commits of a consumer that is warm (no claims, no first beats) until done holds. Each
// emptied queue costs one more, some milliseconds later, in which its ready mark is cleared; those are not awaited.
func countCommits(t *testing.T, types dserver.Type, warm, send func(db backend.Database), done func(db backend.Database) bool) int64 {
	store := newStore(t, safe)
	db := &commitsDB{Database: store.Open()}
	run(t, dserver.Consumer{}, db, types)
	warm(db)
	<-time.After(2 * time.Minute)         // it is not young any more
	<-time.After(1500 * time.Millisecond) // between two beats
	before := db.n.Load()
	send(store.Open())
	for !done(db) {
		<-time.After(time.Microsecond)
	}
	return db.n.Load() - before
}

func nothing(backend.Database) {}

// stateOf is what a safe has committed.
func stateOf(db backend.Database, id string) Safe {
	s, err := safe.At(db, id).State(context.Background())
	if err != nil {
		return Safe{}
	}
	return s
}

func TestCommitsOfASendAreThoseOfItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil).With(dserver.HandleCast(func(ctx *dserver.Context, s *Safe, m Mark) error {
			ctx.Cast(journal.Ref("nobody runs it"), Write(m))
			return s.see(m.Line)
		}))
		n := countCommits(t, types, nothing, func(db backend.Database) {
			must(t, safe.At(db, "a").Cast(t.Context(), Mark{"m"}))
		}, func(db backend.Database) bool { return stateOf(db, "a").Seen["m"] == 1 })
		if n != 1 {
			t.Errorf("a turn that sends has %d commits", n)
		}
	})
}

func TestCommitsOfSendAndReceiptAreTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := countCommits(t, safes(easyToil), nothing, func(db backend.Database) {
			must(t, safe.At(db, "a").Cast(t.Context(), Remit{ID: "p", To: "b", Cents: 1}))
		}, func(db backend.Database) bool { return stateOf(db, "b").Cents == 1 })
		if n != 2 {
			t.Errorf("a turn that sends and the one that receives have %d commits", n)
		}
	})
}

func TestCommitsOfLockAndReleaseAreTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := countCommits(t, safes(easyToil), nothing, func(db backend.Database) {
			must(t, safe.At(db, "a").Cast(t.Context(), Toil{ID: "t"}))
		}, func(db backend.Database) bool { return stateOf(db, "a").Seen["t"] == 1 })
		if n != 2 {
			t.Errorf("lock and release have %d commits", n)
		}
	})
}

func TestCommitsOf256QueuedMessagesAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := countCommits(t, safes(easyToil), nothing, func(db backend.Database) {
			var all []any
			for _, id := range numbered("", 256) {
				all = append(all, Stow{id})
			}
			must(t, safe.At(db, "a").CastAll(t.Context(), all))
		}, func(db backend.Database) bool { return len(stateOf(db, "a").Seen) == 256 })
		if n != 1 {
			t.Errorf("256 queued messages have %d commits", n)
		}
	})
}

func TestCommitsOfAnInlineCallAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, safe)
		db := &commitsDB{Database: store.Open()}
		run(t, dserver.Consumer{}, db, safes(easyToil))
		<-time.After(2*time.Minute + 1500*time.Millisecond)
		before := db.n.Load()
		if _, err := dserver.Call(t.Context(), safe.At(db, "a"), Grab{ID: "x"}); err != nil || db.n.Load() != before+1 {
			t.Errorf("an inline call has %d commits, %v", db.n.Load()-before, err)
		}
	})
}

package dserver_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// A process that was away for so long that the others removed it, with the answers to its calls, tells those who wait
// for them: whether it consumes or not, and also when it comes back with another call first.
func TestTrap18ProcessThatWasRemovedTellsItsCallers(t *testing.T) {
	for _, c := range []struct {
		name              string
		consumes, another bool
	}{{"it only calls", false, false}, {"it calls again", false, true}, {"it consumes", true, false}, {"it does both", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				elsewhere := dserver.Define("elsewhere", answers[Append]())
				store := newStore(t, journals, elsewhere)
				db := store.Open()
				if c.consumes {
					run(t, dserver.Consumer{}, db, journals)
					synctest.Wait()
				}
				waiting := make(chan error, 1)
				go func() { waiting <- elsewhere.At(db, "a").Call(context.Background(), Append{}, nil) }()
				<-time.After(50 * time.Second)
				must(t, store.Open().Transact(context.Background(), func(tx backend.Tx) error { // as a sweep does
					tx.Clear(backend.NewKey("p").Below())
					return nil
				}))
				<-time.After(30 * time.Second)
				if c.another {
					run(t, dserver.Consumer{}, store.Open(), journals)
					must(t, journal.At(db, "b").Call(context.Background(), Append{}, nil, dserver.Priority()))
				}
				select {
				case err := <-waiting:
					if !errors.Is(err, dserver.ErrReplyLost) {
						t.Errorf("it is told %v", err)
					}
				case <-time.After(time.Hour):
					t.Error("it waits for ever")
				}
			})
		})
	}
}

// The record of a caller's process is read for its first answer, and then believed for a while.
func TestAnAnswerNeedsNoReadOfItsProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		db, there := &recallsDB{Database: store.Open()}, store.Open()
		run(t, dserver.Consumer{}, db, journals)
		<-time.After(2*time.Minute + 1500*time.Millisecond) // not young, and between two beats
		for i, want := range []int64{2, 1, 1} {
			before := db.reads.Load()
			must(t, journal.At(there, "a").Call(context.Background(), Append{}, nil))
			if n := db.reads.Load() - before; n != want {
				t.Errorf("call %d: %d reads in its turn, want %d", i, n, want)
			}
			<-time.After(time.Second)
		}
	})
}

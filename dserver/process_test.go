package dserver_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
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
				if !c.another {
					<-time.After(30 * time.Second)
				} else {
					<-time.After(10*time.Second + time.Millisecond) // its beat is due, and who waits does not look yet
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

// firstDB is a store whose first transaction waits before its commit.
type firstDB struct {
	backend.Database
	later atomic.Bool
	goOn  chan struct{}
}

func (d *firstDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		err := fn(tx)
		if !d.later.Swap(true) {
			<-d.goOn
		}
		return err
	})
}

// Until the record of a process is known to be there, each of its calls writes it: the answer to one that comes through
// first would find nobody.
func TestAFirstCallIsAnsweredBesideOneThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		run(t, dserver.Consumer{}, store.Open(), journals)
		synctest.Wait()
		db := &firstDB{Database: store.Open(), goOn: make(chan struct{})}
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		answers := make(chan error, 2)
		call := func() { answers <- journals.At(db, "a").Call(ctx, Append{}, nil) }
		go call()
		synctest.Wait()
		go call()
		<-time.After(time.Minute)
		if len(answers) == 0 {
			t.Error("it is not answered")
		}
		close(db.goOn)
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
}

// A call that waits for long keeps the record of its process, without which nobody answers.
func TestACallThatWaitsForLongKeepsItsProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		run(t, dserver.Consumer{}, store.Open(), journals) // which sweeps
		late := dserver.Define("late", answers[Append]())
		answer := make(chan error, 1)
		go func() { answer <- late.At(store.Open(), "a").Call(context.Background(), Append{}, nil) }()
		<-time.After(30 * time.Minute)
		run(t, dserver.Consumer{}, store.Open(), late)
		select {
		case err := <-answer:
			must(t, err)
		case <-time.After(time.Minute):
			t.Fatal("it is not answered")
		}
	})
}

// aDatabase is one of which it can be seen whether anybody keeps it.
type aDatabase struct{ backend.Database }

// What is shared by those who use a database is dropped a while after the last one left, and with it the database: also
// by tests with virtual time, each of which begins when the one before it did.
func TestDatabasesThatNobodyUsesAreNotKept(t *testing.T) {
	var dbs []weak.Pointer[aDatabase]
	use := func(t *testing.T) {
		db := &aDatabase{backendtest.NewModel()}
		dbs = append(dbs, weak.Make(db))
		stop := run(t, dserver.Consumer{}, db, journals)
		must(t, journal.At(db, "a").Call(t.Context(), Append{}, nil))
		stop()
	}
	for _, wait := range []time.Duration{2 * time.Minute, 0} {
		synctest.Test(t, func(t *testing.T) {
			use(t)
			<-time.After(wait)
			use(t)
		})
	}
	for range 3 { // one for the cleanups of the other
		runtime.GC()
	}
	for i, db := range dbs[:len(dbs)-2] {
		if db.Value() != nil {
			t.Errorf("the database of use %d of %d is kept", i+1, len(dbs))
		}
	}
}

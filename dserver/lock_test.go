package dserver_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Guarded is locked work that ends when it is told to.
type Guarded struct{ Line string }

// A lock that another process takes while a turn runs makes that turn look again: no message is committed beside locked
// work that the turn did not know of, be the state changed or not.
func TestTurnDoesNotCommitBesideALockThatItHasNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, goOn, unlock := make(chan struct{}, 9), make(chan struct{}), make(chan struct{})
		working := make(chan struct{})
		types := journals.With(
			dserver.HandleLocked(
				func(*dserver.LockedContext, Journal, Guarded) (int, error) {
					close(working)
					<-unlock
					return 0, nil
				},
				func(_ *dserver.Context, j *Journal, m Guarded, _ int) error {
					j.write(m.Line)
					return nil
				}),
			dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Mark) error {
				began <- struct{}{}
				<-goOn
				j.write(m.Line)
				return nil
			}),
		)
		store := newStore(t, types)
		here, there := store.Open(), store.Open()
		ctx := context.Background()
		run(t, dserver.Consumer{}, here, types)
		synctest.Wait()
		sent := make(chan error, 1)
		go func() { sent <- types.At(here, "a").Cast(ctx, Mark{"beside"}) }()
		<-began // its turn has seen an empty queue and no lock
		run(t, dserver.Consumer{}, there, types)
		must(t, types.At(there, "a").Cast(ctx, Guarded{"locked"}))
		<-working
		close(goOn)
		must(t, <-sent)
		<-time.After(time.Second)
		if state, err := types.At(here, "a").State(ctx); err == nil && len(state.Lines) > 0 {
			t.Errorf("under the lock the journal came to %q", state.Lines)
		}
		close(unlock)
		expectLines(t, lines(t, types.At(here, "a")), "locked", "beside")
	})
}

// The lock of a dead holder waits for a consumer that can go on with it. One without the work's handler leaves it alone,
// and one that cannot read the state makes no attempt of it.
func TestLockWaitsForAConsumerThatCanGoOn(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkshop()
			store := newStore(t, w.types)
			first, away := store.Open(), store.Open()
			s, ctx := w.types.At(away, "a"), context.Background()
			stop := run(t, dserver.Consumer{}, first, w.types)
			must(t, s.Call(ctx, Stow{"before"}, nil))
			answer := toil(s, w)
			stopNow(t, first, stop)
			<-w.ended

			next := safe.With(dserver.HandleCast(func(_ *dserver.Context, s *Safe, m Stow) error { return s.see(m.ID) }))
			mend := func() {}
			if damaged {
				next, mend = w.types, damageState(t, away, s.Ref())
			}
			stop = run(t, dserver.Consumer{}, store.Open(), next)
			<-time.After(time.Minute)
			if status := statusOf(t, s); !status.Locked || status.DeadLetters != 0 || len(w.entered) > 0 {
				t.Errorf("damaged %v: %+v", damaged, status)
			}
			mend()
			if stop(); !damaged {
				run(t, dserver.Consumer{}, store.Open(), w.types)
			} else {
				run(t, dserver.Consumer{}, store.Open(), next)
			}
			select {
			case a := <-w.entered:
				if a.number != 2 {
					t.Errorf("damaged %v: it is attempt %d", damaged, a.number)
				}
			case <-time.After(time.Minute):
				t.Fatalf("damaged %v: nobody goes on with it", damaged)
			}
			w.find <- "found"
			if got := <-answer; got != "found<nil>" {
				t.Errorf("the answer is %s", got)
			}
		})
	}
}

// damageState makes a server's state unreadable until mend.
func damageState(t *testing.T, db backend.Database, ref dserver.Ref) (mend func()) {
	t.Helper()
	var rows []backend.KeyValue
	must(t, db.Transact(t.Context(), func(tx backend.Tx) (err error) {
		rows, err = tx.GetRange(backend.NewKey("s", ref.Type, ref.ID, "s").Tree(), backend.RangeOptions{}).Get()
		for _, row := range rows {
			tx.Set(row.Key, []byte{0xff})
		}
		return err
	}))
	return func() {
		must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
			for _, row := range rows {
				tx.Set(row.Key, row.Value)
			}
			return nil
		}))
	}
}

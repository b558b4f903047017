package dserver_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

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

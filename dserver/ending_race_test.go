package dserver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend/backendtest"
)

type quit struct{}

// quitters is servers whose work a handler can end, and which changes nothing else: then only the lock tells others of it.
func quitters(work func(ctx *LockedContext) error) *Definition[marked] {
	return Define("marked",
		HandleLocked(
			func(ctx *LockedContext, _ marked, _ toil) (int, error) { return 1, work(ctx) },
			func(_ *Context, s *marked, _ toil, n int) error { s.Done += n; return nil }),
		HandleInfo(func(ctx *Context, _ *marked, _ quit) error {
			ctx.Unlock(errors.New("it is ended"))
			return nil
		}))
}

// A handler ends work whose release is about to be committed: what it found is not applied any more.
func TestReleaseOfWorkThatAHandlerHasJustEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		ctx, stop := context.WithCancel(t.Context())
		goOn, ended := make(chan struct{}), make(chan error, 1)
		def := quitters(func(*LockedContext) error { <-goOn; return nil })
		s, ref := def.At(db, "a"), def.Ref("a")
		var isOver atomic.Bool
		held := &meddled{db, func() {
			if isOver.CompareAndSwap(true, false) {
				if err := s.Info(ctx, quit{}); err != nil {
					t.Error(err)
				}
			}
		}}
		go func() { ended <- Run(ctx, held, def) }()
		if err := s.Cast(ctx, toil{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !lockOf(t, db, ref).isHeld() {
			t.Fatal("it is not locked")
		}
		isOver.Store(true)
		close(goOn)
		synctest.Wait()
		state, err := s.State(ctx)
		if err != nil && !errors.Is(err, ErrNotFound) || state.Done != 0 {
			t.Errorf("the work was ended, and applied as well: %+v, %v", state, err)
		}
		if status, err := s.Status(ctx); err != nil || isOver.Load() || status.Locked || status.DeadLetters != 1 {
			t.Errorf("%+v, %v", status, err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

// The lock is taken over as a handler is about to end the work: it is the new holder that is told then.
func TestHandlerEndsWorkThatHasJustBeenTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		ctx, stop := context.WithCancel(t.Context())
		works, lost, ended := make(chan struct{}, 9), make(chan Ref, 9), make(chan error, 1)
		def := quitters(func(ctx *LockedContext) error {
			works <- struct{}{}
			<-ctx.Done()
			lost <- ctx.Self()
			return ctx.Err()
		})
		go func() { ended <- Run(ctx, db, def) }()
		for _, id := range []string{"a", "b"} {
			if err := def.At(db, id).Cast(ctx, toil{}); err != nil {
				t.Fatal(err)
			}
			<-works
		}
		other := colleague(ctx, db, def)
		takeOver := func(ref Ref) {
			if took, err := other.takeOver(ref, def.sealed(), lockOf(t, db, ref), ""); !took || err != nil {
				t.Error(took, err)
			}
			<-works
		}
		takeOver(def.Ref("b"))
		<-time.After(lease) // it beats for that one, so its bell is what tells it of another
		if ref := <-lost; ref != def.Ref("b") {
			t.Fatalf("%v was lost", ref)
		}
		held := &meddled{db, sync.OnceFunc(func() { takeOver(def.Ref("a")) })}
		if err := def.At(held, "a").Info(ctx, quit{}); err != nil {
			t.Fatal(err)
		}
		if lockOf(t, db, def.Ref("a")).isHeld() {
			t.Error("it is still locked")
		}
		<-time.After(2 * lease)
		if len(lost) != 2 { // the old holder, and the new one
			t.Errorf("of two holders %d know that the work was ended", len(lost))
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		other.close()
		other.wg.Wait()
	})
}

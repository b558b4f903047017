package dserver_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// A stop is an end of taking, not of finishing: what work finds within the grace is applied. Nobody charges twice.
func TestWorkThatEndsWithinTheGraceOfAStopIsAppliedOnce(t *testing.T) {
	charge := func(t *testing.T, open func() backend.Database, takes time.Duration) {
		began, goOn := make(chan struct{}, 9), make(chan struct{})
		var charged atomic.Int32
		def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			began <- struct{}{}
			<-goOn
			if err := ctx.Err(); err != nil {
				return "", err
			}
			charged.Add(1)
			return "receipt", nil
		})
		db := open()
		stop := run(t, dserver.Consumer{}, db, def)
		d := def.At(open(), "a")
		answer := make(chan error, 1)
		go func() { answer <- d.Call(within(t), Pay{How: "card"}, nil) }()
		<-began
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		run(t, dserver.Consumer{}, open(), def)
		<-time.After(takes)
		close(goOn)
		<-stopped
		if err := <-answer; err != nil || charged.Load() != 1 {
			t.Errorf("charged %d times, %v", charged.Load(), err)
		}
		if len(began) > 0 { // the other consumer would do what was broken off
			t.Error("the work began again")
		}
		expectLog(t, d, "paid card")
	}
	synctest.Test(t, func(t *testing.T) { charge(t, newStore(t, desks(noWork)).Open, 8*time.Second) })
	eachRealStore(t, func(t *testing.T, open func() backend.Database) { charge(t, open, 100*time.Millisecond) })
}

// Work that has not ended by then is told by its context, nine seconds after the stop, and another consumer has its lock
// at once.
func TestWorkThatOutlastsTheGraceGivesItsLockUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop()
		store := newStore(t, w.types)
		stop := run(t, dserver.Consumer{}, store.Open(), w.types)
		answer := toil(w.types.At(store.Open(), "a"), w)
		run(t, dserver.Consumer{}, store.Open(), w.types)
		began := time.Now()
		stop()
		if a := <-w.ended; !a.lost || time.Since(began) < 9*time.Second || time.Since(began) > 10*time.Second {
			t.Errorf("the work ended after %v, its context: %v", time.Since(began), a.lost)
		}
		if a := <-w.entered; a.number != 1 || time.Since(began) > 10*time.Second {
			t.Errorf("attempt %d began after %v", a.number, time.Since(began))
		}
		w.find <- "found"
		if got := <-answer; got != "found<nil>" {
			t.Errorf("the answer is %s", got)
		}
	})
}

// After a stop no attempt begins: neither after a back-off nor for a message that waits.
func TestNoWorkBeginsAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stopping atomic.Bool
		broke := make(chan struct{}, 9)
		def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
			if stopping.Load() {
				t.Error("an attempt began after the stop")
			}
			broke <- struct{}{}
			return "", errors.New("the gateway is away")
		})
		store := newStore(t, def)
		stop := run(t, dserver.Consumer{Work: 1}, store.Open(), def)
		for _, id := range []string{"a", "b"} {
			must(t, def.At(store.Open(), id).Cast(context.Background(), Pay{}))
		}
		<-broke
		<-broke
		stopping.Store(true)
		began := time.Now()
		stop()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stop took %v", took)
		}
	})
}

// A handler that asks for the lock as the consumer stops leaves its message on the queue: nobody has to take the lock over.
func TestNoLockIsTakenAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, goOn, stopped := make(chan struct{}, 9), make(chan struct{}), make(chan struct{})
		def := desks(noWork).With(dserver.HandleCall(func(ctx *dserver.Context, _ *Desk, _ Pay) (string, error) {
			began <- struct{}{}
			<-goOn
			ctx.Lock()
			return "", nil
		}))
		store := newStore(t, def)
		stop := run(t, dserver.Consumer{}, store.Open(), def)
		d := def.At(store.Open(), "a")
		must(t, d.Cast(context.Background(), Pay{}))
		<-began
		go func() { stop(); close(stopped) }()
		synctest.Wait()
		close(goOn)
		<-stopped
		if status := statusOf(t, d); status.Locked || status.Queued != 1 || status.Attempts != 0 {
			t.Errorf("%+v", status)
		}
	})
}

package consumer

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// leaseTime is how long a holder has to be seen unmoved.
const leaseTime = 3 * time.Second

// lockOf reads the lock of a server.
func lockOf(t *testing.T, db backend.Database, ref tenant.Ref) (l tenant.Lock) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		l, err = tenant.ReadLock(tx, tenant.KeysOf(ref))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// beatOf reads the beat of a lock's holder, as a consumer that watches it knows it.
func beatOf(t *testing.T, db backend.Database, l tenant.Lock) (beat string) {
	t.Helper()
	key, _, ok := tenant.HolderKeys(l.Beat)
	if !ok {
		t.Fatalf("%q names no holder", l.Beat)
	}
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		value, err := tx.Get(key).Get()
		beat = tenant.HolderMark + string(value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return beat
}

// doneOf reads what the work of a server has come to.
func doneOf(t *testing.T, db backend.Database, def *turn.Definition) int {
	t.Helper()
	st, err := turn.Whole(t.Context(), db, refOf(def))
	if err != nil {
		t.Fatal(err)
	}
	value, err := st.Decode(def)
	if err != nil {
		t.Fatal(err)
	}
	return value.(*marked).Done
}

// colleague is another consumer, which does what it is told.
func colleague(ctx context.Context, db backend.Database, def *turn.Definition) *consumer {
	c := newConsumer(db, Options{Logger: zerolog.Nop()}, def)
	c.Process, _ = mailbox.Acquire(db)
	c.Base, c.Turns, c.taking = ctx, ctx, ctx
	c.locks.Begin(ctx, ctx, c.lastMoment())
	return c
}

// quitting is a handler of info that ends the work of its server, and changes nothing else: then only the lock tells others
// of it.
func quitting(d *turn.Definition) {
	d.Infos[quit.Name] = &turn.Handler{Name: quit.Name, Run: func(s *turn.Scope, _ any, _ []byte) ([]byte, error) {
		s.Unlock(&tenant.Error{Text: "it is ended"})
		return nil, nil
	}}
}

var quit = tenant.Message{Name: "quit", Body: []byte{0xa0}}

// A takeover is of the lock that was seen: when its holder has beaten since, or has ended it, nothing is taken.
func TestTakeoverOfALockThatHasMovedDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		ctx, stop := context.WithCancel(t.Context())
		ended, works, hang := make(chan error, 1), make(chan struct{}, 9), make(chan struct{})
		def := define(locking(func(*turn.WorkAttempt) (int, error) { works <- struct{}{}; <-hang; return 1, nil }))
		go func() { ended <- Run(ctx, db, Options{}, def) }()
		if err := handleOf(db, def).Cast(ctx, toil, tenant.How{}); err != nil {
			t.Fatal(err)
		}
		<-works
		ref := refOf(def)
		other := colleague(ctx, db, def)
		<-time.After(leaseTime) // it has beaten
		seen := lockOf(t, db, ref)
		beat := beatOf(t, db, seen)
		<-time.After(leaseTime) // it beats
		for _, over := range []bool{false, true} {
			if over {
				close(hang)
				synctest.Wait()
			}
			if took, err := other.locks.TakeOver(ref, def, seen, beat); took || err != nil {
				t.Error(took, err)
			}
			synctest.Wait()
			if now := lockOf(t, db, ref); over == now.IsHeld() || !over && now.Fence != seen.Fence || len(works) > 0 {
				t.Errorf("with the work over (%v) the lock is %+v, and it was %+v", over, now, seen)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

// A consumer that ends gives its locks up. Until its last turn is over it meets them, and must leave them to others.
func TestConsumerThatEndsTakesNoLockOver(t *testing.T) {
	for _, ends := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			db := backendtest.NewModel()
			began := make(chan struct{}, 1)
			def := define(locking(func(a *turn.WorkAttempt) (int, error) {
				began <- struct{}{}
				<-a.Context.Done()
				return 0, a.Context.Err()
			}))
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, db, Options{}, def) }()
			if err := handleOf(db, def).Cast(ctx, toil, tenant.How{}); err != nil {
				t.Fatal(err)
			}
			<-began
			stop()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}

			working, end := context.WithCancel(t.Context())
			if ends {
				end()
			}
			other := colleague(t.Context(), db, def)
			other.taking = working
			other.locks.Begin(working, working, other.lastMoment())
			ref := refOf(def)
			other.turn(other.visit(other.server(ref), tenant.MaxBatch))
			if took := len(began) > 0 || other.locks.IsHolding(ref); took == ends {
				t.Errorf("of a consumer that ends (%v), the turn took the lock over: %v", ends, took)
			}
			end()
			other.close()
			other.wg.Wait()
		})
	}
}

// A handler ends work whose release is about to be committed: what it found is not applied any more.
func TestReleaseOfWorkThatAHandlerHasJustEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		ctx, stop := context.WithCancel(t.Context())
		goOn, ended := make(chan struct{}), make(chan error, 1)
		def := define(quitting, locking(func(*turn.WorkAttempt) (int, error) { <-goOn; return 1, nil }))
		var isOver atomic.Bool
		held := &meddled{db, func() {
			if isOver.CompareAndSwap(true, false) {
				if err := handleOf(db, def).Info(ctx, quit, nil); err != nil {
					t.Error(err)
				}
			}
		}}
		go func() { ended <- Run(ctx, held, Options{}, def) }()
		if err := handleOf(db, def).Cast(ctx, toil, tenant.How{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !lockOf(t, db, refOf(def)).IsHeld() {
			t.Fatal("it is not locked")
		}
		isOver.Store(true)
		close(goOn)
		synctest.Wait()
		if done := doneOf(t, db, def); done != 0 {
			t.Errorf("the work was ended, and applied as well: %d", done)
		}
		if status, err := operatorOf(db, def).Status(ctx); err != nil || isOver.Load() || status.Locked || status.DeadLetters != 1 {
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
		works, lost, ended := make(chan struct{}, 9), make(chan tenant.Ref, 9), make(chan error, 1)
		def := define(quitting, locking(func(a *turn.WorkAttempt) (int, error) {
			works <- struct{}{}
			<-a.Context.Done()
			lost <- a.Self
			return 0, a.Context.Err()
		}))
		a, b := refOf(def), tenant.Ref{Type: def.Name, ID: "b"}
		go func() { ended <- Run(ctx, db, Options{}, def) }()
		for _, ref := range []tenant.Ref{a, b} {
			if err := (Handle{DB: db, Def: def, Ref: ref}).Cast(ctx, toil, tenant.How{}); err != nil {
				t.Fatal(err)
			}
			<-works
		}
		other := colleague(ctx, db, def)
		takeOver := func(ref tenant.Ref) {
			if took, err := other.locks.TakeOver(ref, def, lockOf(t, db, ref), ""); !took || err != nil {
				t.Error(took, err)
			}
			<-works
		}
		takeOver(b)
		<-time.After(leaseTime) // it beats for that one, so its bell is what tells it of another
		if ref := <-lost; ref != b {
			t.Fatalf("%v was lost", ref)
		}
		held := &meddled{db, sync.OnceFunc(func() { takeOver(a) })}
		if err := handleOf(held, def).Info(ctx, quit, nil); err != nil {
			t.Fatal(err)
		}
		if lockOf(t, db, a).IsHeld() {
			t.Error("it is still locked")
		}
		<-time.After(2 * leaseTime)
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

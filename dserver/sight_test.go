package dserver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
)

// A holder is dead when it was looked at for a lease, at short intervals, and did not move.
func TestSightOfAHolder(t *testing.T) {
	held := lock{fence: backend.NewVersionstamp(1, 0), beat: "a"}
	moved, taken, given := held, held, held
	moved.beat, taken.fence, given.beat = "b", backend.NewVersionstamp(2, 0), vacant
	type look struct {
		after time.Duration // the look before
		lock  lock
	}
	for _, c := range []struct {
		name  string
		looks []look
		dead  bool
	}{
		{"seen for a lease", []look{{0, held}, {lookGap, held}, {lookGap, held}, {lookGap, held}}, true},
		{"seen for less", []look{{0, held}, {lookGap, held}, {lookGap, held}, {lookGap - 1, held}}, false},
		{"looks far apart", []look{{0, held}, {lease, held}}, false},
		{"far apart in the middle", []look{{0, held}, {lookGap, held}, {lookGap + 1, held}, {lookGap, held}}, false},
		{"it beats", []look{{0, held}, {lookGap, held}, {lookGap, moved}, {lookGap, moved}}, false},
		{"another took it", []look{{0, held}, {lookGap, held}, {lookGap, taken}, {lookGap, taken}}, false},
		{"given up", []look{{0, given}}, true},
		{"given up after a while", []look{{0, held}, {1, given}}, true},
	} {
		var s sight
		dead, now := false, time.Now()
		for _, l := range c.looks {
			now = now.Add(l.after)
			dead = s.isDead(l.lock, now)
		}
		if dead != c.dead {
			t.Errorf("%s: taken for dead is %v", c.name, dead)
		}
	}
}

// lockOf reads the lock of a server.
func lockOf(t *testing.T, db backend.Database, ref Ref) (l lock) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		l, err = readLock(tx, tenantOf(ref))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// colleague is another consumer, which does what it is told.
func colleague(ctx context.Context, db backend.Database, def *Definition[marked]) *consumer {
	c := newConsumer(Consumer{}, db, []Type{def})
	c.process, _ = acquireProcess(db)
	c.base, c.turns, c.taking, c.working = ctx, ctx, ctx, ctx
	return c
}

// A takeover is of the lock that was seen: when its holder has beaten since, or has ended it, nothing is taken.
func TestTakeoverOfALockThatHasMovedDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		ctx, stop := context.WithCancel(t.Context())
		ended, works, hang := make(chan error, 1), make(chan struct{}, 9), make(chan struct{})
		def := Define("marked", HandleLocked(
			func(*LockedContext, marked, toil) (int, error) { works <- struct{}{}; <-hang; return 1, nil },
			func(_ *Context, s *marked, _ toil, n int) error { s.Done += n; return nil }))
		go func() { ended <- Run(ctx, db, def) }()
		if err := def.At(db, "a").Cast(ctx, toil{}); err != nil {
			t.Fatal(err)
		}
		<-works
		ref := def.Ref("a")
		read := func() lock { return lockOf(t, db, ref) }
		other := colleague(ctx, db, def)
		<-time.After(lease) // it has beaten
		seen := read()
		beats, err := other.readBeats([]string{seen.beat})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(lease) // it beats
		for _, over := range []bool{false, true} {
			if over {
				close(hang)
				synctest.Wait()
			}
			if took, err := other.takeOver(ref, def.sealed(), seen, beats[seen.beat]); took || err != nil {
				t.Error(took, err)
			}
			synctest.Wait()
			if now := read(); over == now.isHeld() || !over && now.fence != seen.fence || len(works) > 0 {
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
			def := Define("marked", HandleLocked(
				func(ctx *LockedContext, _ marked, _ toil) (int, error) {
					began <- struct{}{}
					<-ctx.Done()
					return 0, ctx.Err()
				},
				func(*Context, *marked, toil, int) error { return nil }))
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- Run(ctx, db, def) }()
			if err := def.At(db, "a").Cast(ctx, toil{}); err != nil {
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
			other.taking, other.working = working, working
			ref := def.Ref("a")
			turn := &turn{c: other, s: other.server(ref), keys: tenantOf(ref), limit: maxBatch}
			other.turn(turn)
			if took := len(began) > 0 || other.isHolding(ref); took == ends {
				t.Errorf("of a consumer that ends (%v), the turn took the lock over: %v", ends, took)
			}
			end()
			other.close()
			other.wg.Wait()
		})
	}
}

// A holder whose lock another has taken over learns it from its next beat. What it would count or give up then is the
// other's, and stays as it is.
func TestHolderThatWasTakenOverTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		ctx, stop := context.WithCancel(t.Context())
		ended, works, lost := make(chan error, 1), make(chan struct{}, 9), make(chan struct{}, 9)
		def := Define("marked", HandleLocked(
			func(ctx *LockedContext, _ marked, _ toil) (int, error) {
				works <- struct{}{}
				<-ctx.Done()
				lost <- struct{}{}
				return 0, ctx.Err()
			},
			func(*Context, *marked, toil, int) error { return nil }))
		go func() { ended <- Run(ctx, db, def) }()
		ref := def.Ref("a")
		if err := def.At(db, "a").Cast(ctx, toil{}); err != nil {
			t.Fatal(err)
		}
		<-works
		seen := lockOf(t, db, ref)
		<-time.After(lease) // it has beaten: its bell is what tells it
		other := colleague(ctx, db, def)
		if took, err := other.takeOver(ref, def.sealed(), seen, ""); !took || err != nil {
			t.Fatal(took, err)
		}
		<-works
		taken := lockOf(t, db, ref)
		old := &holder{c: other, ref: ref, def: def.sealed(), lock: seen, lose: func(error) {}}
		if old.vacate(); old.again(&fault{Text: "it broke"}) {
			t.Error("it counts an attempt")
		}
		if now := lockOf(t, db, ref); now != taken || now.fence == seen.fence {
			t.Errorf("the lock is %+v, and was taken over as %+v", now, taken)
		}
		select {
		case <-lost:
		case <-time.After(lease):
			t.Error("its beats go on")
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		other.close()
		other.wg.Wait()
	})
}

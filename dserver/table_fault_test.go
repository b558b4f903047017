package dserver_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Rows of the crash table that need a scenario of their own.

// G17: info takes effect once, or not at all when its sender was told nothing.
func TestEachFaultOverInfo(t *testing.T) {
	told := ledger.With(dserver.HandleInfo(func(ctx *dserver.Context, l *Ledger, m Note) error {
		l.Seen = append(l.Seen, m.N)
		ctx.Cast(ledger.Ref("y"), Note{m.N}) // in the same commit
		return nil
	}))
	eachOperatorFault(t, func(o *operator) {
		err := told.At(o.db, "x").Info(o.f.Context(), Note{7})
		if err != nil && !errors.Is(err, backend.ErrCommitUnknown) && !errors.Is(err, backend.ErrClosed) {
			o.t.Fatalf("%v: %v", o.f, err)
		}
		state, stateErr := o.plain().State(within(o.t))
		if stateErr != nil && !errors.Is(stateErr, dserver.ErrNotFound) {
			o.t.Fatal(stateErr)
		}
		sent := statusOf(o.t, ledger.At(o.store.Open(), "y")).Queued
		once := slices.Equal(state.Seen, []int{7}) && sent == 1
		if never := len(state.Seen) == 0 && sent == 0; !once && (err == nil || !never) {
			o.t.Errorf("%v: after %v the server has seen %v, and sent %d", o.f, err, state.Seen, sent)
		}
	})
}

// An older state is there whole, or the new one is, with the message that changed it.
func TestEachFaultOverAnUpgrade(t *testing.T) {
	t.Parallel()
	type Old struct{ Lines map[string]int }
	type New struct{ Total, Count int }
	old := dserver.Define("sum", dserver.HandleCast(func(_ *dserver.Context, s *Old, m Write) error {
		s.Lines[m.Line]++
		return nil
	}))
	fresh := dserver.Define("sum",
		dserver.Upgrade(1, func(before Old, s *New) error {
			s.Total = len(before.Lines)
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, s *New, _ Write) error {
			s.Count++
			return nil
		}))
	var store *backendtest.Store
	opener := func(t testing.TB) func() backend.Database {
		store = newStore(t, fresh)
		return store.Open
	}
	backendtest.EachFaultOn(t, opener, func(t *testing.T, f *backendtest.Fault) {
		s := old.At(store.Open(), "a")
		stop := run(t, dserver.Consumer{}, store.Open(), old)
		must(t, s.Call(within(t), Write{"1"}, nil))
		must(t, s.Call(within(t), Write{"2"}, nil))
		stop()
		now := fresh.At(store.Open(), "a")
		must(t, now.Cast(within(t), Write{"3"}))
		stop = runThroughFaults(t, f, fresh)
		eventually(t, "it is handled", func() bool { return statusOf(t, now).Version == 2 })
		stop()
		if state, err := now.State(within(t)); err != nil || state != (New{2, 1}) {
			t.Errorf("%v: %+v, %v", f, state, err)
		}
	})
}

// runThroughFaults runs a consumer whose commits meet faults, and starts it again when it died of one.
func runThroughFaults(t testing.TB, f *backendtest.Fault, def dserver.Type) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		for db := f.Open(); ctx.Err() == nil; db = f.Open() {
			if err := dserver.Run(ctx, db, def); err != nil && !errors.Is(err, backend.ErrClosed) {
				t.Errorf("%v: Run: %v", f, err)
			}
		}
	})
	return func() {
		cancel()
		ended.Wait()
	}
}

// A server that has halted waits as before, or goes on with all attempts.
func TestEachFaultLeavesAResumeWhole(t *testing.T) {
	broken := ledgers.With(dserver.Settings[Ledger]{MaxAttempts: 1, Halt: true})
	mended := ledger.With(
		dserver.HandleCast(func(_ *dserver.Context, l *Ledger, m Burst) error { l.Text += m.Text; return nil }),
		dserver.HandleCall(func(_ *dserver.Context, l *Ledger, _ Read) ([]int, error) { return l.Seen, nil }))
	eachOperatorFault(t, func(o *operator) {
		ctx := within(o.t)
		s := o.plain()
		must(o.t, s.Cast(ctx, Burst{"once"}))
		stop := run(o.t, dserver.Consumer{}, o.store.Open(), broken)
		eventually(o.t, "it halts", func() bool { return statusOf(o.t, s).Halted })
		stop()
		o.do("resume", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Resume(ctx) })
		if status := statusOf(o.t, s); status.Halted || status.Attempts != 0 || status.Queued != 1 {
			o.t.Errorf("%v: resumed: %+v", o.f, status)
		}
		stop = run(o.t, dserver.Consumer{}, o.store.Open(), mended)
		eventually(o.t, "it is handled", func() bool { return statusOf(o.t, s).Queued == 0 })
		stop()
		if state, err := s.State(ctx); err != nil || state.Text != "once" {
			o.t.Errorf("%v: %+v, %v", o.f, state, err)
		}
	})
}

// Guard is a message whose locked work waits until its context ends.
type Guard struct{ N int }

// Locked work is there as before, or its message is set aside and the server goes on.
func TestEachFaultLeavesAnUnlockWhole(t *testing.T) {
	t.Parallel()
	eachOperatorFault(t, func(o *operator) {
		ctx := within(o.t)
		s, entered := o.plain(), make(chan struct{}, 1)
		def := ledgers.With(dserver.HandleLocked(
			func(ctx *dserver.LockedContext, _ Ledger, _ Guard) (int, error) {
				entered <- struct{}{}
				<-ctx.Done()
				return 0, ctx.Err()
			},
			func(_ *dserver.Context, l *Ledger, m Guard, _ int) error { l.Seen = append(l.Seen, m.N); return nil }))
		holder := o.store.Open()
		stop := run(o.t, dserver.Consumer{}, holder, def)
		must(o.t, def.At(o.store.Open(), "x").Cast(ctx, Guard{1}))
		<-entered
		stopNow(o.t, holder, stop) // it dies in its work
		must(o.t, s.Cast(ctx, Note{2}))
		o.do("unlock", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Unlock(ctx) })
		if status := statusOf(o.t, s); status.Locked || status.DeadLetters != 1 || status.Queued != 1 {
			o.t.Errorf("%v: unlocked: %+v", o.f, status)
		}
		start(o.t, o.store.Open(), def)
		if seen := seenAfter(o.t, ctx, s); !slices.Equal(seen, []int{2}) {
			o.t.Errorf("%v: seen %v", o.f, seen)
		}
		if all := letters(o.t, s); len(all) != 1 || all[0].Message.Name != "Guard" {
			o.t.Errorf("%v: letters %+v", o.f, all)
		}
	})
}

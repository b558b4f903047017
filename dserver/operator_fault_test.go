package dserver_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// operator does things to the server x of a store through a handle whose commits meet faults.
type operator struct {
	t     *testing.T
	f     *backendtest.Fault
	store *backendtest.Store
	db    backend.Database
}

// eachOperatorFault runs a scenario with each fault at each commit of an operator. The store itself has no faults.
func eachOperatorFault(t *testing.T, scenario func(o *operator)) {
	var store *backendtest.Store
	opener := func(t testing.TB) func() backend.Database {
		store = newStore(t, ledgers)
		return store.Open
	}
	backendtest.EachFaultOn(t, opener, func(t *testing.T, f *backendtest.Fault) {
		scenario(&operator{t: t, f: f, store: store, db: f.Open()})
	})
}

// do does something as often as it takes to know that it was done. Done before, in an attempt whose outcome was not
// known, it may be not found.
func (o *operator) do(what string, fn func(ctx context.Context, s *dserver.DServer[Ledger]) error) {
	o.t.Helper()
	unknown := false
	for {
		err := fn(o.f.Context(), ledgers.At(o.db, "x"))
		switch {
		case err == nil, unknown && errors.Is(err, dserver.ErrNotFound):
			return
		case !errors.Is(err, backend.ErrCommitUnknown) && !errors.Is(err, backend.ErrClosed):
			o.t.Fatalf("%v: %s: %v", o.f, what, err)
		}
		unknown = true
		if o.f.Crashed() {
			o.db = o.f.Open()
		}
	}
}

// plain is a handle without faults.
func (o *operator) plain() *dserver.DServer[Ledger] { return ledgers.At(o.store.Open(), "x") }

func TestEachFaultLeavesWithdrawRetryAndDiscardWhole(t *testing.T) {
	eachOperatorFault(t, func(o *operator) {
		ctx := within(o.t)
		s, _ := setAside(o.t, o.store.Open(), Refusal{"retried"})
		must(o.t, s.Cast(ctx, Refusal{"discarded"}))
		stop := run(o.t, dserver.Consumer{}, o.store.Open(), ledgers)
		eventually(o.t, "both are set aside", func() bool { return statusOf(o.t, s).DeadLetters == 2 })
		stop()
		for n := range 3 {
			must(o.t, s.Cast(ctx, Note{n}))
		}
		withdrawn, dead := waiting(o.t, s)[1], letters(o.t, s)
		dead[0].Message = dserver.Message{Name: "Note", Body: []byte{0xa1, 0x61, 'N', 0x09}}
		o.do("withdraw", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Withdraw(ctx, withdrawn.Stamp) })
		o.do("retry", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Retry(ctx, dead[0]) })
		o.do("discard", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Discard(ctx, dead[1]) })
		start(o.t, o.store.Open(), ledgers)
		if seen := seenAfter(o.t, ctx, o.plain()); !slices.Equal(seen, []int{0, 2, 9}) {
			o.t.Errorf("%v: seen %v", o.f, seen)
		}
		if status := statusOf(o.t, s); status.DeadLetters != 0 || status.Queued != 0 {
			o.t.Errorf("%v: %+v", o.f, status)
		}
	})
}

// After an acknowledged kill nothing of the old server is handled, whatever happened on the way, and each caller was told.
func TestEachFaultLeavesAKillWhole(t *testing.T) {
	eachOperatorFault(t, func(o *operator) {
		ctx := within(o.t)
		s, _ := setAside(o.t, o.store.Open(), Refusal{})
		must(o.t, s.Cast(ctx, Note{1}))
		stop := run(o.t, dserver.Consumer{}, o.store.Open(), ledgers)
		seenAfter(o.t, ctx, s)
		stop()
		answers := callers(o.t, o.store.Open(), 3, Read{})
		notes := make([]any, 600)
		for i := range notes {
			notes[i] = Note{i}
		}
		must(o.t, s.CastAll(ctx, notes))
		o.do("kill", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Kill(ctx) })
		must(o.t, s.Cast(ctx, Note{1000}))
		start(o.t, o.store.Open(), ledgers)
		expectKilled(o.t, answers)
		if seen := seenAfter(o.t, ctx, o.plain()); !slices.Equal(seen, []int{1000}) {
			o.t.Errorf("%v: seen %v", o.f, seen)
		}
		if status := statusOf(o.t, s); status.DeadLetters != 0 || status.Queued != 0 {
			o.t.Errorf("%v: %+v", o.f, status)
		}
	})
}

func TestEachFaultLeavesAResetWhole(t *testing.T) {
	eachOperatorFault(t, func(o *operator) {
		ctx := within(o.t)
		s := o.plain()
		must(o.t, s.Cast(ctx, Note{1}))
		stop := run(o.t, dserver.Consumer{}, o.store.Open(), ledgers)
		seenAfter(o.t, ctx, s)
		stop()
		must(o.t, s.Cast(ctx, Note{2}))
		o.do("reset", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Reset(ctx) })
		start(o.t, o.store.Open(), ledgers)
		if seen := seenAfter(o.t, ctx, s); !slices.Equal(seen, []int{2}) {
			o.t.Errorf("%v: seen %v", o.f, seen)
		}
	})
}

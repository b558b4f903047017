package dservertest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
)

func TestEachOrderOfSendersIsTriedOnce(t *testing.T) {
	seen := map[string]int{}
	orders := 0
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(memos)
		a := memos.At(db, "a")
		for _, name := range []string{"x", "y", "z"} {
			o.Go(name, func(ctx context.Context) error { return a.Cast(ctx, Line{name}) })
		}
		o.Run()
		s, err := a.State(t.Context())
		must(t, err)
		seen[strings.Join(s.Lines, "")]++
		orders++
	})
	if len(seen) != 6 {
		t.Errorf("of the 6 orders of three messages it tried %v", seen)
	}
	// x, y, z in 6 orders, with the first two of them handled before, between or after the later sends: 5 ways each.
	if orders != 6*5+1 { // one is run again, to see that it is the same
		t.Errorf("%d orders", orders)
	}
}

// A read of a sender is a step: it sees each state that there ever is.
func TestReadsOfSendersSeeEachState(t *testing.T) {
	seen := map[int]bool{}
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(memos)
		a := memos.At(db, "a")
		o.Go("writer", func(ctx context.Context) error { return a.CastAll(ctx, []any{Line{"x"}, Line{"y"}}) })
		o.Go("reader", func(ctx context.Context) error {
			s, err := a.State(ctx)
			if errors.Is(err, dserver.ErrNotFound) {
				err = nil
			}
			seen[len(s.Lines)] = true
			return err
		})
		o.Run()
	})
	if len(seen) != 3 {
		t.Errorf("the reader saw %v lines", seen)
	}
}

func TestCallsTimersAndLockedWorkAreStepsOfAnOrder(t *testing.T) {
	seen := map[string]int{}
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(memos)
		a := memos.At(db, "a")
		must(t, a.Cast(t.Context(), Wake{time.Minute}))
		o.Go("worker", func(ctx context.Context) error {
			if found, err := dserver.Call(ctx, a, Work{}); err != nil || !strings.HasPrefix(found, "worked on") {
				return fmt.Errorf("%q, %w", found, err)
			}
			return a.Cast(ctx, Line{"after"})
		})
		o.Run()
		s, err := a.State(t.Context())
		must(t, err)
		seen[strings.Join(s.Lines, " ")]++
	})
	for _, want := range []string{"woken worked after", "worked woken after", "worked after woken"} {
		if seen[want] == 0 {
			t.Errorf("never %q in %v", want, seen)
		}
	}
	if len(seen) != 3 {
		t.Errorf("what cannot be: %v", seen)
	}
}

// A counter that two people read, add to and write back, as nobody should: it goes wrong in some orders alone.
type (
	Cell struct{ N int }
	Put  struct{ N int }
)

var cells = dserver.Define("cell", dserver.HandleCast(func(_ *dserver.Context, c *Cell, m Put) error {
	c.N = m.N
	return nil
}))

func lostUpdate(t *testing.T, o *dservertest.Order) {
	db := o.Start(cells)
	a := cells.At(db, "a")
	for _, name := range []string{"alice", "bob"} {
		o.Go(name, func(ctx context.Context) error {
			s, err := a.State(ctx)
			if err != nil && !errors.Is(err, dserver.ErrNotFound) {
				return err
			}
			return a.Call(ctx, Put{s.N + 1}, nil)
		})
	}
	o.Run()
	if s, _ := a.State(t.Context()); s.N != 2 {
		t.Fatalf("two increments gave %d", s.N)
	}
}

const lostUpdateVariable = "DSERVERTEST_LOST_UPDATE"

func TestLostUpdateChild(t *testing.T) {
	if os.Getenv(lostUpdateVariable) == "" {
		t.Skip("it is run, and has to fail, by TestTheOrderThatFailsIsToldAndReplayed")
	}
	dservertest.EachOrder(t, lostUpdate)
}

func TestTheOrderThatFailsIsToldAndReplayed(t *testing.T) {
	run := func(more ...string) string {
		command := exec.Command(os.Args[0], "-test.run=^TestLostUpdateChild$", "-test.v")
		command.Env = append(append(os.Environ(), lostUpdateVariable+"=1"), more...)
		out, err := command.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "two increments gave 1") {
			t.Fatalf("the lost update was not found: %v\n%s", err, out)
		}
		return string(out)
	}
	out := run()
	_, after, _ := strings.Cut(out, "replay: ")
	replay, _, ok := strings.Cut(after, " ")
	if !ok || !strings.Contains(out, "alice reads\n") || !strings.Contains(out, "cell/a handles Put\n") {
		t.Fatalf("the order is not told:\n%s", out)
	}
	again := run(replay)
	if _, after, _ = strings.Cut(again, "replay: "); !strings.HasPrefix(after, replay+" ") {
		t.Errorf("%s replayed another order:\n%s", replay, again)
	}
}

// Bill is paid by locked work, or is overdue.
type (
	Bill    struct{ Paying, Paid, Late bool }
	Debit   struct{ dserver.Returns[string] }
	Overdue struct{}
)

var errOverdue = &dserver.Error{Code: "overdue"}

var bills = dserver.Define("bill",
	dserver.HandleCall(func(ctx *dserver.Context, b *Bill, _ Debit) (string, error) {
		b.Paying = true
		ctx.Lock()
		return "", nil
	}),
	dserver.HandleLockedCall(
		func(ctx *dserver.LockedContext, _ Bill, _ Debit) (string, error) {
			if ctx.Attempt() == 1 {
				return "", errors.New("the bank is away")
			}
			return "paid", nil
		},
		func(_ *dserver.Context, b *Bill, _ Debit, found string) (string, error) {
			b.Paying, b.Paid = false, true
			return found, nil
		}),
	dserver.HandleCast(func(ctx *dserver.Context, b *Bill, _ Overdue) error {
		if b.Paying {
			b.Paying, b.Late = false, true
			ctx.Unlock(errOverdue)
		}
		return nil
	}),
)

// Work that somebody may end is applied in some orders and ended in others, and its caller is told which.
func TestWorkIsAppliedOrEndedInEachOrder(t *testing.T) {
	seen := map[string]int{}
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(bills)
		b := bills.At(db, "a")
		answer := ""
		o.Go("payer", func(ctx context.Context) error {
			found, err := dserver.Call(ctx, b, Debit{})
			if answer = found; errors.Is(err, errOverdue) {
				answer, err = "late", nil
			}
			return err
		})
		o.Go("bailiff", func(ctx context.Context) error { return b.Cast(ctx, Overdue{}, dserver.Priority()) })
		o.Run()
		s, err := b.State(t.Context())
		must(t, err)
		seen[fmt.Sprint(answer, s)]++
	})
	if len(seen) != 2 || seen["paid{false true false}"] == 0 || seen["late{false false true}"] == 0 {
		t.Errorf("seen %v", seen)
	}
}

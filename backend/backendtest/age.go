package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// age is what makes a transaction too old for sure.
const age = backend.MaxDuration + backend.MaxDuration/20

func ages() []check {
	return []check{
		{"ATransactionMayTakeALittleTime", youngTransactionCommits},
		{"WhatIsTooOldTwiceFails", unlessShort(tooOldFails)},
	}
}

// unlessShort leaves a check out that waits in real time until transactions are too old. The model's own test has it
// in virtual time.
func unlessShort(test func(x *trial)) func(x *trial) {
	return func(x *trial) {
		if testing.Short() {
			x.Skip("-short: it waits for a transaction to be too old, twice, which takes", 2*age)
		}
		test(x)
	}
}

// wait is a slow function's work.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func youngTransactionCommits(x *trial) {
	x.transact(x.db, func(s *script) {
		s.get("a")
		wait(x.Context(), 100*time.Millisecond)
		s.set("a", s.get("b"))
	})
}

// The cases wait at the same time.
func tooOldFails(x *trial) {
	var wg sync.WaitGroup
	for what, grows := range map[string]func(*trial) error{
		"at the commit":     tooOldAtCommit,
		"in a read":         tooOldInRead,
		"in a Read":         tooOldInSnapshot,
		"in one run of two": tooOldOnce,
	} {
		wg.Go(func() {
			if err := grows(x); err != nil {
				x.Errorf("too old %s: %v", what, err)
			}
		})
	}
	wg.Wait()
	x.expect("what was written", x.everything(x.other), "once=2")
}

// twice checks that a transaction failed because it was too old in its first run and in its second.
func twice(runs int, err error) error {
	if !errors.Is(err, backend.ErrTooOld) || runs != 2 {
		return fmt.Errorf("after %d runs: %w", runs, err)
	}
	return nil
}

func tooOldAtCommit(x *trial) error {
	runs := 0
	err := transact(x.Context(), x.db, func(s *script) {
		runs++
		s.get("a")
		wait(x.Context(), age)
		s.set("a", "1")
	})
	return twice(runs, err)
}

func tooOldInRead(x *trial) error {
	runs := 0
	err := transact(x.Context(), x.db, func(s *script) {
		runs++
		s.set("b", s.get("a"))
		wait(x.Context(), age)
		s.get("b2")
	})
	return twice(runs, err)
}

func tooOldInSnapshot(x *trial) error {
	runs := 0
	err := x.db.Read(x.Context(), func(tx backend.ReadTx) error {
		runs++
		r := &reader{Reader: tx}
		r.get("a")
		wait(x.Context(), age)
		r.get("b")
		return r.err
	})
	return twice(runs, err)
}

// What was slow once may be quick the second time.
func tooOldOnce(x *trial) error {
	runs := 0
	err := transact(x.Context(), x.other, func(s *script) {
		s.get("c")
		if runs++; runs == 1 {
			wait(x.Context(), age)
		}
		s.get("d")
		s.set("once", fmt.Sprint(runs))
	})
	return err
}

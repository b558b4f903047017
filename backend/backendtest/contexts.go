package backendtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// The caller's context ends at each point of a transaction.
func contexts() []check {
	return []check{
		{"EndedBefore", endedBefore},
		{"EndedInFnBeforeARead", endedBeforeRead},
		{"EndedInFnAfterTheLastRead", endedAfterLastRead},
		{"EndedWhileRunAgain", endedWhileRunAgain},
		{"ADeadlineIsWrapped", deadlineIsWrapped},
		{"EndedAroundTheCommit", endedAroundCommit},
		{"ValuesOfOthersAreNotHarmed", othersAreNotHarmed},
	}
}

func (x *trial) ended() context.Context {
	ctx, cancel := context.WithCancel(x.Context())
	cancel()
	return ctx
}

func endedBefore(x *trial) {
	if err := transact(x.ended(), x.db, func(s *script) { s.set("a", "1") }); !errors.Is(err, context.Canceled) {
		x.Errorf("a blind transaction: %v", err)
	}
	if err := transact(x.ended(), x.db, func(s *script) { s.set("a", s.get("b")) }); !errors.Is(err, context.Canceled) {
		x.Errorf("a transaction that reads: %v", err)
	}
	err := x.db.Read(x.ended(), func(tx backend.ReadTx) error {
		_, err := tx.Get(key("a")).Get()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		x.Errorf("a Read: %v", err)
	}
	x.expect("what was written", x.everything(x.other), "")
}

func endedBeforeRead(x *trial) {
	ctx, cancel := context.WithCancel(x.Context())
	runs := 0
	err := transact(ctx, x.db, func(s *script) {
		runs++
		s.get("a")
		s.set("a", "1")
		cancel()
		s.get("b")
		s.list(wholeStore(), backend.RangeOptions{})
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, backend.ErrCommitUnknown) || runs != 1 {
		x.Errorf("after %d runs: %v", runs, err)
	}
	x.expect("what was written", x.everything(x.other), "")
}

func endedAfterLastRead(x *trial) {
	for _, blind := range []bool{true, false} {
		ctx, cancel := context.WithCancel(x.Context())
		err := transact(ctx, x.db, func(s *script) {
			if !blind {
				s.get("a")
			}
			s.set("a", "1")
			cancel()
		})
		if !errors.Is(err, context.Canceled) || errors.Is(err, backend.ErrCommitUnknown) {
			x.Errorf("blind: %v: %v", blind, err)
		}
		x.expect("what was written", x.everything(x.other), "")
	}
}

// A transaction that would lose for ever ends with its context.
func endedWhileRunAgain(x *trial) {
	ctx, cancel := context.WithCancel(x.Context())
	defer cancel()
	runs := 0
	err := transact(ctx, x.db, func(s *script) {
		s.set("b", s.get("a"))
		x.set(x.other, "a", fmt.Sprint(runs))
		if runs++; runs == 5 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || runs != 5 {
		x.Errorf("after %d runs: %v", runs, err)
	}
	x.expect("what was written", x.get(x.other, "b"), absent)
}

func deadlineIsWrapped(x *trial) {
	ctx, cancel := context.WithTimeout(x.Context(), time.Millisecond)
	defer cancel()
	err := transact(ctx, x.db, func(s *script) {
		<-ctx.Done()
		s.set("a", s.get("a"))
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		x.Error(err)
	}
}

// The context ends at any moment from the end of fn to some while after the commit: what the caller is told is true.
func endedAroundCommit(x *trial) {
	const tries = 150
	told := make(map[string]int)
	for i := range tries {
		ctx, cancel := context.WithCancel(x.Context())
		var timer *time.Timer
		name := fmt.Sprintf("try %03d", i)
		err := transact(ctx, x.db, func(s *script) {
			s.get("a")
			s.set(name, "1")
			timer = time.AfterFunc(time.Duration(i*i)*100*time.Nanosecond, cancel)
		})
		timer.Stop()
		cancel()
		committed := x.get(x.other, name) != absent
		switch {
		case err == nil:
			told["committed"]++
			if !committed {
				x.Errorf("%s: told that it was committed, and it was not", name)
			}
		case errors.Is(err, backend.ErrCommitUnknown):
			told["unknown"]++
		default:
			told["not committed"]++
			if committed {
				x.Errorf("%s: told %v, but it was committed", name, err)
			}
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			x.Errorf("%s: %v", name, err)
		}
	}
	x.Logf("told: %v", told)
}

// Transactions that share the store's work with one that was given up go on.
func othersAreNotHarmed(x *trial) {
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		for i := range 30 {
			ctx, cancel := context.WithCancel(ctx)
			impatient := worker%2 == 1
			if impatient {
				time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
			}
			err := transact(ctx, db, func(s *script) { s.tx.Add(backend.NewKey("n", worker), 1) })
			cancel()
			if err != nil && (!impatient || !errors.Is(err, context.Canceled)) {
				return err
			}
		}
		return nil
	})
	for worker := 0; worker < eachWorkers; worker += 2 {
		x.expectCount(x.other, backend.NewKey("n", worker), 30)
	}
}

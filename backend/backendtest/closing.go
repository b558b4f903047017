package backendtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

func closing() []check {
	return []check{
		{"AClosedDatabaseRefuses", closedRefuses},
		{"ASecondCloseDoesNothing", secondCloseDoesNothing},
		{"CloseEndsWhatRuns", closeEndsWhatRuns},
		{"CloseWaitsForWhatRuns", closeWaits},
		{"CloseLeavesBehindWhatDoesNotReturn", closeLeavesBehind},
		{"CloseAmidCommitsLosesNothing", closeAmidCommits},
		{"OtherHandlesGoOn", otherHandlesGoOn},
		{"WhatWasCommittedIsThereAfterReopening", reopenedHasAll},
	}
}

func closedRefuses(x *trial) {
	x.set(x.db, "a", "1")
	closeAll(x, x.db)
	assertClosed(x, x.db)
	err := x.db.Transact(x.Context(), func(tx backend.Tx) error {
		tx.Set(key("a"), nil)
		return nil
	})
	if !errors.Is(err, backend.ErrClosed) {
		x.Errorf("a blind write: %v", err)
	}
	x.expect("the value", x.get(x.other, "a"), "1")
}

func secondCloseDoesNothing(x *trial) {
	closeAll(x, x.db, x.db)
}

// running starts a call that tells when it has begun, and returns what its error will arrive at.
func (x *trial) running(call func(begun func()) error) (result chan error) {
	started, result := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() { result <- call(func() { once.Do(func() { close(started) }) }) }()
	within(x, started, "the call begins")
	return result
}

// readUntilError reads until that fails, as it must when the database is closed.
func readUntilError(r backend.Reader) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := r.Get(key("a")).Get(); err != nil {
			return err
		}
	}
	return errors.New("reads still succeed")
}

func closeEndsWhatRuns(x *trial) {
	writing := x.running(func(begun func()) error {
		return x.db.Transact(x.Context(), func(tx backend.Tx) error {
			tx.Set(key("b"), nil)
			begun()
			return readUntilError(tx)
		})
	})
	reading := x.running(func(begun func()) error {
		return x.db.Read(x.Context(), func(tx backend.ReadTx) error {
			begun()
			return readUntilError(tx)
		})
	})
	closeAll(x, x.db)
	for _, result := range []chan error{writing, reading} {
		if err := <-result; !errors.Is(err, backend.ErrClosed) {
			x.Errorf("what ran ended with %v", err)
		}
	}
	x.expect("what was written", x.everything(x.other), "")
}

func closeWaits(x *trial) {
	ended := make(chan struct{})
	result := x.running(func(begun func()) error {
		return x.db.Transact(x.Context(), func(tx backend.Tx) error {
			begun()
			err := readUntilError(tx)
			wait(x.Context(), 20*time.Millisecond) // a function that takes its time
			close(ended)
			return err
		})
	})
	closeAll(x, x.db)
	select {
	case <-ended:
	default:
		x.Error("Close returned while a function still ran")
	}
	<-result
}

// Functions that do not return cannot keep Close from its end. What they do afterwards is refused, and harms nobody.
func closeLeavesBehind(x *trial) {
	if testing.Short() {
		x.Skip("-short: it waits until Close gives up,", backend.MaxClose)
	}
	x.set(x.db, "a", "1")
	stuck := make(chan struct{})
	results := []chan error{
		x.running(func(begun func()) error {
			return transact(x.Context(), x.db, func(s *script) {
				s.get("a")
				s.set("a", "2")
				begun()
				<-stuck
				s.set("b", "2")
			})
		}),
		x.running(func(begun func()) error {
			return transact(x.Context(), x.db, func(s *script) {
				s.set("blind", "2")
				begun()
				<-stuck
			})
		}),
		x.running(func(begun func()) error {
			return x.db.Read(x.Context(), func(tx backend.ReadTx) error {
				begun()
				<-stuck
				_, err := tx.Get(key("a")).Get()
				return err
			})
		}),
	}
	began := time.Now()
	err := x.db.Close()
	for _, words := range []string{"3: ", "Transact of ", "Read of ", "closeLeavesBehind"} {
		if !errors.Is(err, backend.ErrLeftBehind) || !strings.Contains(err.Error(), words) {
			x.Errorf("Close: %v; want ErrLeftBehind and %q", err, words)
		}
	}
	if took := time.Since(began); took < backend.MaxClose || took > backend.MaxClose+patience {
		x.Errorf("Close took %v", took)
	}
	closeAll(x, x.db)
	assertClosed(x, x.db)
	x.set(x.other, "c", "3")
	close(stuck)
	for _, result := range results {
		if err := <-result; !errors.Is(err, backend.ErrClosed) {
			x.Errorf("what was left behind ended with %v", err)
		}
	}
	x.expect("what is stored", x.everything(x.other), "a=1 c=3")
}

// Whatever a caller was told when its database was closed meanwhile is true.
func closeAmidCommits(x *trial) {
	const writers = 4
	outcomes := make([]chan adding, writers)
	for writer := range writers {
		outcomes[writer] = make(chan adding, 1)
		go func() { outcomes[writer] <- addUntilError(x.Context(), x.db, backend.NewKey("n", writer)) }()
	}
	for deadline := time.Now().Add(patience); x.counter(x.other, backend.NewKey("n", 0)) < 5; {
		if time.Now().After(deadline) {
			x.Fatal("nothing is committed")
		}
	}
	closeAll(x, x.db)
	for writer := range writers {
		o := <-outcomes[writer]
		if !errors.Is(o.err, backend.ErrClosed) {
			x.Errorf("a writer ended with %v", o.err)
		}
		most := o.acknowledged
		if errors.Is(o.err, backend.ErrCommitUnknown) {
			most++
		}
		if n := x.counter(x.other, backend.NewKey("n", writer)); n < o.acknowledged || n > most {
			x.Errorf("counted %d of %d acknowledged; the last ended with %v", n, o.acknowledged, o.err)
		}
	}
}

// adding is how often a writer was told that it added 1, and how that ended.
type adding struct {
	acknowledged int64
	err          error
}

func addUntilError(ctx context.Context, db backend.Database, counter backend.Key) (a adding) {
	for {
		if a.err = transact(ctx, db, func(s *script) { s.tx.Add(counter, 1) }); a.err != nil {
			return a
		}
		a.acknowledged++
	}
}

func otherHandlesGoOn(x *trial) {
	x.set(x.db, "a", "1")
	closeAll(x, x.db)
	x.set(x.other, "b", "2")
	x.expect("another handle", x.everything(x.other), "a=1 b=2")
}

func reopenedHasAll(x *trial) {
	x.set(x.db, "a", "1")
	closeAll(x, x.db, x.other)
	again := x.open()
	x.expect("a new handle", x.everything(again), "a=1")
	x.set(again, "b", "2")
	x.expect("another new handle", x.everything(x.open()), "a=1 b=2")
}

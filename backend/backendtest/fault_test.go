package backendtest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// The scenario that is in the package's example: a counter that is incremented once, whatever happens.
func TestIncrementWithKeyCountsOnce(t *testing.T) {
	EachFault(t, incrementOnce)
}

func incrementOnce(t *testing.T, f *Fault) {
	db, key, mark := f.Open(), backend.NewKey("counter"), backend.NewKey("done")
	increment := func() error {
		return db.Transact(f.Context(), func(tx backend.Tx) error {
			if done, err := tx.Get(mark).Get(); done != nil || err != nil {
				return err
			}
			tx.Set(mark, nil)
			tx.Add(key, 1)
			return nil
		})
	}
	for err := increment(); err != nil; err = increment() {
		if !errors.Is(err, backend.ErrCommitUnknown) {
			t.Fatalf("%v: %v", f, err)
		}
		if f.Crashed() {
			db = f.Open()
		}
	}
	if n := counterAt(t, db, key); n != 1 {
		t.Fatalf("%v: counted %d times", f, n)
	}
}

func counterAt(t *testing.T, db backend.Database, key backend.Key) (n int64) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		value, err := tx.Get(key).Get()
		if err == nil {
			n, err = backend.Counter(value)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What each kind does to a blind increment, its caller and its process.
func TestEachKindOfFaultDoesWhatItSays(t *testing.T) {
	for _, c := range []struct {
		kind             FaultKind
		runs             int
		counted          int64
		unknown, crashed bool
	}{
		{kind: Retry, runs: 2, counted: 1},
		{kind: LostOutcome, runs: 1, counted: 1},
		{kind: UnknownCommitted, runs: 1, counted: 1, unknown: true},
		{kind: UnknownRolledBack, runs: 1, counted: 0, unknown: true},
		{kind: CrashBefore, runs: 1, counted: 0, unknown: true, crashed: true},
		{kind: CrashAfter, runs: 1, counted: 1, unknown: true, crashed: true},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			f := &Fault{kind: c.kind, number: 1, open: Model(t)}
			db, key, ctx := f.Open(), backend.NewKey("n"), f.Context()
			watch := watchOn(t, db, backend.NewKey("quiet"))
			runs := 0
			err := db.Transact(ctx, func(tx backend.Tx) error {
				runs++
				tx.Add(key, 1)
				return nil
			})
			if runs != c.runs || errors.Is(err, backend.ErrCommitUnknown) != c.unknown || (err != nil) != c.unknown {
				t.Errorf("fn ran %d times, error %v", runs, err)
			}
			if interrupted := errors.Is(err, context.Canceled); interrupted != (c.unknown && !c.crashed) {
				t.Errorf("the context's end is in the error: %v", err)
			}
			if f.Crashed() != c.crashed || errors.Is(err, backend.ErrClosed) != c.crashed || f.Committed() != (c.counted == 1) {
				t.Errorf("crashed: %v, committed: %v, error %v", f.Crashed(), f.Committed(), err)
			}
			if c.crashed {
				within(t, watch.Done(), "the watch of a dead process fires")
				assertClosed(t, db)
				db = f.Open()
			}
			if n := counterAt(t, db, key); n != c.counted {
				t.Errorf("counted %d", n)
			}
		})
	}
}

func watchOn(t *testing.T, db backend.Database, key backend.Key) (w backend.Watch) {
	t.Helper()
	if err := db.Read(t.Context(), func(tx backend.ReadTx) error { w = tx.Watch(key); return nil }); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestLostOutcomeIsUnknownWhenContextEndsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &Fault{kind: LostOutcome, number: 1, open: NewStore().Open}
		db := f.Open()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := db.Transact(ctx, func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 1); return nil })
		if !errors.Is(err, backend.ErrCommitUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if n := counterAt(t, db, backend.NewKey("n")); n != 1 {
			t.Fatalf("counted %d", n)
		}
	})
}

// A transaction of the dead process that was still running ends as well, and is not committed.
func TestCrashEndsWhatRunsOnTheHandle(t *testing.T) {
	f := &Fault{kind: CrashAfter, number: 1, open: Model(t)}
	db, key := f.Open(), backend.NewKey("n")
	err := db.Transact(f.Context(), func(tx backend.Tx) error {
		tx.Add(key, 1)
		if err := db.Transact(f.Context(), func(tx backend.Tx) error { tx.Add(key, 10); return nil }); err == nil {
			return errors.New("the crash was not noticed")
		}
		return nil
	})
	if !errors.Is(err, backend.ErrClosed) {
		t.Errorf("the outer transaction: %v", err)
	}
	if n := counterAt(t, f.Open(), key); n != 10 {
		t.Errorf("counted %d", n)
	}
}

// endsAfter is a database that calls end when a commit has happened, before the caller knows.
type endsAfter struct {
	backend.Database
	end func()
}

func (d endsAfter) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	defer d.end()
	return d.Database.Transact(ctx, fn)
}

// A commit that was under way when its process died may have happened, but the process never learns of it.
func TestADeadProcessIsToldOfNoCommit(t *testing.T) {
	f := &Fault{open: Model(t)}
	db := f.Open().(*faulty)
	db.inner = endsAfter{db.inner, db.die}
	err := db.Transact(t.Context(), func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 1); return nil })
	if !errors.Is(err, backend.ErrClosed) || !errors.Is(err, backend.ErrCommitUnknown) {
		t.Errorf("the process was told %v", err)
	}
	if n := counterAt(t, f.Open(), backend.NewKey("n")); n != 1 {
		t.Errorf("counted %d", n)
	}
}

// The enumeration is complete: a scenario of three commits meets each kind at each of them, and nothing else counts.
func TestEachFaultTriesEveryKindAtEveryCommit(t *testing.T) {
	var tried []string
	EachFault(t, func(t *testing.T, f *Fault) {
		db, key := f.Open(), backend.NewKey("n")
		for range 3 {
			db.Transact(f.Context(), func(tx backend.Tx) error { return nil })
			if err := db.Transact(f.Context(), func(tx backend.Tx) error { tx.Add(key, 1); return nil }); err != nil {
				db = f.Open()
			}
		}
		if f.Reached() {
			tried = append(tried, f.String())
		}
	})
	var want []string
	for _, kind := range []string{
		"retry", "lost-outcome", "unknown-but-committed", "unknown-and-rolled-back", "crash-before", "crash-after",
	} {
		for n := 1; n <= 3; n++ {
			want = append(want, kind+" at commit "+strconv.Itoa(n))
		}
	}
	if !slices.Equal(tried, want) {
		t.Fatalf("tried %q", tried)
	}
}

// A program that is wrong under a fault is found: increments that are sent again without a key count twice.
func TestEachFaultFindsTheDoubleIncrement(t *testing.T) {
	var doubled []string
	EachFault(t, func(t *testing.T, f *Fault) {
		db, key := f.Open(), backend.NewKey("n")
		increment := func() error {
			return db.Transact(f.Context(), func(tx backend.Tx) error { tx.Add(key, 1); return nil })
		}
		if err := increment(); err != nil {
			db = f.Open()
			if err := increment(); err != nil {
				t.Fatal(err)
			}
		}
		if counterAt(t, db, key) != 1 {
			doubled = append(doubled, f.String())
		}
	})
	if want := []string{"unknown-but-committed at commit 1", "crash-after at commit 1"}; !slices.Equal(doubled, want) {
		t.Fatalf("doubled by %q", doubled)
	}
}

// The scenario may run in a bubble, where waiting costs no time.
func TestEachFaultInABubble(t *testing.T) {
	EachFault(t, func(t *testing.T, f *Fault) {
		synctest.Test(t, func(t *testing.T) {
			incrementOnce(t, f)
			<-time.After(time.Hour)
		})
	})
}

func TestChaosLosesAndDoublesNothing(t *testing.T) {
	const increments, senders = 300, 4
	open := Chaos(Model, 0.3)(t)
	key, failed := backend.NewKey("n"), make(chan error, senders)
	for sender := range senders {
		go func() { failed <- incrementsByKey(t.Context(), open, key, backend.NewKey("done", sender), increments) }()
	}
	for range senders {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	if n := counterAt(t, open(), key); n != senders*increments {
		t.Fatalf("counted %d of %d", n, senders*increments)
	}
}

func TestChaosComesWithItsProbability(t *testing.T) {
	add := func(tx backend.Tx) error { tx.Add(backend.NewKey("n"), 1); return nil }
	for p, unknown := range map[float64]int{0: 0, 1: 20} {
		db, met := Chaos(Model, p, UnknownRolledBack)(t)(), 0
		for range 20 {
			if err := db.Transact(t.Context(), add); errors.Is(err, backend.ErrCommitUnknown) {
				met++
			}
		}
		if met != unknown {
			t.Errorf("with probability %v, %d of 20 commits met the fault", p, met)
		}
	}
}

// incrementsByKey increments n times, each time until it is known to have happened, as a process that is restarted.
func incrementsByKey(ctx context.Context, open func() backend.Database, counter, done backend.Key, n int) error {
	db := open()
	for i := range n {
		for {
			err := db.Transact(ctx, func(tx backend.Tx) error {
				seen, err := tx.Get(done.With(i)).Get()
				if seen == nil && err == nil {
					tx.Set(done.With(i), nil)
					tx.Add(counter, 1)
				}
				return err
			})
			if err == nil {
				break
			}
			if errors.Is(err, backend.ErrClosed) {
				db = open()
			} else if !errors.Is(err, backend.ErrCommitUnknown) {
				return err
			}
		}
	}
	return nil
}

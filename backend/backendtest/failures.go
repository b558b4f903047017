package backendtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
)

var errRefused = errors.New("the test's function refuses")

func failures() []check {
	return []check{
		{"AnErrorOfFnRollsBackAndComesBackAsItIs", errorRollsBack},
		{"AnErrorOfAReadComesBackAsItIs", errorOfRead},
		{"AnErrorOfFnEndsALosingTransaction", errorEndsLosingTransaction},
		{"AnErrorOfAReadFailsTheTransaction", readErrorSticks},
		{"ANewRunBeginsClean", newRunBeginsClean},
		{"APanicRollsBackAndPassesOn", panicRollsBack},
	}
}

func errorRollsBack(x *trial) {
	runs := 0
	err := x.db.Transact(x.Context(), func(tx backend.Tx) error {
		runs++
		tx.Set(key("a"), nil)
		tx.Append(key("q"), nil)
		tx.Add(key("n"), 1)
		tx.Stamp(key("s"))
		return errRefused
	})
	if err != errRefused || runs != 1 {
		x.Errorf("after %d runs: %v", runs, err)
	}
	x.expect("what was written", x.everything(x.other), "")
}

func errorOfRead(x *trial) {
	if err := x.db.Read(x.Context(), func(backend.ReadTx) error { return errRefused }); err != errRefused {
		x.Error(err)
	}
}

// What fn refuses after reading what another changed meanwhile was read from one snapshot, so it is final.
func errorEndsLosingTransaction(x *trial) {
	x.set(x.db, "a", "1")
	runs := 0
	err := transact(x.Context(), x.db, func(s *script) {
		runs++
		s.set("b", s.get("a"))
		x.set(x.other, "a", fmt.Sprint(runs))
		s.keep(errRefused)
	})
	if err != errRefused || runs != 1 {
		x.Errorf("after %d runs: %v", runs, err)
	}
}

// A function that overlooks a failed read commits nothing.
func readErrorSticks(x *trial) {
	ctx, cancel := context.WithCancel(x.Context())
	defer cancel()
	err := x.db.Transact(ctx, func(tx backend.Tx) error {
		tx.Set(key("a"), nil)
		cancel()
		if _, err := tx.Get(key("b")).Get(); !errors.Is(err, context.Canceled) {
			x.Errorf("a read after the context's end: %v", err)
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		x.Error(err)
	}
	x.expect("what was written", x.everything(x.other), "")
	ctx, cancel = context.WithCancel(x.Context())
	defer cancel()
	err = x.db.Read(ctx, func(tx backend.ReadTx) error {
		cancel()
		tx.GetRange(wholeStore(), backend.RangeOptions{}).Get()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		x.Errorf("a Read whose read failed: %v", err)
	}
}

// Of a run that lost its race nothing is left: no write, no conflict, no impossible write.
func newRunBeginsClean(x *trial) {
	runs := 0
	x.set(x.db, "a", "1")
	var first, last backend.Future[backend.Versionstamp]
	x.transact(x.db, func(s *script) {
		if runs++; runs > 1 {
			x.set(x.other, "a", "3") // of interest to the first run alone
			s.tx.Append(key("q"), []byte("last"))
			last = s.tx.Version()
			return
		}
		s.get("a")
		s.set("first", "x")
		s.tx.Append(key("q"), []byte("first"))
		s.tx.Add(key("n"), 1)
		s.tx.Stamp(key("s"))
		x.set(x.other, "a", "2")
		first = s.tx.Version()
	})
	if runs != 2 {
		x.Errorf("ran %d times", runs)
	}
	x.expect("what was written", x.everything(x.other), "a=3 q/#=last")
	if v, err := first.Get(); err == nil {
		x.Errorf("the run that lost has version %v", v)
	}
	version, err := last.Get()
	if err != nil {
		x.Fatal(err)
	}
	x.read(x.db, func(r *reader) {
		value, err := r.Get(key("q").Stamp(version)).Get()
		r.keep(err)
		x.expect("append number 0 of the last run", string(value), "last")
	})
}

// The database goes on after a panic, and can be closed.
func panicRollsBack(x *trial) {
	passedOn := func(call func()) (what any) {
		defer func() { what = recover() }()
		call()
		return nil
	}
	x.set(x.db, "a", "1")
	what := passedOn(func() {
		x.db.Transact(x.Context(), func(tx backend.Tx) error {
			tx.Set(key("a"), []byte("2"))
			tx.Get(key("b")).Get()
			panic("in a transaction")
		})
	})
	x.expect("the panic", fmt.Sprint(what), "in a transaction")
	what = passedOn(func() {
		x.db.Read(x.Context(), func(tx backend.ReadTx) error {
			tx.Get(key("b")).Get()
			panic("in a read")
		})
	})
	x.expect("the panic", fmt.Sprint(what), "in a read")
	x.expect("what was written", x.everything(x.db), "a=1")
	x.set(x.db, "a", "3")
	closeAll(x, x.db)
	x.expect("what was written", x.everything(x.other), "a=3")
}

//go:build fdb

package fdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// fail injects an answer: once, for the next commit, what answer makes of it.
func (db *DB) fail(answer func(tr fdb.Transaction) error) {
	var once sync.Once
	db.send = func(tr fdb.Transaction) (err error) {
		err = errors.New("not failed")
		once.Do(func() { err = answer(tr) })
		if err != nil && err.Error() == "not failed" {
			return commit(tr)
		}
		return err
	}
}

// increment adds 1 to key n and appends to q, after reading if it is told to. It returns how often it ran, and the version.
func increment(ctx context.Context, db *DB, isBlind bool) (runs int, version backend.Versionstamp, err error) {
	var v backend.Future[backend.Versionstamp]
	err = db.Transact(ctx, func(tx backend.Tx) (err error) {
		runs++
		if !isBlind {
			_, err = tx.Get(backend.NewKey("other")).Get()
		}
		tx.Add(backend.NewKey("n"), 1)
		tx.Append(backend.NewKey("q"), nil)
		v = tx.Version()
		return err
	})
	if err == nil {
		version, err = v.Get()
	}
	return runs, version, err
}

// counted is the counter, and the stamp of the last item.
func counted(t testing.TB, db *DB) (n int64, last backend.Versionstamp) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		value := tx.Get(backend.NewKey("n"))
		items, err := tx.GetRange(backend.NewKey("q").Below(), backend.RangeOptions{Limit: 1, Reverse: true}).Get()
		if err != nil {
			return err
		}
		if len(items) == 1 {
			last, _ = items[0].Key.CutStamp(backend.NewKey("q"))
		}
		b, err := value.Get()
		if err != nil {
			return err
		}
		n, err = backend.Counter(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, last
}

// codes that say nothing about the commit's outcome. 1100, 1510 and 4100 stand for all that nobody expects.
var unknownCodes = []int{codeCommitUnknown, codeClusterChanged, codeTimedOut, codeCancelled, codeOperationAborted}

func TestALostAnswerIsLookedUp(t *testing.T) {
	for _, code := range append([]int{1100, 1510, 4100}, unknownCodes...) {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			db := openFresh(t)
			db.fail(func(tr fdb.Transaction) error {
				if err := commit(tr); err != nil {
					t.Error(err)
				}
				return fdb.Error{Code: code}
			})
			runs, version, err := increment(t.Context(), db, false)
			if n, last := counted(t, db); err != nil || runs != 1 || n != 1 || version != last {
				t.Errorf("ran %d times, counted %d, version %v of %v: %v", runs, n, version, last, err)
			}
			if s := db.Stats(); s.Unknown != 1 || s.Landed != 1 || s.Commits != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// The attempt comes late: its commit is sent when it was looked up already, with a read version that it has in hand.
func TestAnAttemptThatComesLateIsFencedOff(t *testing.T) {
	for _, isBlind := range []bool{false, true} {
		for _, code := range unknownCodes {
			t.Run(fmt.Sprint(code, " blind ", isBlind), func(t *testing.T) {
				t.Parallel()
				db := openFresh(t)
				var late fdb.Transaction
				db.fail(func(tr fdb.Transaction) error {
					late = tr
					return fdb.Error{Code: code}
				})
				runs, version, err := increment(t.Context(), db, isBlind)
				if err != nil || runs != 2 {
					t.Fatalf("ran %d times: %v", runs, err)
				}
				if err := commit(late); codeOf(err) != codeNotCommitted {
					t.Errorf("the attempt that was fenced off, when it came: %v", err)
				}
				if n, last := counted(t, db); n != 1 || version != last {
					t.Errorf("counted %d, version %v of %v", n, version, last)
				}
				if s := db.Stats(); s.Unknown != 1 || s.Fenced != 1 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// An attempt that recalls has no conflict but what it relies on: that is its fence.
func TestAnAttemptThatRecalledAndComesLateIsFencedOff(t *testing.T) {
	for _, code := range unknownCodes {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			db := openFresh(t)
			_, before, err := increment(t.Context(), db, false)
			if err != nil {
				t.Fatal(err)
			}
			var late fdb.Transaction
			db.fail(func(tr fdb.Transaction) error {
				late = tr
				return fdb.Error{Code: code}
			})
			recalled := 0
			err = db.Transact(t.Context(), func(tx backend.Tx) (err error) {
				if tx.(backend.Recaller).Recall(before, before, backend.NewKey("known").Below()) {
					recalled++
				} else {
					_, err = tx.Get(backend.NewKey("known")).Get()
				}
				tx.Add(backend.NewKey("n"), 1)
				return err
			})
			if err != nil || recalled != 1 || late == (fdb.Transaction{}) {
				t.Fatalf("recalled %d times: %v", recalled, err)
			}
			if err := commit(late); codeOf(err) != codeNotCommitted {
				t.Errorf("the attempt that was fenced off, when it came: %v", err)
			}
			if n, _ := counted(t, db); n != 2 || db.Stats().Fenced != 1 {
				t.Errorf("counted %d, %+v", n, db.Stats())
			}
		})
	}
}

// What an attempt has written itself it reads without the cluster: that gives it no read version in hand.
func TestAnAttemptThatReadsOnlyItsOwnWritesIsFencedOff(t *testing.T) {
	db := openFresh(t)
	var late fdb.Transaction
	db.fail(func(tr fdb.Transaction) error {
		late = tr
		return fdb.Error{Code: codeTimedOut}
	})
	runs := 0
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		runs++
		own := backend.NewKey("own")
		tx.Set(own, []byte("x"))
		tx.Add(backend.NewKey("n"), 1)
		_, err := tx.Get(own).Get()
		return err
	})
	if err != nil || runs != 2 {
		t.Fatalf("ran %d times: %v", runs, err)
	}
	if err := commit(late); codeOf(err) != codeNotCommitted {
		t.Errorf("the attempt that was fenced off, when it came: %v", err)
	}
	if n, _ := counted(t, db); n != 1 {
		t.Errorf("counted %d", n)
	}
}

// The attempt may come at any moment of its resolution, which may itself lose its answers.
func TestAnAttemptMayComeAtAnyMomentOfItsResolution(t *testing.T) {
	db := openFresh(t)
	var mu sync.Mutex
	faults := rand.New(rand.NewPCG(1, 2))
	chance := func(n int) int { mu.Lock(); defer mu.Unlock(); return faults.IntN(n) }
	var on, late sync.WaitGroup
	answer := func(tr fdb.Transaction) error {
		switch chance(3) {
		case 0:
			return commit(tr)
		case 1:
			commit(tr)
		default:
			late.Go(func() {
				idle(t.Context(), time.Duration(chance(4000))*time.Microsecond)
				commit(tr)
			})
		}
		return fdb.Error{Code: unknownCodes[chance(len(unknownCodes))]}
	}
	db.send = answer
	db.note = answer
	const workers, each = 8, 40
	for range workers {
		on.Go(func() {
			for range each {
				if _, _, err := increment(t.Context(), db, chance(2) == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	on.Wait()
	late.Wait()
	if n, _ := counted(t, db); n != workers*each {
		t.Errorf("counted %d of %d", n, workers*each)
	}
	s := db.Stats()
	t.Logf("%+v", s)
	if s.Landed < 10 || s.Fenced < 10 {
		t.Errorf("the faults were not met: %+v", s)
	}
}

// What nobody expects is resolved, and then returned: trying for ever would hide it.
func TestAnUnexpectedErrorIsReturnedWhenTheAttemptIsFencedOff(t *testing.T) {
	db := openFresh(t)
	var late fdb.Transaction
	db.fail(func(tr fdb.Transaction) error { late = tr; return fdb.Error{Code: 1510} })
	runs, _, err := increment(t.Context(), db, true)
	if codeOf(err) != 1510 || errors.Is(err, backend.ErrCommitUnknown) || runs != 1 {
		t.Errorf("after %d runs: %v", runs, err)
	}
	if err := commit(late); codeOf(err) != codeNotCommitted {
		t.Error(err)
	}
}

func TestWhatIsKnownNotToBeCommittedIsNotLookedUp(t *testing.T) {
	for _, code := range refusals {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			db := openFresh(t)
			db.fail(func(fdb.Transaction) error { return fdb.Error{Code: code} })
			runs, _, err := increment(t.Context(), db, false)
			n, _ := counted(t, db)
			if s := db.Stats(); err != nil || runs != 2 || n != 1 || s.Unknown != 0 || s.Conflicts != 1 {
				t.Errorf("ran %d times, counted %d, %+v: %v", runs, n, s, err)
			}
		})
	}
}

func TestWhatTheClientRefusesIsReturned(t *testing.T) {
	for code, want := range map[int]error{codeTooLarge: backend.ErrTooLarge, 2000: nil} {
		db := openFresh(t)
		db.fail(func(fdb.Transaction) error { return fdb.Error{Code: code} })
		runs, _, err := increment(t.Context(), db, false)
		if codeOf(err) != code || want != nil && !errors.Is(err, want) || runs != 1 || db.Stats().Unknown != 0 {
			t.Errorf("after %d runs: %v", runs, err)
		}
	}
}

// A process sleeps between its commit and the lookup, and others clear its session meanwhile.
func TestNobodyKnowsWhatTheClearedSessionOfASleeperCommitted(t *testing.T) {
	for _, isCommitted := range []bool{true, false} {
		sleeper := openFresh(t)
		if _, _, err := increment(t.Context(), sleeper, false); err != nil {
			t.Fatal(err)
		}
		sleeper.fail(func(tr fdb.Transaction) error {
			if isCommitted {
				commit(tr)
			}
			mark := sleeper.session.value.Load().mark
			var beat []byte
			sleeper.insist(t.Context(), func(tr fdb.Transaction) (err error) {
				beat, err = tr.Get(mark).Get()
				return err
			})
			sleeper.bury(mark, string(beat))
			return fdb.Error{Code: codeTimedOut}
		})
		runs, _, err := increment(t.Context(), sleeper, false)
		if !errors.Is(err, backend.ErrCommitUnknown) || runs != 1 {
			t.Errorf("after %d runs: %v", runs, err)
		}
		if n, _ := counted(t, sleeper); n > 2 || !isCommitted && n != 1 {
			t.Errorf("counted %d", n)
		}
		sleeper.beat(sleeper.session.value.Load()) // it finds that its session is gone
		if _, _, err := increment(t.Context(), sleeper, false); err != nil || sleeper.session.value.Load() == nil {
			t.Errorf("after the new session: %v", err)
		}
	}
}

// A commit that comes after its session was swept is found by its token.
func TestACommitAfterTheSweepOfItsSessionIsFound(t *testing.T) {
	db := openFresh(t)
	if _, _, err := increment(t.Context(), db, false); err != nil {
		t.Fatal(err)
	}
	db.bury(db.session.value.Load().mark, string(backend.CounterValue(1)))
	db.fail(func(tr fdb.Transaction) error {
		if err := commit(tr); err != nil {
			t.Error(err)
		}
		return fdb.Error{Code: codeTimedOut}
	})
	runs, version, err := increment(t.Context(), db, false)
	if n, last := counted(t, db); err != nil || runs != 1 || n != 2 || version != last {
		t.Errorf("ran %d times, counted %d, version %v of %v: %v", runs, n, version, last, err)
	}
}

// Once it is sent, nothing cancels a commit: its caller is told that the outcome is unknown, and the slot is free when
// it is known.
func TestACommitOutlivesItsCaller(t *testing.T) {
	db := openFresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	result, told := make(chan error, 1), make(chan struct{})
	db.fail(func(tr fdb.Transaction) error {
		cancel()
		<-told
		result <- commit(tr)
		return fdb.Error{Code: codeCommitUnknown}
	})
	_, _, err := increment(ctx, db, false)
	if !errors.Is(err, backend.ErrCommitUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left was told %v", err)
	}
	close(told)
	if err := <-result; err != nil {
		t.Errorf("the commit of a caller that left: %v", err)
	}
	waitUntil(t, "the slot is free again", func() bool {
		s := db.session.value.Load()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.free) == int(s.slots)
	})
	if n, _ := counted(t, db); n != 1 || db.Stats().Landed != 1 {
		t.Errorf("counted %d, %+v", n, db.Stats())
	}
}

// The callers of what is under way are told that they cannot know, and Close does not wait for a cluster for ever.
func TestCloseDoesNotWaitForAnAnswerForEver(t *testing.T) {
	db := openFresh(t)
	sent, never := make(chan struct{}), make(chan struct{})
	defer close(never)
	db.send = func(fdb.Transaction) error { close(sent); <-never; return fdb.Error{Code: codeCommitUnknown} }
	told := make(chan error, 1)
	go func() { _, _, err := increment(t.Context(), db, false); told <- err }()
	<-sent
	began := time.Now()
	db.Close()
	if took := time.Since(began); took > 5*closePatience {
		t.Errorf("Close took %v", took)
	}
	if err := <-told; !errors.Is(err, backend.ErrCommitUnknown) || !errors.Is(err, backend.ErrClosed) {
		t.Error(err)
	}
}

// A commit whose answer is lost while the database is closed cannot be looked up any more.
func TestCloseLeavesALostAnswerUnknown(t *testing.T) {
	db := openFresh(t)
	sent := make(chan struct{})
	db.send = func(tr fdb.Transaction) error {
		err := commit(tr)
		close(sent)
		<-db.life.Done()
		if err == nil {
			err = fdb.Error{Code: codeCommitUnknown}
		}
		return err
	}
	told := make(chan error, 1)
	go func() { _, _, err := increment(t.Context(), db, false); told <- err }()
	<-sent
	db.Close()
	if err := <-told; !errors.Is(err, backend.ErrCommitUnknown) {
		t.Error(err)
	}
}

func TestNoCommitBeginsAfterClose(t *testing.T) {
	db := openFresh(t)
	if _, _, err := increment(t.Context(), db, false); err != nil {
		t.Fatal(err)
	}
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Add(backend.NewKey("n"), 1)
		db.commits.close() // as Close does
		return nil
	})
	if n, _ := counted(t, db); !errors.Is(err, backend.ErrClosed) || n != 1 {
		t.Errorf("counted %d: %v", n, err)
	}
}

// waitUntil waits for a condition.
func waitUntil(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		idle(t.Context(), time.Millisecond)
	}
}

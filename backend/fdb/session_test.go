//go:build fdb

package fdb

import (
	"testing"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
)

// books is what is stored beside the application's keys.
func books(t testing.TB, db *DB) (marks, tokens int) {
	t.Helper()
	err := db.insist(t.Context(), func(tr fdb.Transaction) error {
		s := db.space.value.Load()
		m, err := tr.GetRange(s.marks(), fdb.RangeOptions{}).GetSliceWithError()
		if err != nil {
			return err
		}
		k, err := tr.GetRange(keyRange(s.books.With("t").Below()), fdb.RangeOptions{}).GetSliceWithError()
		marks, tokens = len(m), len(k)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return marks, tokens
}

func TestTokensAreOverwrittenAndGoWithTheirHandle(t *testing.T) {
	needCluster(t)
	dir := freshDirectory(t, "")
	db, other := openTest(t, "", Dir(dir...)), openTest(t, "", Dir(dir...))
	for range 30 {
		if _, _, err := increment(t.Context(), db, false); err != nil {
			t.Fatal(err)
		}
	}
	counted(t, other) // a reader has no session
	if marks, tokens := books(t, db); marks != 1 || tokens != 1 {
		t.Errorf("%d marks and %d tokens of one sender", marks, tokens)
	}
	db.Close()
	if marks, tokens := books(t, other); marks != 0 || tokens != 0 {
		t.Errorf("%d marks and %d tokens after Close", marks, tokens)
	}
}

// briskly makes sessions beat and die within a test.
func briskly(o *options) {
	o.sessionBeat, o.sessionDead = 40*time.Millisecond, 600*time.Millisecond
}

func TestADeadSessionIsSweptAndALivingOneIsNot(t *testing.T) {
	needCluster(t)
	dir := freshDirectory(t, "")
	dead := openTest(t, "", Dir(dir...)) // beats once a minute: dead by the measure of the others
	living, sweeper := openTest(t, "", Dir(dir...), briskly), openTest(t, "", Dir(dir...), briskly)
	for _, db := range []*DB{dead, living, sweeper} {
		if _, _, err := increment(t.Context(), db, false); err != nil {
			t.Fatal(err)
		}
	}
	if marks, tokens := books(t, living); marks != 3 || tokens != 3 {
		t.Fatalf("%d marks and %d tokens", marks, tokens)
	}
	waitUntil(t, "the dead session goes", func() bool {
		marks, tokens := books(t, living)
		return marks == 2 && tokens == 2
	})
	began := living.session.value.Load()
	idle(t.Context(), 2*time.Second) // more than three times what makes a session dead
	if marks, _ := books(t, living); marks != 2 || living.session.value.Load() != began {
		t.Errorf("%d marks are left of 2", marks)
	}
	for _, want := range []int{3, 2, 3} { // without its mark, without a session, in a new one
		if want == 2 {
			dead.beat(dead.session.value.Load())
		} else if _, _, err := increment(t.Context(), dead, false); err != nil {
			t.Errorf("whose session was swept: %v", err)
		}
		if _, tokens := books(t, living); tokens != want {
			t.Errorf("%d tokens of %d", tokens, want)
		}
	}
	if marks, _ := books(t, living); marks != 3 {
		t.Errorf("%d marks of 3: the new session has none", marks)
	}
	if n, _ := counted(t, living); n != 5 {
		t.Errorf("counted %d of 5", n)
	}
}

// A session is cleared only as it was seen for too long: not when it has beaten since, nor when it was the sweeper that
// stood still.
func TestASessionIsNotSweptByMistake(t *testing.T) {
	db := openFresh(t)
	if _, _, err := increment(t.Context(), db, false); err != nil {
		t.Fatal(err)
	}
	other := openTest(t, "", Dir(db.options.path...)) // both beat once a minute
	if _, _, err := increment(t.Context(), other, false); err != nil {
		t.Fatal(err)
	}
	mark := db.session.value.Load().mark
	other.bury(mark, "what it was before")
	now, beat := time.Now(), ""
	err := other.insist(t.Context(), func(tr fdb.Transaction) error {
		value, err := tr.Get(mark).Get()
		beat = string(value)
		return err
	})
	if err != nil || beat == "" {
		t.Fatalf("its mark is %q: %v", beat, err)
	}
	long := now.Add(-time.Hour)
	sleeper := sweep{db: other, seen: map[string]sighting{string(mark): {beat, long}}, looked: long}
	sleeper.look()
	if marks, tokens := books(t, other); marks != 2 || tokens != 2 {
		t.Errorf("%d marks and %d tokens of 2", marks, tokens)
	}
}

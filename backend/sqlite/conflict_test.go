package sqlite

import (
	"fmt"
	"runtime"
	"testing"
	"weak"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// runsWhile commits a transaction that reads "a", lets meanwhile happen, and writes; it returns how often it ran.
func runsWhile(t *testing.T, db *DB, meanwhile func()) (runs int) {
	t.Helper()
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		value, err := tx.Get(backend.NewKey("a")).Get()
		if runs++; runs == 1 && err == nil {
			meanwhile()
		}
		tx.Set(backend.NewKey("copy"), value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if copied, a := getKey(t, db, "copy"), getKey(t, db, "a"); copied != a {
		t.Errorf("committed %q though it was %q then", copied, a)
	}
	return runs
}

// The record of an own group tells nothing of the foreign commit before it.
func TestForeignCommitBeforeAnOwnOneIsAConflict(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	mustSet(t, db, "a", "1")
	runs := runsWhile(t, db, func() {
		mustSet(t, other, "a", "2")
		mustSet(t, db, "b", "1")
		mustSet(t, db, "c", "1")
	})
	if runs != 2 {
		t.Errorf("it ran %d times; want 2", runs)
	}
}

// A handle that has not committed yet cannot know whose the sequence row is.
func TestForeignCommitBeforeTheFirstOwnOneIsAConflict(t *testing.T) {
	other := openTest(t)
	mustSet(t, other, "a", "1")
	db := openAt(t, other.path)
	if runs := runsWhile(t, db, func() { mustSet(t, other, "a", "2") }); runs != 2 {
		t.Errorf("it ran %d times; want 2", runs)
	}
}

func TestForeignCommitOfOtherKeysIsNoConflict(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	mustSet(t, db, "a", "1")
	for range 3 {
		if runs := runsWhile(t, db, func() { mustSet(t, other, "b", "2") }); runs != 1 {
			t.Errorf("it ran %d times; want 1", runs)
		}
	}
}

// Earlier members of a group are in the way like commits before it.
func TestMembersOfOneGroupConflict(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "before", "1")
	const members = 10
	db.writer.turn.Lock()
	outcomes := make(chan error, members)
	for range members {
		go func() { outcomes <- countUp(t.Context(), db, backend.NewKey("n")) }()
	}
	awaitQueue(t, db, members)
	db.writer.turn.Unlock()
	for range members {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	if n, _ := backend.Counter([]byte(getKey(t, db, "n"))); n != members {
		t.Errorf("%d of %d increments", n, members)
	}
}

// What no transaction can reach any more is garbage; what one has to look through is not.
func TestRecordsGoWhenTheOldestSnapshotEnds(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "a", "1")
	var held weak.Pointer[occ.Record]
	runs := runsWhile(t, db, func() {
		mustSet(t, db, "b", "1")
		held = weak.Make(db.log.Newest())
		for i := range 10 {
			mustSet(t, db, fmt.Sprint(i), "1")
		}
		runtime.GC()
		if held.Value() == nil {
			t.Error("a record is gone that a running transaction needs")
		}
	})
	if runs != 1 {
		t.Errorf("it ran %d times", runs)
	}
	mustSet(t, db, "c", "1")
	await(t, "an old record to be collected", func() bool {
		runtime.GC()
		return held.Value() == nil
	})
}

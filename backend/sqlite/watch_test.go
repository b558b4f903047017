package sqlite

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

func TestOwnCommitFiresBeforeItReturns(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "a", "1")
	for i := range 20 {
		watch, other := watchKey(t, db, "a"), watchKey(t, db, "b")
		mustSet(t, db, "a", strconv.Itoa(i))
		select {
		case <-watch.Done():
		default:
			t.Fatal("the commit has returned and the watch has not fired")
		}
		select {
		case <-other.Done():
			t.Error("a watch fired without reason")
		default:
		}
		other.Cancel()
	}
}

// Commits of the other handle move data_version as well as our own do. Whoever made them, none is missed.
func TestForeignCommitsFireAmongOwnOnes(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	for i := range 50 {
		watch := watchKey(t, db, "a")
		mustSet(t, db, "b", strconv.Itoa(i))
		mustSet(t, other, "a", strconv.Itoa(i))
		mustSet(t, db, "b", "again")
		awaitWatch(t, watch)
	}
}

// What another process commits between a snapshot and the setting of its watch fires it.
func TestForeignCommitBeforeTheWatchIsSetFires(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	keep := watchKey(t, db, "keep") // so that the poll is running
	defer keep.Cancel()
	for i := range 20 {
		var watch backend.Watch
		err := db.Read(t.Context(), func(tx backend.ReadTx) error {
			watch = tx.Watch(backend.NewKey("a"))
			mustSet(t, other, "a", strconv.Itoa(i))
			if i%2 == 0 { // the poll has seen it already
				probe := watchKey(t, db, "probe")
				mustSet(t, other, "probe", strconv.Itoa(i))
				awaitWatch(t, probe)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		awaitWatch(t, watch)
	}
}

func TestOwnCommitBeforeTheWatchIsSetFires(t *testing.T) {
	db := openTest(t)
	var watch backend.Watch
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		watch = tx.Watch(backend.NewKey("a"))
		return setKey(db, "a", "1")
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch.Done():
	default:
		t.Error("it has not fired")
	}
}

// Watches that fired or were cancelled are forgotten, and so are those of a Read that failed.
func TestNoWatchIsKeptInVain(t *testing.T) {
	db := openTest(t)
	for i := range 10 {
		key := fmt.Sprint(i)
		fired, cancelled := watchKey(t, db, key), watchKey(t, db, key)
		cancelled.Cancel()
		cancelled.Cancel()
		mustSet(t, db, key, "1")
		awaitWatch(t, fired)
		fired.Cancel()
		select {
		case <-cancelled.Done():
			t.Error("a cancelled watch fired")
		default:
		}
	}
	failed := errors.New("no")
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		tx.Watch(backend.NewKey("a"))
		return failed
	})
	if !errors.Is(err, failed) {
		t.Error(err)
	}
	if n, keys := db.watches.Count(); n != 0 || keys != 0 {
		t.Errorf("%d watches on %d keys are kept", n, keys)
	}
}

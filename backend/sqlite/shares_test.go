package sqlite

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// patient makes a handle leave the lock to others until one of them commits, however long that takes.
func patient(db *DB) {
	db.writer.shares.mu.Lock()
	defer db.writer.shares.mu.Unlock()
	db.writer.shares.pause = time.Hour
}

// Who has committed waits for the other process before it reads, so that what that commits is no conflict.
func TestTransactionsBeginWhenOthersHadTheLock(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	defer watchKey(t, db, "keep").Cancel() // so that somebody looks for the others' commits
	mustSet(t, other, "theirs", "")
	mustSet(t, db, "ours", "")
	patient(db)
	ctx, cancel := context.WithTimeout(t.Context(), patience) // less than the pause
	defer cancel()
	for i := range 20 {
		begun, seen := make(chan struct{}), make(chan string, 10)
		done := make(chan error, 1)
		go func() {
			db.log.SawForeign()
			close(begun)
			done <- db.Transact(ctx, func(tx backend.Tx) error {
				value, err := tx.Get(backend.NewKey("theirs")).Get()
				tx.Set(backend.NewKey("ours"), value)
				seen <- string(value)
				return err
			})
		}()
		<-begun
		<-time.After(time.Millisecond) // in which it would run, did it not wait
		mustSet(t, other, "theirs", strconv.Itoa(i))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if first := <-seen; first != strconv.Itoa(i) || len(seen) > 0 {
			t.Fatalf("it saw %q, and ran %d times; want %d, once", first, 1+len(seen), i)
		}
	}
}

// A group that is ready finds out itself that another process has committed since the last one, as where nobody looks.
func TestGroupsFindThatOthersHadTheLock(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	db.hears.Store(true) // so that no commit asks for a look
	mustSet(t, db, "ours", "")
	mustSet(t, other, "theirs", "")
	ctx, cancel := context.WithTimeout(t.Context(), patience) // less than the pause
	defer cancel()
	err := db.Transact(ctx, func(tx backend.Tx) error {
		mustSet(t, db, "ours", "1")
		mustSet(t, other, "theirs", "1")
		db.log.SawForeign()
		patient(db)
		tx.Set(backend.NewKey("late"), nil)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

package sqlite

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	lib "modernc.org/sqlite/lib"

	"github.com/dserver-go/dserver/backend"
)

func setKey(db *DB, key string, value string) error {
	return db.Transact(context.Background(), func(tx backend.Tx) error {
		tx.Set(backend.NewKey(key), []byte(value))
		return nil
	})
}

func getKey(t testing.TB, db *DB, key string) string {
	t.Helper()
	var value []byte
	err := db.Read(context.Background(), func(tx backend.ReadTx) (err error) {
		value, err = tx.Get(backend.NewKey(key)).Get()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

func mustSet(t testing.TB, db *DB, key, value string) {
	t.Helper()
	if err := setKey(db, key, value); err != nil {
		t.Fatal(err)
	}
}

// The log was written and its fsync failed: whether the commit comes true is up to what the disk did.
func TestFailedFsyncEndsTheHandle(t *testing.T) {
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	watch := watchKey(t, db, "never")
	disk.syncs.Store(lib.SQLITE_IOERR_FSYNC)
	err := setKey(db, "during", "1")
	if !errors.Is(err, backend.ErrCommitUnknown) || !strings.Contains(err.Error(), "disk I/O error") {
		t.Errorf("the commit: %v; want ErrCommitUnknown with the cause", err)
	}
	disk.syncs.Store(0) // what was lost once is lost, though the next fsync reports success
	for what, err := range map[string]error{
		"a commit": setKey(db, "after", "1"),
		"a read":   db.Read(t.Context(), func(backend.ReadTx) error { return nil }),
	} {
		if !errors.Is(err, backend.ErrClosed) || !strings.Contains(err.Error(), "disk I/O error") {
			t.Errorf("%s afterwards: %v; want ErrClosed with the cause", what, err)
		}
	}
	awaitWatch(t, watch)
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	again := disk.again(t)
	if getKey(t, again, "before") != "1" || getKey(t, again, "after") != "" {
		t.Error("what was acknowledged is gone, or what was refused is there")
	}
	mustSet(t, again, "again", "1")
}

// Each member of the group whose fsync failed is told that its outcome is unknown.
func TestFailedFsyncIsToldToTheWholeGroup(t *testing.T) {
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	disk.syncs.Store(lib.SQLITE_IOERR_FSYNC)
	db.writer.turn.Lock() // so that they become a group
	const members = 8
	outcomes := make(chan error, members)
	for range members {
		go func() { outcomes <- setKey(db, "during", "1") }()
	}
	awaitQueue(t, db, members)
	db.writer.turn.Unlock()
	for range members {
		if err := <-outcomes; !errors.Is(err, backend.ErrCommitUnknown) {
			t.Errorf("%v; want ErrCommitUnknown", err)
		}
	}
}

func TestFullDiskFailsTheGroupAndNothingElse(t *testing.T) {
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	disk.write.Store(lib.SQLITE_FULL)
	for range 3 {
		err := setKey(db, "during", "1")
		if err == nil || errors.Is(err, backend.ErrCommitUnknown) || !strings.Contains(err.Error(), "disk is full") {
			t.Fatalf("%v; want an error that says that the disk is full", err)
		}
		if getKey(t, db, "before") != "1" || getKey(t, db, "during") != "" {
			t.Fatal("a failed commit changed something")
		}
	}
	disk.write.Store(0)
	mustSet(t, db, "after", "1")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := disk.again(t)
	if getKey(t, again, "before") != "1" || getKey(t, again, "during") != "" || getKey(t, again, "after") != "1" {
		t.Error("what was stored is not what was acknowledged")
	}
}

// Numbers that a failed group took are given again; those of later commits must still be larger than earlier ones.
func TestVersionsGrowAcrossAFailedGroup(t *testing.T) {
	db, disk := openFaulty(t)
	version := func() (v backend.Versionstamp, err error) {
		var f backend.Future[backend.Versionstamp]
		err = db.Transact(t.Context(), func(tx backend.Tx) error {
			tx.Add(backend.NewKey("n"), 1)
			f = tx.Version()
			return nil
		})
		if err != nil {
			return v, err
		}
		return f.Get()
	}
	last, err := version()
	for i := range 6 {
		if err != nil {
			t.Fatal(err)
		}
		disk.write.Store(lib.SQLITE_FULL)
		if _, err := version(); err == nil {
			t.Fatal("a full disk was written to")
		}
		disk.write.Store(0)
		before := last
		if last, err = version(); last.Compare(before) <= 0 {
			t.Fatalf("version %d is %v after %v", i, last, before)
		}
	}
}

func TestReadErrorOfTheWriterEndsTheHandleWithNothingCommitted(t *testing.T) {
	db, disk := openFaulty(t)
	for i := range 2000 {
		mustSet(t, db, string(rune('a'+i%26))+strings.Repeat("x", 500+i), strings.Repeat("v", 2000))
		if i > 100 {
			break
		}
	}
	if _, err := db.checkpoints.alone("PASSIVE"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = disk.again(t)
	disk.reads.Store(lib.SQLITE_IOERR_READ)
	err := setKey(db, "during", "1")
	if !errors.Is(err, backend.ErrClosed) || errors.Is(err, backend.ErrCommitUnknown) {
		t.Errorf("%v; want ErrClosed, as nothing was committed", err)
	}
	db.Close()
	if again := disk.again(t); getKey(t, again, "during") != "" {
		t.Error("it was committed")
	}
}

// A reader that meets an error has that error, and the next one goes on.
func TestReadErrorIsTheReadersAlone(t *testing.T) {
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	disk.reads.Store(lib.SQLITE_IOERR_READ)
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		tx.Get(backend.NewKey("before")).Get() // its error fails the transaction, seen or not
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), db.path) {
		t.Errorf("%v; want an error that names the file", err)
	}
	disk.reads.Store(0)
	if getKey(t, db, "before") != "1" {
		t.Error("the next read found nothing")
	}
}

// What was acknowledged before a full disk, or is after it, is there in the end, whatever failed in between.
func TestAcknowledgedIsKeptWhileTheDiskIsFullNowAndThen(t *testing.T) {
	db, disk := openFaulty(t)
	const callers, each = 8, 40
	var acknowledged [callers]int64
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for i := range each {
				if caller == 0 && i%5 == 0 {
					disk.write.Store(lib.SQLITE_FULL * int32(i/5%2))
				}
				err := db.Transact(t.Context(), func(tx backend.Tx) error {
					tx.Add(backend.NewKey("n", caller), 1)
					return nil
				})
				if err == nil {
					acknowledged[caller]++
				} else if !strings.Contains(err.Error(), "disk is full") {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := disk.again(t)
	err := again.Read(t.Context(), func(tx backend.ReadTx) error {
		for caller, want := range acknowledged {
			value, err := tx.Get(backend.NewKey("n", caller)).Get()
			if err != nil {
				return err
			}
			if n, _ := backend.Counter(value); n != want {
				t.Errorf("caller %d: %d stored, %d acknowledged", caller, n, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A disk that does not answer holds Close up for a bounded time. What waited behind it is not committed, and the files
// are closed when it answers.
func TestCloseDoesNotWaitForADiskThatDoesNotAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it waits until Close gives up,", backend.MaxClose+lastWait)
	}
	t.Parallel()
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	gate, synced := make(chan struct{}), disk.synced.Load()
	disk.onSync.Store(&gate)
	outcomes := []chan error{make(chan error, 1), make(chan error, 1)}
	go func() { outcomes[0] <- setKey(db, "first", "1") }()
	await(t, "the fsync", func() bool { return disk.synced.Load() > synced })
	go func() { outcomes[1] <- setKey(db, "second", "1") }()
	awaitQueue(t, db, 1)
	err := db.Close()
	if !errors.Is(err, backend.ErrLeftBehind) || !strings.Contains(err.Error(), "disk does not answer") {
		t.Errorf("%v; want what is left, and that the disk does not answer", err)
	}
	disk.onSync.Store(nil)
	close(gate)
	if err := <-outcomes[0]; err != nil {
		t.Errorf("what the disk was at: %v", err)
	}
	if err := <-outcomes[1]; !errors.Is(err, backend.ErrClosed) {
		t.Errorf("what waited behind it: %v", err)
	}
	again := disk.again(t)
	if getKey(t, again, "first") != "1" || getKey(t, again, "second") != "" {
		t.Error("what is stored is not what was told")
	}
}

package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	lib "modernc.org/sqlite/lib"

	"github.com/dserver-go/dserver/backend"
)

func init() { children["read"] = childReads }

// childReads reads with several snapshots, of which there is one at any time.
func childReads(ctx context.Context, db *DB) error {
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				_ = db.Read(ctx, func(tx backend.ReadTx) error { // its error is ctx's
					_, err := tx.Get(backend.NewKey("a")).Get()
					fmt.Println("reads")
					wait, cancel := context.WithTimeout(ctx, time.Duration(20+5*i)*time.Millisecond)
					defer cancel()
					<-wait.Done()
					return err
				})
			}
		})
	}
	all.Wait()
	return nil
}

// small makes the bounds of the log small.
func small(t *testing.T, db *DB) {
	t.Helper()
	k := &db.checkpoints
	db.writer.turn.Lock()
	defer db.writer.turn.Unlock()
	k.duePages, k.maxBytes, k.longBytes, k.hardBytes = 20, 300*pageBytes, 1<<40, 1000*pageBytes
	k.patience = 20 * time.Millisecond
	if err := execute(db.writer.conn.conn, fmt.Sprintf("PRAGMA journal_size_limit = %d", k.maxBytes)); err != nil {
		t.Fatal(err)
	}
}

func logBytes(t *testing.T, db *DB) int64 {
	t.Helper()
	info, err := os.Stat(db.files.names[1])
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// fileBytes is how long the file is of a log of so many bytes of pages, with its head and those of the pages.
func fileBytes(log int64) int64 { return 32 + log/pageBytes*(24+pageBytes) }

// writePages commits so many pages, one by one.
func writePages(ctx context.Context, db *DB, pages int) error {
	for i := range pages {
		err := db.Transact(ctx, func(tx backend.Tx) error {
			tx.Set(backend.NewKey("page", i), bytes.Repeat([]byte{byte(i)}, pageBytes))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Another process that only reads, with snapshots that overlap without end, does not let the log grow without bound.
func TestLogIsBoundedBesideAProcessThatReads(t *testing.T) {
	path := filled(t)
	db := openAt(t, path)
	small(t, db)
	db.checkpoints.patience = patience // it is none of its commits that has to fail
	c := startChild(t, "read", path)
	c.line(t, "reads")
	if err := writePages(t.Context(), db, 600); err != nil {
		t.Fatal(err)
	}
	bound := db.checkpoints.hardBytes + 200*pageBytes
	if size := logBytes(t, db); size > bound {
		t.Errorf("the log has %d bytes, more than %d", size, bound)
	}
	c.line(t, "reads") // still
	c.end(t)
	await(t, "the log to be given back", func() bool { return logBytes(t, db) <= fileBytes(db.checkpoints.maxBytes) })
}

// Where the disk is full the log is given back as far as it can be, though no commit succeeds that would ask for it.
func TestFullDiskIsGivenTheLogBack(t *testing.T) {
	db, disk := openFaulty(t)
	if err := writePages(t.Context(), db, 200); err != nil {
		t.Fatal(err)
	}
	db.checkpoints.maxBytes = 50 * pageBytes
	disk.write.Store(lib.SQLITE_FULL)
	if err := setKey(db, "during", "1"); err == nil {
		t.Fatal("a full disk was written to")
	}
	await(t, "the log to be given back", func() bool { return logBytes(t, db) == 0 })
	disk.write.Store(0)
	mustSet(t, db, "after", "1")
}

// The last of a disk is left for the index of the log, without which a commit would end the handle.
func TestCommitLeavesRoomForTheIndex(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "before", "1")
	real := db.free
	db.writer.turn.Lock()
	db.free = func(string) int64 { return indexBytes }
	db.writer.plentyUntil = 0
	db.writer.turn.Unlock()
	err := setKey(db, "during", "1")
	if err == nil || errors.Is(err, backend.ErrCommitUnknown) || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("%v; want that the disk is full", err)
	}
	db.writer.turn.Lock()
	db.free = real
	db.writer.turn.Unlock()
	mustSet(t, db, "after", "1")
	if getKey(t, db, "before") != "1" || getKey(t, db, "during") != "" {
		t.Error("what is stored is not what was told")
	}
}

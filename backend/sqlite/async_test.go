package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// setAsync is setKey, whose commit may reach the disk with a later one.
func setAsync(db *DB, key, value string) error {
	return db.Transact(context.Background(), func(tx backend.Tx) error {
		backend.CommitAsync(tx)
		tx.Set(backend.NewKey(key), []byte(value))
		return nil
	})
}

// watchDisk makes the disk keep what was synced.
func (d *disk) watchDisk(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = map[string][]byte{}
	for _, end := range []string{"", "-wal"} {
		content, err := os.ReadFile(d.path + end)
		if err != nil {
			t.Fatal(err)
		}
		d.kept[end] = content
	}
}

// An asynchronous commit can be seen before it is on the disk, and gets there with the next that is not.
func TestAsyncCommitReachesTheDiskWithALaterOne(t *testing.T) {
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	disk.watchDisk(t)
	before := disk.synced.Load()
	if err := setAsync(db, "async", "1"); err != nil {
		t.Fatal(err)
	}
	if n := disk.synced.Load() - before; n != 0 {
		t.Errorf("it took %d fsyncs", n)
	}
	if got := getKey(t, db, "async"); got != "1" {
		t.Errorf("this handle sees %q", got)
	}
	if got := getKey(t, openAt(t, disk.path), "async"); got != "1" {
		t.Errorf("another handle sees %q", got)
	}
	if got := getKey(t, disk.cut(t), "async"); got != "" {
		t.Error("a power cut would leave it: this test shows nothing")
	}
	mustSet(t, db, "after", "1")
	if n := disk.synced.Load() - before; n != 1 {
		t.Errorf("both took %d fsyncs", n)
	}
	left := disk.cut(t)
	if got := getKey(t, left, "async") + getKey(t, left, "after"); got != "11" {
		t.Errorf("a power cut leaves %q", got)
	}
}

// Who is in a group with one that has to be on the disk is there as well; so is who comes when the lock is taken for a
// group of others, or is waited for.
func TestAGroupIsSyncedForOneOfIt(t *testing.T) {
	for name, add := range map[string]func(t *testing.T, db *DB, disk *disk, sync func()){
		"with the first": func(t *testing.T, db *DB, _ *disk, sync func()) {
			db.writer.turn.Lock()
			defer db.writer.turn.Unlock()
			sync()
			awaitQueue(t, db, 2)
		},
		"while the lock is waited for": func(t *testing.T, _ *DB, disk *disk, sync func()) {
			unlock := lockFile(t, disk.path)
			sync()
			unlock()
		},
		"when the lock is taken": func(_ *testing.T, _ *DB, disk *disk, sync func()) {
			disk.onLock.Store(&sync)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, disk := openFaulty(t)
			mustSet(t, db, "before", "1")
			disk.watchDisk(t)
			outcome := make(chan error, 2)
			hold := db.writer.Hold()
			go func() { outcome <- setAsync(db, "async", "1") }()
			awaitQueue(t, db, 1)
			add(t, db, disk, func() {
				go func() {
					err := setKey(db, "sync", "1")
					if got := getKey(t, disk.cut(t), "sync"); err == nil && got != "1" {
						t.Errorf("acknowledged, and a power cut leaves %q", got)
					}
					outcome <- err
				}()
				await(t, "the second", func() bool { return db.writer.Waiting() == 2 })
			})
			hold()
			for range 2 {
				if err := <-outcome; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// The numbers of commits that a power cut took are not those of others later: somebody may remember them.
func TestNumbersThatAPowerCutTookDoNotComeBack(t *testing.T) {
	db, disk := openFaulty(t)
	handles := []*DB{db, openAt(t, disk.path)}
	for _, db := range handles {
		mustSet(t, db, "before", "1")
	}
	disk.watchDisk(t)
	appendAsync := func(db *DB) (version backend.Versionstamp) {
		t.Helper()
		var later backend.Future[backend.Versionstamp]
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			backend.CommitAsync(tx)
			tx.Append(backend.NewKey("log"), nil)
			later = tx.Version()
			return nil
		})
		if err == nil {
			version, err = later.Get()
		}
		if err != nil {
			t.Fatal(err)
		}
		return version
	}
	for range 3 {
		before := disk.synced.Load()
		var last backend.Versionstamp
		for i := range maxUnsynced { // less than each of them may lose
			last = appendAsync(handles[i%2])
		}
		if n := disk.synced.Load() - before; n > 2 {
			t.Errorf("%d asynchronous groups took %d fsyncs", maxUnsynced, n)
		}
		left := disk.cut(t)
		if first := appendAsync(left); first.Compare(last) <= 0 {
			t.Fatalf("%v came before the power cut, and %v after it", last, first)
		}
	}
	db.writer.turn.Lock()
	db.writer.unsynced = maxUnsynced
	db.writer.turn.Unlock()
	before := disk.synced.Load()
	appendAsync(db)
	if disk.synced.Load() == before {
		t.Errorf("%d groups in a row were not synced, and so was the next", maxUnsynced)
	}
	before = disk.synced.Load()
	appendAsync(openAt(t, disk.path))
	if disk.synced.Load() == before {
		t.Error("the first group of a handle, which says where its numbers begin, was not synced")
	}
}

// A power cut takes nothing that was acknowledged, but for asynchronous commits: these go from the end, and none that a
// commit has seen that stays.
func TestPowerCutTakesNoSyncedCommit(t *testing.T) {
	const writers, each = 4, 25
	lost := 0
	for round := uint64(0); lost == 0 && round < 20; round++ { // nearly each takes some
		db, disk := openFaulty(t)
		handles := []*DB{db, openAt(t, disk.path)}
		mustSet(t, db, "count", "0")
		disk.watchDisk(t)
		var mu sync.Mutex
		var acknowledged int64
		var running sync.WaitGroup
		for i := range writers {
			random := rand.New(rand.NewPCG(round, uint64(i))) //nolint:gosec // a seed
			running.Go(func() {
				for range each {
					isAsync := random.IntN(2) == 0
					n, err := countRow(handles[random.IntN(2)], isAsync)
					if err != nil {
						t.Error(err)
						return
					}
					if !isAsync {
						mu.Lock()
						acknowledged = max(acknowledged, n)
						mu.Unlock()
					}
				}
			})
		}
		over := make(chan struct{})
		go func() {
			running.Wait()
			close(over)
		}()
		for isOver := false; !isOver; {
			select {
			case <-over:
				isOver = true
			default:
			}
			mu.Lock()
			synced := acknowledged
			mu.Unlock()
			seen := checkCount(t, db)
			after := disk.cut(t)
			left := checkCount(t, after)
			if err := after.Close(); err != nil {
				t.Fatal(err)
			}
			if left < synced {
				t.Fatalf("%d were acknowledged, and a power cut leaves %d", synced, left)
			}
			if left < seen {
				lost++
			}
		}
	}
	if lost == 0 {
		t.Error("no power cut took anything: this test shows nothing")
	}
}

// countRow adds one to a count, and a row with its number.
func countRow(db *DB, isAsync bool) (n int64, err error) {
	err = db.Transact(context.Background(), func(tx backend.Tx) error {
		if isAsync {
			backend.CommitAsync(tx)
		}
		value, err := tx.Get(backend.NewKey("count")).Get()
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(value), &n); err != nil {
			return err
		}
		n++
		tx.Set(backend.NewKey("count"), fmt.Append(nil, n))
		tx.Set(backend.NewKey("row", n), nil)
		return nil
	})
	return n, err
}

// checkCount returns the count, of which all rows must be there and no other.
func checkCount(t *testing.T, db *DB) (n int64) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		value, err := tx.Get(backend.NewKey("count")).Get()
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(value), &n); err != nil {
			return err
		}
		rows, err := tx.GetRange(backend.NewKey("row").Tree(), backend.RangeOptions{}).Get()
		if int64(len(rows)) != n {
			t.Errorf("%d rows of %d", len(rows), n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

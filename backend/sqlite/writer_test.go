package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// lockFile takes the write lock as another process would, and returns what gives it back.
func lockFile(t *testing.T, path string) (unlock func()) {
	t.Helper()
	c, err := driver.OpenConn(path, driver.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := execute(c, "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	unlock = sync.OnceFunc(func() {
		if err := errors.Join(execute(c, "ROLLBACK"), c.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(unlock)
	return unlock
}

func TestManyCommitsShareAnFsync(t *testing.T) {
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	db.writer.turn.Lock()
	before := disk.synced.Load()
	const members = 50
	outcomes := make(chan error, members)
	for i := range members {
		go func() { outcomes <- setKey(db, fmt.Sprint(i), "1") }()
	}
	awaitQueue(t, db, members)
	db.writer.turn.Unlock()
	for range members {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	if n := disk.synced.Load() - before; n != 1 {
		t.Errorf("%d commits took %d fsyncs; want one", members, n)
	}
}

// A commit returns after its fsync, not before.
func TestCommitWaitsForItsFsync(t *testing.T) {
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	before, gate := disk.synced.Load(), make(chan struct{})
	disk.onSync.Store(&gate)
	outcome := make(chan error, 1)
	go func() { outcome <- setKey(db, "during", "1") }()
	await(t, "the fsync", func() bool { return disk.synced.Load() > before })
	select {
	case err := <-outcome:
		t.Errorf("it returned %v before the fsync", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(gate)
	if err := <-outcome; err != nil {
		t.Error(err)
	}
}

// Once the writer has picked a transaction, the end of its context is too late.
func TestPickedTransactionIsAwaited(t *testing.T) {
	db, disk := openFaulty(t)
	mustSet(t, db, "before", "1")
	before, gate := disk.synced.Load(), make(chan struct{})
	disk.onSync.Store(&gate)
	ctx, cancel := context.WithCancel(t.Context())
	outcomes := make(chan error, 2)
	commit := func(key string) {
		outcomes <- db.Transact(ctx, func(tx backend.Tx) error {
			tx.Set(backend.NewKey(key), []byte("1"))
			return nil
		})
	}
	db.writer.turn.Lock()
	go commit("leader")
	awaitQueue(t, db, 1)
	go commit("follower")
	awaitQueue(t, db, 2)
	db.writer.turn.Unlock()
	await(t, "the fsync", func() bool { return disk.synced.Load() > before })
	cancel()
	select {
	case err := <-outcomes:
		t.Errorf("%v before the outcome was known", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(gate)
	for range 2 {
		if err := <-outcomes; err != nil {
			t.Errorf("%v; want nil, as it was committed", err)
		}
	}
}

// A leader gives up waiting for another process when the last who waited has left. Whoever comes at that moment is served.
func TestWhoComesWhenAllHaveLeftIsServed(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "before", "1")
	release := db.writer.Hold()
	unlock := lockFile(t, db.path)
	db.writer.turn.Lock()
	err := db.writer.begin(t.Context())
	db.writer.turn.Unlock()
	if err == nil {
		t.Fatal("it has the lock that another has")
	}
	outcome := make(chan error, 1)
	go func() { outcome <- setKey(db, "after", "1") }()
	awaitQueue(t, db, 1)
	members := db.writer.Pick()
	occ.Refuse(members, err)
	db.writer.Serve(members, nil)
	unlock()
	release()
	if err := <-outcome; err != nil {
		t.Error(err)
	}
}

// While another process has the lock, a transaction whose context ends leaves the queue, whether it leads or follows.
func TestTransactionWithdrawsWhileAnotherProcessWrites(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "before", "1")
	unlock := lockFile(t, db.path)
	ctx, cancel := context.WithCancel(t.Context())
	outcomes := make(chan error, 2)
	for i := range 2 {
		go func() {
			outcomes <- db.Transact(ctx, func(tx backend.Tx) error {
				tx.Set(backend.NewKey("withdrawn", i), nil)
				return nil
			})
		}()
		awaitQueue(t, db, i+1)
	}
	kept := make(chan error, 1)
	go func() { kept <- setKey(db, "kept", "1") }()
	awaitQueue(t, db, 3)
	cancel()
	named := false
	for range 2 {
		err := <-outcomes
		if !errors.Is(err, context.Canceled) || errors.Is(err, backend.ErrCommitUnknown) {
			t.Errorf("%v; want the context's error alone", err)
		}
		named = named || strings.Contains(err.Error(), "another process")
	}
	if !named {
		t.Error("no error says that another process is writing")
	}
	unlock()
	if err := <-kept; err != nil {
		t.Error(err)
	}
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		pairs, err := tx.GetRange(backend.NewKey("withdrawn").Below(), backend.RangeOptions{}).Get()
		if len(pairs) > 0 {
			t.Error("what was withdrawn was committed")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// When all who wait for the lock have gone, nobody goes on asking for it.
func TestNobodyAsksForTheLockForNobody(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "before", "1")
	unlock := lockFile(t, db.path)
	w := db.writer
	release := w.Hold() // so that all three wait for the writer's own goroutine
	ctx, cancel := context.WithCancel(t.Context())
	outcomes := make(chan error, 3)
	for range 3 {
		go func() {
			outcomes <- db.Transact(ctx, func(tx backend.Tx) error {
				tx.Set(backend.NewKey("a"), nil)
				return nil
			})
		}()
	}
	awaitQueue(t, db, 3)
	release()
	cancel()
	for range 3 {
		if err := <-outcomes; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	await(t, "the end of the lead", func() bool { return !w.IsLeading() })
	unlock()
	mustSet(t, db, "after", "1")
}

// SQLite's locks know no queue: who takes the lock again at once starves all others.
func TestWriterPausesBetweenGroupsWhileAnotherProcessCommits(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "a", "1")
	const groups = 20
	began := time.Now()
	for range groups {
		db.log.SawForeign()
		mustSet(t, db, "a", "2")
	}
	if took := time.Since(began); took < (groups-1)*sharedPause {
		t.Errorf("%d groups took %v; want a pause of %v after each", groups, took, sharedPause)
	}
}

func TestCloseWhileAnotherProcessWritesEndsWhoWaits(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "before", "1")
	unlock := lockFile(t, db.path)
	outcomes := make(chan error, 3)
	for range 3 {
		go func() { outcomes <- setKey(db, "a", "1") }()
	}
	awaitQueue(t, db, 3)
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := <-outcomes; !errors.Is(err, backend.ErrClosed) {
			t.Errorf("%v; want ErrClosed", err)
		}
	}
	unlock()
}

// Numbers go on from one block to the next, and another handle's are larger.
func TestVersionsGrowFromBlockToBlock(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "before", "1")
	var last backend.Versionstamp
	next := func(db *DB) {
		t.Helper()
		var f backend.Future[backend.Versionstamp]
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			tx.Set(backend.NewKey("a"), nil)
			f = tx.Version()
			return nil
		})
		v, errVersion := f.Get()
		if err := errors.Join(err, errVersion); err != nil {
			t.Fatal(err)
		}
		if v.Compare(last) <= 0 {
			t.Fatalf("%v after %v", v, last)
		}
		last = v
	}
	for range 3 {
		db.writer.turn.Lock()
		db.writer.next = db.writer.reserved - 1
		db.writer.turn.Unlock()
		for range 4 {
			next(db)
		}
	}
	next(openAt(t, db.path))
	next(db)
	if db.log.IsShared() != true {
		t.Error("another's commit was not noticed")
	}
	if last.Sequence() < 3*blockNumbers {
		t.Errorf("%d commits after blocks of %d", last.Sequence(), blockNumbers)
	}
}

// growAndBeginAnew commits until the log has so many pages, and on until it has been begun anew.
func growAndBeginAnew(t *testing.T, db *DB, pages int64) {
	t.Helper()
	c, err := openConnection(db.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	value := strings.Repeat("v", 3000)
	grown := func() int64 {
		mustSet(t, db, fmt.Sprint(rand.IntN(50)), value)
		p, err := (&checkpoints{conn: c.conn}).checkpoint("NOOP")
		if err != nil {
			t.Fatal(err)
		}
		return p.pages
	}
	for size := grown(); size < pages; {
		size = grown()
	}
	await(t, "the log to begin anew", func() bool { return grown() < pages/4 })
}

// The log is copied and used again; it does not grow with the number of commits.
func TestLogIsUsedAgain(t *testing.T) {
	db := openTest(t)
	db.checkpoints.duePages = 100
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for caller := range 4 { // who leave no gap between two groups in which the log is copied as a whole
		all.Go(func() {
			for ctx.Err() == nil {
				if err := countUp(ctx, db, backend.NewKey("n", caller)); err != nil && !errors.Is(err, ctx.Err()) {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		growAndBeginAnew(t, db, 100)
	}
	cancel()
	all.Wait()
}

// Snapshots that overlap without end keep the log from being used again. Above its bound new ones wait.
func TestOverlappingSnapshotsDoNotGrowTheLogWithoutBound(t *testing.T) {
	db := openTest(t)
	db.checkpoints.duePages, db.checkpoints.maxBytes = 50, 100*pageBytes
	mustSet(t, db, "a", "1")
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for i := range 4 { // of which one is there at any time
		readers.Go(func() {
			for ctx.Err() == nil {
				_ = db.Read(ctx, func(tx backend.ReadTx) error { // its error is ctx's
					_, err := tx.Get(backend.NewKey("a")).Get()
					select {
					case <-time.After(time.Duration(20+5*i) * time.Millisecond):
					case <-ctx.Done():
					}
					return err
				})
			}
		})
	}
	for range 3 {
		growAndBeginAnew(t, db, 200)
	}
	cancel()
	readers.Wait()
}

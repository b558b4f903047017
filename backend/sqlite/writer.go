package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
)

// Group commit. Whoever has a transaction to commit puts it into the queue. If nobody leads, it leads:
//
//  1. The leader takes the write lock of the file. While it waits for another process, transactions whose ctx ends
//     leave the queue.
//  2. It takes the whole queue: from here on their outcome is awaited.
//  3. It commits them as one SQLite transaction, with one fsync (commit.go), and tells them their outcome.
//  4. If others have queued up meanwhile, it hands the lead to the writer's own goroutine, which keeps it until the
//     queue stays empty.
//  5. Those whose commit is done are likely to be back at once with the next. The writer's goroutine gives them a
//     quarter of the time of a group before it begins one. Else callers fall into two halves, each of which waits for
//     the fsync of the other.
//
// So a group is as large as the last fsync was long; a caller alone switches no goroutine, and with many callers the
// disk never waits for one of them to be scheduled.
type writer struct {
	db *DB

	mu      sync.Mutex
	queue   []*tx
	spare   []*tx // the queue before, to be used again
	leading bool
	ended   error // why nothing is queued any more

	more chan struct{} // hands the lead to run
	quit chan struct{} // ends run, when no caller is left

	last   atomic.Pointer[record] // the newest commits
	shared atomic.Int64           // when another process was last seen to commit, as db.clock; 0 is never
	owned  atomic.Int64           // what this process wrote last into the sequence row, or is about to

	turn sync.Mutex // held by the leader, and by a checkpoint that wants no commit beside it; guards the rest
	conn *connection
	statements
	reserved int64 // the sequence row as this process committed it last; unknown before
	next     int64 // the next commit number
	idleAt   int64 // when the last group was committed, as db.clock

	plentyUntil int64 // as db.clock
}

const unknown = -1

// Between groups the writer leaves the lock alone for sharedPause, for as long as another process was seen to commit
// within sharedFor: SQLite's locks know no queue, and who takes the lock again at once starves all others.
const (
	sharedFor   = time.Second
	sharedPause = time.Millisecond
)

// What gather spends: a share of a group's time, so little in all, and not where a group is large anyway.
const (
	gatherShare  = 4
	gatherMax    = int64(100 * time.Microsecond)
	gatherEnough = 64
)

// queued is a transaction's place in the queue. Picked is guarded by writer.mu.
type queued struct {
	wake   chan struct{} // made when it has to wait; the outcome is known
	picked bool
	result error // of a picked one
}

// newest returns the newest record. All that it and those before it hold is in every snapshot that begins later.
func (w *writer) newest() *record { return w.last.Load() }

// isShared reports whether another process was seen to commit a short time ago.
func (w *writer) isShared() bool {
	ago, ok := w.sinceForeign()
	return ok && ago < sharedFor
}

// sinceForeign returns how long ago another process was last seen to commit, if ever.
func (w *writer) sinceForeign() (time.Duration, bool) {
	seen := w.shared.Load()
	if seen == 0 {
		return 0, false // without a look at the clock, as is usual
	}
	return time.Duration(w.db.clock() - seen), true
}

// submit commits t. It returns errLost when fn has to run again; what it lost to is visible by then.
func (w *writer) submit(ctx context.Context, t *tx) error {
	w.mu.Lock()
	if w.ended != nil {
		defer w.mu.Unlock()
		return w.ended
	}
	w.queue = append(w.queue, t)
	if w.leading {
		t.place.wake = make(chan struct{}, 1)
		w.mu.Unlock()
		return w.await(ctx, t)
	}
	w.leading = true
	w.mu.Unlock()
	w.lead(ctx, t)
	if w.isLed() {
		w.more <- struct{}{}
	}
	return t.place.result
}

// await waits for a leader to commit t.
func (w *writer) await(ctx context.Context, t *tx) error {
	select {
	case <-t.place.wake:
		return t.place.result
	case <-ctx.Done():
	}
	if w.withdraw(t) {
		return ctx.Err()
	}
	<-t.place.wake
	return t.place.result
}

// withdraw takes t off the queue. It is too late once a leader has picked it.
func (w *writer) withdraw(t *tx) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !t.place.picked {
		i := slices.Index(w.queue, t)
		w.queue = slices.Delete(w.queue, i, i+1)
	}
	return !t.place.picked
}

// isLed reports whether there is more to commit, and gives up the lead if not.
func (w *writer) isLed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leading = len(w.queue) > 0
	return w.leading
}

// run leads while more than one caller commits.
func (w *writer) run() {
	for {
		select {
		case <-w.quit:
			return
		case <-w.more:
		}
		for w.isLed() {
			began := w.db.clock()
			members := w.lead(context.Background(), nil)
			now := w.db.clock()
			w.gather(members, now+min((now-began)/gatherShare, gatherMax))
		}
	}
}

// gather waits until as many have come back as were served, beside those who wait already, but not beyond limit.
// It yields instead of sleeping: the shortest sleep of an idle process is a millisecond.
func (w *writer) gather(served int, limit int64) {
	for expected := -1; w.db.clock() < limit; runtime.Gosched() {
		w.mu.Lock()
		waiting := len(w.queue)
		w.mu.Unlock()
		if expected < 0 {
			expected = min(waiting+served, gatherEnough)
		}
		if waiting >= expected {
			return
		}
	}
}

// lead commits the queue and returns how many it served. Where ctx ends before, own is taken off it with ctx's error.
func (w *writer) lead(ctx context.Context, own *tx) (served int) {
	err := w.db.checkpoints.room(ctx)
	w.turn.Lock()
	defer w.turn.Unlock()
	if err == nil {
		err = w.begin(ctx)
	}
	if err != nil && ctx.Err() != nil && w.withdraw(own) {
		own.place.result = err
		return 0
	}
	members := w.pick()
	if err == nil {
		w.commit(members)
	} else {
		refuse(members, err)
	}
	w.idleAt = w.db.clock()
	for _, m := range members {
		if m != own {
			m.place.wake <- struct{}{}
		}
	}
	served = len(members)
	w.giveBack(members)
	return served
}

// pick takes the whole queue.
func (w *writer) pick() []*tx {
	w.mu.Lock()
	defer w.mu.Unlock()
	members := w.queue
	w.queue, w.spare = w.spare[:0], nil
	for _, m := range members {
		m.place.picked = true
	}
	return members
}

func (w *writer) giveBack(members []*tx) {
	clear(members)
	w.mu.Lock()
	w.spare = members[:0]
	w.mu.Unlock()
}

// isNeeded reports whether anybody still waits.
func (w *writer) isNeeded() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) > 0
}

// begin takes the write lock, however long another process holds it.
func (w *writer) begin(ctx context.Context) error {
	if err := w.leaveToOthers(ctx); err != nil {
		return err
	}
	for {
		err := drain(w.immediate)
		switch {
		case err == nil:
			return nil
		case !isBusy(err):
			return w.db.judge("begin to write", err, closedBy)
		case !w.isNeeded():
			return errAbandoned
		}
		if err := w.db.pause(ctx, busyPause); err != nil {
			return fmt.Errorf("sqlite: wait for another process that is writing %s: %w", w.db.path, err)
		}
	}
}

// leaveToOthers waits until the pause between two groups is over, where other processes write too.
func (w *writer) leaveToOthers(ctx context.Context) error {
	if !w.isShared() {
		return w.db.pause(ctx, 0)
	}
	return w.db.pause(ctx, sharedPause-time.Duration(w.db.clock()-w.idleAt))
}

// refuse gives all members the same error.
func refuse(members []*tx, err error) {
	for _, m := range members {
		m.place.result = err
	}
}

// stop makes later submits fail with cause. The first cause stays.
func (w *writer) stop(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended == nil {
		w.ended = cause
	}
}

// rest waits after stop until nobody commits. From then on nobody will.
func (w *writer) rest() {
	tick := time.NewTicker(busyPause)
	defer tick.Stop()
	for w.isLeading() {
		<-tick.C
	}
}

func (w *writer) isLeading() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leading
}

// statements are those that write, prepared.
type statements struct {
	immediate, end, undo, upsert, clear, clearRange, reserve *driver.Stmt
}

func (s *statements) prepare(c *driver.Conn) (err error) {
	for _, q := range []struct {
		stmt  **driver.Stmt
		query string
	}{
		{&s.immediate, "BEGIN IMMEDIATE"},
		{&s.end, "COMMIT"},
		{&s.undo, "ROLLBACK"},
		{&s.upsert, "REPLACE INTO kv (k, v) VALUES (?, ?)"},
		{&s.clear, "DELETE FROM kv WHERE k = ?"},
		{&s.clearRange, "DELETE FROM kv WHERE k >= ? AND k < ?"},
		{&s.reserve, "UPDATE sequence SET reserved = ? WHERE id = 1"},
	} {
		if *q.stmt, err = c.Prepare(q.query); err != nil {
			return err
		}
	}
	return nil
}

func newWriter(db *DB, c *driver.Conn) (*writer, error) {
	conn, err := newConnection(c)
	if err != nil {
		return nil, err
	}
	w := &writer{db: db, conn: conn, reserved: unknown, more: make(chan struct{}, 1), quit: make(chan struct{})}
	if err := w.prepare(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	w.owned.Store(unknown)
	w.last.Store(&record{})
	return w, nil
}

var _ backend.Database = (*DB)(nil)

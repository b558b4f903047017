package sqlite

import (
	"context"
	"errors"
	"fmt"
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
//  3. It commits them as one SQLite transaction, with one fsync (commit.go).
//  4. It makes the first that has queued up meanwhile the next leader, and tells the others their outcome.
//
// So the group is as large as the last fsync was long, and a caller alone switches no goroutine.
type writer struct {
	db *DB

	mu      sync.Mutex
	queue   []*tx
	spare   []*tx // the queue before, to be used again
	leading bool
	ended   error // why nothing is queued any more

	last   atomic.Pointer[record] // the newest commits
	shared atomic.Int64           // when another process was last seen to commit, as db.clock; 0 is never
	owned  atomic.Int64           // what this process wrote last into the sequence row, or is about to

	turn sync.Mutex // held by the leader, and by a checkpoint that wants no commit beside it; guards the rest
	conn *connection
	statements
	reserved int64 // the sequence row as this process committed it last; unknown before
	next     int64 // the next commit number
	idleAt   int64 // when the last group was committed, as db.clock
	isOpen   bool  // the connection has a transaction
}

const unknown = -1

// Between groups the writer leaves the lock alone for sharedPause, for as long as another process was seen to commit
// within sharedFor: SQLite's locks know no queue, and who takes the lock again at once starves all others.
const (
	sharedFor   = time.Second
	sharedPause = time.Millisecond
)

// queued is a transaction's place in the queue. The fields but wake are guarded by writer.mu.
type queued struct {
	wake   chan signal // made when it has to wait
	picked bool
	result error // of a picked one, before done is sent
}

type signal bool

const (
	done signal = false
	lead signal = true // the receiver leads
)

// newest returns the newest record. All that it and those before it hold is in every snapshot that begins later.
func (w *writer) newest() *record { return w.last.Load() }

// isShared reports whether another process was seen to commit a short time ago.
func (w *writer) isShared() bool {
	seen := w.shared.Load()
	return seen != 0 && w.db.clock()-seen < int64(sharedFor)
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
		t.place.wake = make(chan signal, 1)
		w.mu.Unlock()
		return w.await(ctx, t)
	}
	w.leading = true
	w.mu.Unlock()
	return w.lead(ctx, t)
}

// await waits for a leader to commit t, or to make it the next.
func (w *writer) await(ctx context.Context, t *tx) error {
	select {
	case s := <-t.place.wake:
		if s == lead {
			return w.lead(ctx, t)
		}
		return t.place.result
	case <-ctx.Done():
	}
	if w.withdraw(t) {
		return ctx.Err()
	}
	<-t.place.wake
	return t.place.result
}

// withdraw takes t off the queue, with the lead if it was given to it. It is too late once a leader has picked it.
func (w *writer) withdraw(t *tx) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.place.picked {
		return false
	}
	i := slices.Index(w.queue, t)
	w.queue = slices.Delete(w.queue, i, i+1)
	select {
	case <-t.place.wake:
		w.passOn()
	default:
	}
	return true
}

// passOn makes the first of the queue the leader. The caller holds mu and has led.
func (w *writer) passOn() {
	if len(w.queue) == 0 {
		w.leading = false
		return
	}
	first := w.queue[0]
	first.place.wake <- lead
}

// lead commits the queue, which t is in.
func (w *writer) lead(ctx context.Context, t *tx) error {
	w.turn.Lock()
	err := w.begin(ctx)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		w.turn.Unlock()
		w.resign(t)
		return err
	}
	members := w.pick()
	if err != nil {
		w.refuse(members, err)
	} else {
		w.commit(members)
	}
	w.idleAt = w.db.clock()
	w.turn.Unlock()

	w.mu.Lock()
	w.passOn()
	w.mu.Unlock()
	for _, m := range members {
		if m != t {
			m.place.wake <- done
		}
	}
	err = t.place.result
	w.giveBack(members)
	return err
}

// resign takes the leader off the queue.
func (w *writer) resign(t *tx) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, t)
	w.queue = slices.Delete(w.queue, i, i+1)
	w.passOn()
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

// begin takes the write lock, however long another process holds it.
func (w *writer) begin(ctx context.Context) error {
	if err := w.leaveToOthers(ctx); err != nil {
		return err
	}
	for {
		err := drain(w.immediate)
		if err == nil {
			return nil
		}
		if !isBusy(err) {
			return w.db.judge("begin to write", err, closedBy)
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
func (w *writer) refuse(members []*tx, err error) {
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
	w := &writer{db: db, conn: conn, reserved: unknown}
	if err := w.prepare(c); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	w.owned.Store(unknown)
	w.last.Store(&record{})
	return w, nil
}

var _ backend.Database = (*DB)(nil)

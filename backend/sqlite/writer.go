package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// writer commits groups of transactions ([occ.Queue]), each as one SQLite transaction with one fsync (commit.go).
type writer struct {
	*occ.Queue
	db *DB

	owned     atomic.Int64 // what this process wrote last into the sequence row, or is about to
	shares    shares
	isRelaxed bool // no commit is synced

	turn sync.Mutex // held by the leader, and by a checkpoint that wants no commit beside it; guards the rest
	conn *connection
	statements
	isSynced bool  // what is committed next is on the disk before it can be seen
	unsynced int   // groups in a row that were not
	reserved int64 // the sequence row as this process committed it last; unknown before
	next     int64 // the next commit number

	// Of statements of the program's tables (statement.go).
	known     map[string]*driver.Stmt // prepared ones
	blame     occ.Blame
	executed  int  // about so many bytes were written by those of this group
	groups    int  // with some
	isGuarded bool // they run

	plentyUntil int64 // by the log's clock

	slowLock  time.Duration // how long others may hold the write lock before that is reported
	busySince time.Time     // since when they do; zero when nobody has waited
	isTold    bool
}

// slowLock is writer's, but in tests. A group's commit takes milliseconds, so who has the lock for longer is not at work.
const slowLock = 5 * time.Second

const unknown = -1

// lead commits the queue and returns how many it served. Where ctx ends before, own is taken off it with ctx's error.
func (w *writer) lead(ctx context.Context, own *occ.Tx) (served int) {
	err := w.db.checkpoints.room(ctx)
	w.turn.Lock()
	defer w.turn.Unlock()
	if err == nil {
		err = w.begin(ctx)
	}
	if err != nil && ctx.Err() != nil && w.Withdraw(own) {
		own.Result = err
		return 0
	}
	var members []*occ.Tx
	if err == nil {
		members = w.pick()
		w.commit(members)
	} else {
		members = w.Pick()
		occ.Refuse(members, err)
	}
	served = len(members)
	w.Serve(members, own)
	return served
}

// begin takes the write lock, however long another process holds it.
func (w *writer) begin(ctx context.Context) error {
	if err := w.leaveToOthers(ctx); err != nil {
		return err
	}
	for {
		err := w.sync(w.needsSync())
		if err == nil {
			err = drain(w.immediate)
		}
		switch {
		case err == nil:
			w.noteLock(true)
			return nil
		case !isBusy(err):
			return w.db.judge("begin to write", err, closedBy)
		case w.Waiting() == 0:
			return occ.ErrLost // whoever comes just now begins again
		}
		w.noteLock(false)
		if err := w.db.awaitNotice(ctx, busyPause); err != nil {
			return fmt.Errorf("sqlite: wait for another process that is writing %s: %w", w.db.path, err)
		}
		w.Regather()
	}
}

// maxUnsynced bounds how many groups in a row are not synced, so that no more numbers of commits are lost than lostNumbers.
const maxUnsynced = 100

// needsSync reports whether the next group has to be synced.
func (w *writer) needsSync() bool {
	return !w.isRelaxed && (w.reserved == unknown || w.unsynced >= maxUnsynced || !w.IsAsync())
}

// pick takes the group. One that is not synced has those alone that need not be: who has come meanwhile is in the next.
func (w *writer) pick() []*occ.Tx {
	if w.isSynced || w.isRelaxed {
		return w.Pick()
	}
	return w.PickAsync()
}

// sync makes the next commit one that is on the disk when it can be seen, or one that gets there with a later one
// ([backend.AsyncCommitter]). SQLite takes it between transactions alone.
func (w *writer) sync(want bool) error {
	if want == w.isSynced {
		return nil
	}
	err := execute(w.conn.conn, synchronous(want))
	if err == nil {
		w.isSynced = want
	}
	return err
}

// noteLock reports that others have held the write lock for long, and when it is free again.
func (w *writer) noteLock(have bool) {
	switch {
	case have && w.isTold:
		w.db.reports.Tell(fmt.Errorf("sqlite: %s can be written again, after %v", w.db.path, time.Since(w.busySince).Round(time.Second)))
		fallthrough
	case have:
		w.busySince, w.isTold = time.Time{}, false
	case w.busySince.IsZero():
		w.busySince = time.Now()
	case !w.isTold && time.Since(w.busySince) >= w.slowLock:
		w.isTold = true
		w.db.reports.Tell(fmt.Errorf("sqlite: another process has held the write lock of %s for %v, and nothing is committed meanwhile: "+
			"it is frozen, or a tool in a transaction; find it (fuser, lsof), and let it go on, or kill it: what it has not acknowledged is undone",
			w.db.path, w.slowLock))
	}
}

// statements are those that write, prepared.
type statements struct {
	immediate, end, undo, upsert, clear, clearRange, reserve, save, back, release *driver.Stmt
}

func (s *statements) prepare(c *driver.Conn) (err error) {
	for _, q := range []struct {
		stmt  **driver.Stmt
		query string
	}{
		{&s.immediate, "BEGIN IMMEDIATE"},
		{&s.end, "COMMIT"},
		{&s.undo, "ROLLBACK"},
		{&s.save, "SAVEPOINT statements"},
		{&s.back, "ROLLBACK TO statements"},
		{&s.release, "RELEASE statements"},
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

func newWriter(db *DB, c *driver.Conn, o options) (*writer, error) {
	conn, err := newConnection(c)
	if err != nil {
		return nil, err
	}
	w := &writer{db: db, conn: conn, isRelaxed: o.relaxed, isSynced: !o.relaxed, reserved: unknown, known: map[string]*driver.Stmt{}, slowLock: slowLock, shares: shares{pause: sharedPause}}
	w.Queue = occ.NewQueue(w.lead, db.log.Clock)
	err = c.SetAuthorizer(w)
	if err == nil {
		err = execute(c, "PRAGMA foreign_keys = ON") // of the program's tables
	}
	if err == nil {
		err = w.prepare(c)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	w.owned.Store(unknown)
	return w, nil
}

var _ backend.Database = (*DB)(nil)

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
)

// Checkpoints. The log is copied into the file and used from its beginning again in short cycles: overwriting blocks
// that were written before is synced twice as fast as extending a file. SQLite would do it within a commit, and all
// who wait for it would wait; here a goroutine does it:
//
//  1. A passive checkpoint beside the commits copies nearly all.
//  2. A second one, with the writer held, copies the few frames of meanwhile, so that the next commit finds a log that
//     is copied as a whole and begins it anew, unless a snapshot still reads from it.
//  3. Where snapshots overlap there is always one that reads from the log. Above logMaxBytes it is emptied all the same:
//     new snapshots of this handle wait until the old ones have ended, and the write lock is held for restartWait, in
//     which those of other processes end. What begins meanwhile reads from the file, as all of the log is copied.
//  4. Above logLongBytes it is held once for as long as a snapshot may live: no reader of this package outlasts that.
//  5. What does is a process that is frozen, or a tool in a transaction. The log grows on, which is reported, up to
//     logHardBytes: then commits wait, and fail after logPatience as they do on a full disk. That is the last resort
//     against one that would fill the disk, for all who use it; when the reader ends, everything goes on.
//  6. A log that was longer than logMaxBytes is given back to the file system: by the checkpoint that empties it, or
//     by the commit that begins it anew.
type checkpoints struct {
	db     *DB
	conn   *driver.Conn
	pages  atomic.Int64 // of the log that are not copied, at most
	groups atomic.Int64 // that wrote them
	frames atomic.Int64 // of the log, at most
	wanted chan struct{}
	urgent atomic.Bool // whatever is due: the disk is full

	// Of the one goroutine.
	retry    time.Time // no restart is tried before
	outlived bool      // a snapshot of another process has outlived a wait of 4
	isOver   bool      // the log is longer than maxBytes
	told     int64     // bytes of the log at the last report; 0 when it is in its bounds

	duePages  int64 // in the log, and not copied: then it is copied
	maxBytes  int64 // of the log: then snapshots wait
	longBytes int64
	hardBytes int64
	patience  time.Duration
}

// A cycle ends after duePages, so that the log is soon as long as it will be. Where groups are large it lasts eight
// times as long, or a checkpoint's fsyncs, of which commits wait for some, would be a good part of all.
const (
	duePages     = 500
	dueGroups    = 100
	longCycle    = 8
	logMaxBytes  = 64 << 20
	logLongBytes = 4 * logMaxBytes
	logHardBytes = 16 * logMaxBytes
	logPatience  = backend.MaxDuration
	restartWait  = 500 * time.Millisecond
	restartPause = 10 * restartWait // between two that failed: commits wait for a tenth of the time
	reapEvery    = 250 * time.Millisecond
)

func newCheckpoints(db *DB) checkpoints {
	return checkpoints{db: db, wanted: make(chan struct{}, 1), duePages: duePages, maxBytes: logMaxBytes,
		longBytes: logLongBytes, hardBytes: logHardBytes, patience: logPatience}
}

// count notes a commit of so many pages.
func (k *checkpoints) count(pages int) {
	k.groups.Add(1)
	k.frames.Add(int64(pages))
	if k.pages.Add(int64(pages)) >= k.duePages {
		k.want()
	}
}

func (k *checkpoints) want() {
	select {
	case k.wanted <- struct{}{}:
	default:
	}
}

// press asks for what can be had of the log where the disk is full: a commit that fails counts no pages.
func (k *checkpoints) press() {
	k.urgent.Store(true)
	k.want()
}

// keep makes checkpoints until the database ends.
func (k *checkpoints) keep() {
	for {
		var again <-chan time.Time
		if k.isOver { // nobody may commit any more, who would want one
			again = time.After(restartWait)
		}
		select {
		case <-k.db.stopped:
			return
		case <-k.wanted:
		case <-again:
			k.urgent.Store(true)
		}
		if err := k.run(); err != nil && !isBusy(err) {
			_ = k.db.judge("copy the log into", err, closedBy)
		}
	}
}

// progress is what a checkpoint answers: the pages of the log and how many of them are in the file, and whether it met
// a lock.
type progress struct {
	pages, copied int64
	isBusy        bool
}

func (p progress) bytes() int64 { return p.pages * pageBytes }

func (k *checkpoints) run() error {
	p, err := k.checkpoint("NOOP")
	if err != nil || !k.urgent.Swap(false) && !k.isDue(p) {
		return err
	}
	if _, err := k.checkpoint("PASSIVE"); err != nil {
		return err
	}
	p, err = k.alone("PASSIVE")
	k.pages.Store(p.pages - p.copied)
	k.groups.Store(0)
	switch {
	case err != nil:
		return err
	case p.bytes() > k.maxBytes:
		return k.restart(p)
	}
	k.report(p)
	return nil
}

// isDue corrects the count: a page that a group wrote twice is in the log once, so there may be far less.
func (k *checkpoints) isDue(p progress) bool {
	pages := p.pages - p.copied
	k.pages.Store(pages)
	k.frames.Store(p.pages)
	return pages >= longCycle*k.duePages || pages >= k.duePages && k.groups.Load() >= dueGroups
}

// alone makes a checkpoint while nobody of this process commits.
func (k *checkpoints) alone(mode string) (progress, error) {
	w := k.db.writer
	w.turn.Lock()
	defer w.turn.Unlock()
	return k.checkpoint(mode)
}

// restart empties the log that snapshots have kept from being used again (3, 4).
func (k *checkpoints) restart(p progress) error {
	isStuck := k.outlived && p.copied < p.pages // by one who was waited for already
	if isStuck || time.Now().Before(k.retry) && p.bytes() < k.hardBytes {
		k.report(p)
		return nil
	}
	wait, isLong := restartWait, p.bytes() > k.longBytes && !k.outlived
	if isLong {
		wait += backend.MaxDuration
	}
	drained := k.db.pool.shut()
	defer k.db.pool.reopen()
	limit := time.NewTimer(backend.MaxDuration + 2*reapEvery)
	defer limit.Stop()
	select {
	case <-drained:
	case <-limit.C:
	case <-k.db.stopped:
		return nil
	}
	k.conn.SetBusyTimeout(wait)
	p, err := k.alone("TRUNCATE")
	k.conn.SetBusyTimeout(0)
	if p.isBusy || isBusy(err) {
		k.outlived = k.outlived || isLong
		k.retry = time.Now().Add(restartPause)
	} else if err == nil {
		k.outlived = false
	}
	k.report(p)
	return err
}

// report tells that the log has left its bounds, again when it has doubled, and when it is back.
func (k *checkpoints) report(p progress) {
	k.frames.Store(p.pages)
	k.isOver = p.bytes() > k.maxBytes
	switch bytes := p.bytes(); {
	case bytes <= k.maxBytes && k.told > 0:
		k.told = 0
		k.db.reports.Tell(fmt.Errorf("sqlite: the log of %s is back in its bounds", k.db.path))
	case bytes > 2*k.maxBytes && bytes >= 2*k.told:
		k.told = bytes
		k.db.reports.Tell(fmt.Errorf("sqlite: the log of %s has grown to %d MB, as %s. At %d MB commits are refused",
			k.db.path, bytes>>20, pinned, k.hardBytes>>20))
	}
}

const pinned = "another process reads it without end: one that is frozen, or a tool in a transaction " +
	"(fuser or lsof name who has the file open)"

// room waits while the log is at its hard limit (5).
func (k *checkpoints) room(ctx context.Context) error {
	if k.frames.Load()*pageBytes < k.hardBytes {
		return nil
	}
	limit := time.Now().Add(k.patience)
	for k.frames.Load()*pageBytes >= k.hardBytes {
		if time.Now().After(limit) {
			return fmt.Errorf("sqlite: commit %s: its log has grown to %d MB, the most that it may, as %s. "+
				"End it: nothing of this was stored, and everything goes on when the log has been emptied",
				k.db.path, k.hardBytes>>20, pinned)
		}
		k.press()
		if err := k.db.pause(ctx, 10*busyPause); err != nil {
			return err
		}
	}
	return nil
}

func (k *checkpoints) checkpoint(mode string) (p progress, err error) {
	stmt, err := k.conn.Prepare("PRAGMA wal_checkpoint(" + mode + ")")
	if err != nil {
		return p, err
	}
	ok, err := stmt.Step()
	if err != nil {
		return p, err
	}
	if !ok {
		return p, errors.New("a checkpoint without an answer")
	}
	p = progress{stmt.ColumnInt64(1), stmt.ColumnInt64(2), stmt.ColumnInt64(0) != 0}
	return p, stmt.Reset()
}

// reap ends snapshots that are over their time limit, and the handle when its files are gone, until the database ends.
func (db *DB) reap() {
	ticker := time.NewTicker(reapEvery)
	defer ticker.Stop()
	for {
		select {
		case <-db.stopped:
			return
		case now := <-ticker.C:
			db.pool.endOlder(now.Add(-backend.MaxDuration), errs.TooOld)
			if err := db.files.check(); err != nil {
				db.fail(err)
			}
		}
	}
}

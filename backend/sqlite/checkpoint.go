package sqlite

import (
	"errors"
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
//  3. Where overlapping snapshots keep the log growing above logMaxBytes, new ones wait until the old have ended.
type checkpoints struct {
	db     *DB
	conn   *driver.Conn
	pages  atomic.Int64 // of the log that are not copied, at most
	groups atomic.Int64 // that wrote them
	wanted chan struct{}

	duePages int64 // in the log, and not copied: then it is copied
	maxBytes int64 // of the log: then snapshots wait
}

// A cycle ends after duePages, so that the log is soon as long as it will be. Where groups are large it lasts eight
// times as long, or a checkpoint's fsyncs, of which commits wait for some, would be a good part of all.
const (
	duePages    = 500
	dueGroups   = 100
	longCycle   = 8
	logMaxBytes = 64 << 20
	reapEvery   = 250 * time.Millisecond
)

// count notes a commit of so many pages.
func (k *checkpoints) count(pages int) {
	k.groups.Add(1)
	if k.pages.Add(int64(pages)) < k.duePages {
		return
	}
	select {
	case k.wanted <- struct{}{}:
	default:
	}
}

// keep makes checkpoints until the database ends.
func (k *checkpoints) keep() {
	for {
		select {
		case <-k.db.stopped:
			return
		case <-k.wanted:
		}
		if err := k.run(); err != nil && !isBusy(err) {
			_ = k.db.judge("copy the log into", err, closedBy)
		}
	}
}

// progress is what a checkpoint answers: the pages of the log and how many of them are in the file.
type progress struct{ pages, copied int64 }

func (k *checkpoints) run() error {
	p, err := k.checkpoint("NOOP")
	if err != nil || !k.isDue(p) {
		return err
	}
	if _, err := k.checkpoint("PASSIVE"); err != nil {
		return err
	}
	p, err = k.alone("PASSIVE")
	k.pages.Store(p.pages - p.copied)
	k.groups.Store(0)
	if err != nil || p.pages*pageBytes <= k.maxBytes {
		return err
	}
	return k.restart()
}

// isDue corrects the count: a page that a group wrote twice is in the log once, so there may be far less.
func (k *checkpoints) isDue(p progress) bool {
	pages := p.pages - p.copied
	k.pages.Store(pages)
	return pages >= longCycle*k.duePages || pages >= k.duePages && k.groups.Load() >= dueGroups
}

// alone makes a checkpoint while nobody of this process commits.
func (k *checkpoints) alone(mode string) (progress, error) {
	w := k.db.writer
	w.turn.Lock()
	defer w.turn.Unlock()
	return k.checkpoint(mode)
}

// restart empties the log that snapshots have kept from being used again. The time limit ends them if nothing else.
func (k *checkpoints) restart() error {
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
	_, err := k.alone("RESTART")
	return err
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
	p = progress{stmt.ColumnInt64(1), stmt.ColumnInt64(2)}
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
			db.pool.endOlder(now.Add(-backend.MaxDuration), errTooOld)
			if err := db.files.check(); err != nil {
				db.fail(err)
			}
		}
	}
}

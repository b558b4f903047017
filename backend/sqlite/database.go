// Package sqlite keeps a database in one SQLite file: the embedded backend.
//
//	Transact ─ reads a snapshot ─> buffers writes ─┐
//	Transact ─ reads a snapshot ─> buffers writes ─┼─> one writer: validate, apply, one fsync ─> all return
//	Transact ─ reads a snapshot ─> buffers writes ─┘
//
// Transactions run beside each other, each against a snapshot of its own, and keep their writes to themselves. Those
// that are ready while one fsync runs are committed together by the next: each is checked against what was committed
// since its snapshot, and runs again when it lost. So a thousand callers cost one fsync, and no caller waits for
// another's Go code.
//
// What it guarantees is what [backend.Database] says. A commit is on the disk when Transact returns, but for [Relaxed] and
// for what says that it may get there with a later one ([backend.AsyncCommitter]).
// Any number of processes may open the same file on a local disk, and one process may open it more than once:
// what another process commits is a conflict like any other, and fires watches within milliseconds. An I/O error while
// committing ends the handle, as such a commit may still come true: see [DB.Transact].
//
// The package knows keys and values. What they mean is known above it.
package sqlite

import (
	"cmp"
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

// DB is an open file. It implements [backend.Database].
type DB struct {
	path        string
	files       *files
	pool        pool
	writer      *writer
	log         *occ.Log
	watches     *occ.Watches
	noticed     chan struct{} // has room for one: there was notice of a commit
	hears       atomic.Bool   // the next one is looked at when it comes
	checkpoints checkpoints
	free        func(path string) int64 // on the disk
	reports     occ.Reports

	ended      atomic.Pointer[error] // why the handle is over
	calls      backend.Calls
	stopOnce   sync.Once
	stopped    chan struct{}
	background sync.WaitGroup
	closeOnce  sync.Once
}

// Open opens the file at path and creates it if it is not there, readable for its owner alone; its folder must be. To
// give it another mode, make an empty file of that mode first. It waits up to 10 s for locks of other processes. It
// refuses what is not a database of this package or was written by a newer release, and files that it may not write.
// Damage found later is reported as [backend.ErrCorrupt].
//
// The handle ends when the file, or one of the two that SQLite keeps beside it (-wal and -shm), is removed, moved or
// replaced while it is open: calls get [backend.ErrClosed] with that as the reason.
func Open(path string, opts ...Option) (*DB, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if err := checkName(path); err != nil {
		return nil, err
	}
	f, err := findFiles(path)
	if err != nil {
		return nil, err
	}
	db := newDB(f)
	if err := db.connect(o); err != nil {
		return nil, describe("open", db.path, err)
	}
	db.background.Go(db.writer.Run)
	db.background.Go(newPoll(db, db.watches).run)
	db.background.Go(db.checkpoints.keep)
	db.background.Go(db.reap)
	return db, nil
}

func newDB(f *files) *DB {
	db := &DB{path: f.path, files: f, log: occ.NewLog(errs), watches: occ.NewWatches(), noticed: make(chan struct{}, 1), stopped: make(chan struct{})}
	db.pool = pool{path: f.path, limit: maxReaders, connect: db.openConnection, pause: db.pause}
	db.checkpoints = newCheckpoints(db)
	db.free = freeBytes
	return db
}

// connect opens the two connections that are always there: the writer's and that of the checkpoints.
func (db *DB) connect(o options) error {
	first, err := connect(db.files.real)
	if err != nil {
		return err
	}
	if err := prepareFile(first, o); err != nil {
		return errors.Join(err, first.Close())
	}
	if db.writer, err = newWriter(db, first, o); err != nil {
		return err
	}
	second, err := connect(db.files.real)
	if err == nil {
		err = patiently(func() error { return executeAll(second, syncPragmas(o)...) })
	}
	if err == nil {
		err = db.files.opened()
	}
	if err != nil {
		return errors.Join(err, closeAll(second, first))
	}
	db.checkpoints.conn = second
	return nil
}

func closeAll(conns ...*driver.Conn) (err error) {
	for _, c := range conns {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// Transact implements [backend.Database]. A full disk fails the transactions that met it, which may be tried again
// when there is space. An I/O error or damage that the commit meets ends the handle: the transactions of that commit
// get [backend.ErrCommitUnknown] with the cause, all later calls [backend.ErrClosed] with it, and only a new Open,
// which reads what is really on the disk, can go on.
func (db *DB) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	call := db.calls.Enter("Transact", fn)
	if call == nil {
		return db.refusal()
	}
	defer db.calls.Leave(call)
	wasOld, fresh := false, false
	for {
		_ = db.writer.awaitShare(ctx) // its error is that of check
		if err := db.check(ctx); err != nil {
			return err
		}
		a := &attempt{snapshot: snapshot{db: db, ctx: ctx}}
		a.tx.Begin(ctx, db.log, &a.snapshot, &a.snapshot.base, fresh)
		err := a.tx.Attempt(fn, db.writer.Queue)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, occ.ErrLost):
			fresh = true
		case !wasOld && errors.Is(err, errs.TooOld):
			wasOld, fresh = true, true // its time begins with its snapshot, however long it waits for one
		default:
			return err
		}
	}
}

// attempt is one run of a transaction's function, with its commit.
type attempt struct {
	tx       occ.Tx
	snapshot snapshot
}

// Read implements [backend.Database].
func (db *DB) Read(ctx context.Context, fn func(tx backend.ReadTx) error) error {
	call := db.calls.Enter("Read", fn)
	if call == nil {
		return db.refusal()
	}
	defer db.calls.Leave(call)
	for wasOld := false; ; wasOld = true {
		if err := db.check(ctx); err != nil {
			return err
		}
		t := &readTx{snapshot: snapshot{db: db, ctx: ctx}, suspects: db.watches.Suspected()}
		t.snapshot.base.Draw(db.log, time.Now())
		err := t.run(fn)
		if err == nil {
			err = t.err
		}
		if err == nil {
			db.watches.Set(t.watches, &t.snapshot.base, t.suspects)
			return nil
		}
		if wasOld || !errors.Is(err, errs.TooOld) {
			return err
		}
	}
}

// refusal is why a database that has ended refuses.
func (db *DB) refusal() error {
	if ended := db.ended.Load(); ended != nil {
		return *ended
	}
	return nil
}

// check refuses what should not begin.
func (db *DB) check(ctx context.Context) error {
	if err := db.refusal(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlite: begin a transaction: %w", err)
	}
	return nil
}

// Close implements [backend.Database].
func (db *DB) Close() (err error) {
	db.closeOnce.Do(func() { err = db.close() })
	return err
}

// lastWait is how long Close waits for the disk after it has waited for the calls.
const lastWait = 2 * time.Second

// close ends everything that the handle has begun. A function that does not return holds it up for backend.MaxClose: its
// snapshot has ended, and its commit would be refused, so nothing of the file is its any more. A disk that does not
// answer cannot be taken its files; then they are closed when it does, and Close does not wait for that.
func (db *DB) close() error {
	closed := make(chan error, 1)
	go func() {
		db.stop(closedBy(nil))
		db.calls.Close()
		left := db.calls.Await()
		db.writer.Rest()
		db.writer.Quit()
		db.background.Wait()
		db.writer.forgetStatements()
		err := errors.Join(db.pool.close(), closeAll(db.checkpoints.conn, db.writer.conn.conn))
		if left != nil {
			err = errors.Join(fmt.Errorf("sqlite: close %s: %w", db.path, left), err)
		}
		closed <- err
	}()
	limit := time.NewTimer(backend.MaxClose + lastWait)
	defer limit.Stop()
	select {
	case err := <-closed:
		return err
	case <-limit.C:
		return fmt.Errorf("sqlite: close %s: the disk does not answer: %w", db.path,
			cmp.Or(db.calls.Left(), backend.ErrLeftBehind))
	}
}

// openConnection opens one that reads, unless it would read another file.
func (db *DB) openConnection() (*connection, error) {
	err := db.checkFiles()
	if err != nil {
		return nil, err
	}
	c, err := openConnection(db.files.real)
	if err != nil {
		return nil, err
	}
	if err := db.checkFiles(); err != nil {
		return nil, errors.Join(err, c.conn.Close())
	}
	return c, nil
}

// checkFiles ends the handle when its files are gone.
func (db *DB) checkFiles() error { return db.judgeFiles(db.files.check()) }

func (db *DB) judgeFiles(err error) error {
	if err == nil {
		return nil
	}
	db.fail(err)
	return closedBy(err)
}

// fail ends the handle after an error with which nothing more may be written.
func (db *DB) fail(cause error) { db.stop(closedBy(cause)) }

// stop ends everything but what Close has to wait for. The first cause stays.
func (db *DB) stop(cause error) {
	db.stopOnce.Do(func() {
		db.ended.Store(&cause)
		db.writer.Stop(cause)
		close(db.stopped)
		db.watches.Close()
		db.pool.stop(cause) // waits for reads that the disk is at
	})
}

// judge describes an error of the writer. One that is not harmless ends the handle and is wrapped by wrap.
func (db *DB) judge(doing string, err error, wrap func(error) error) error {
	described := describe(doing, db.path, err)
	if isHarmless(err) {
		return described
	}
	db.fail(described)
	return wrap(described)
}

// readError describes an error of a read.
func (db *DB) readError(err error) error {
	if err == nil {
		return nil
	}
	return describe("read", db.path, err)
}

var _ backend.Reporter = (*DB)(nil)

// Report implements [backend.Reporter]. It tells that the log grows beyond its bounds, and that it is back in them.
func (db *DB) Report(to func(error)) (stop func()) { return db.reports.Add(to) }

// pause waits unless ctx or the database ends, and returns why.
func (db *DB) pause(ctx context.Context, d time.Duration) error { return db.await(ctx, d, nil) }

// awaitNotice waits as pause does, until there is notice of a commit, of whichever process.
func (db *DB) awaitNotice(ctx context.Context, d time.Duration) error {
	return db.await(ctx, d, db.noticed)
}

// notice lets who waits for a commit go on.
func (db *DB) notice() {
	select {
	case db.noticed <- struct{}{}:
	default:
	}
}

func (db *DB) await(ctx context.Context, d time.Duration, notice <-chan struct{}) error {
	if err := db.check(ctx); err != nil || d <= 0 {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-notice:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-db.stopped:
		return db.refusal()
	}
}

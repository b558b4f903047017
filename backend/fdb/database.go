//go:build fdb

package fdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// DB is an open cluster. It implements [backend.Database].
type DB struct {
	options options
	cluster cluster
	space   shared[space]
	session shared[session]
	counts  counters
	recent  recent

	life       context.Context // ends with Close
	end        context.CancelFunc
	calls      backend.Calls
	commits    commits // that wait or are under way, with their resolution
	line       line
	background sync.WaitGroup
	closeOnce  sync.Once

	// What commits an attempt, and a transaction of the books, and waits for the answer. Tests put faults here.
	send, note func(tr fdb.Transaction) error
}

// Open prepares a handle on the cluster of a cluster file; "" is the one that FoundationDB's own tools use by default.
// It refuses what is no cluster file and sends nothing: whether the cluster can be reached shows in the first call,
// which waits for it as long as its context lets it. Handles of one process on one cluster share their connection,
// which lives as long as the process.
func Open(clusterFile string, opts ...Option) (*DB, error) {
	o := defaults()
	for _, opt := range opts {
		opt(&o)
	}
	if len(o.path) == 0 {
		return nil, errors.New("fdb: a directory's path has at least one name")
	}
	c, err := connect(clusterFile)
	if err != nil {
		return nil, err
	}
	db := &DB{options: o, cluster: c, send: commit, note: commit}
	db.life, db.end = context.WithCancel(context.Background())
	db.background.Go(db.keep)
	return db, nil
}

func commit(tr fdb.Transaction) error { return tr.Commit().Get() }

// Stats counts what the handle has met since Open.
func (db *DB) Stats() Stats { return db.counts.read() }

// Transact implements [backend.Database]. A commit that ends without an answer is looked up, and fenced off where it
// has not happened, before fn runs again or Transact returns. An outcome is awaited for a tenth of a second after ctx
// has ended; only then the error is [backend.ErrCommitUnknown].
func (db *DB) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	call := db.calls.Enter("Transact", fn)
	if call == nil {
		return fmt.Errorf("fdb: %w", backend.ErrClosed)
	}
	defer db.calls.Leave(call)
	s, err := db.opened(ctx)
	if err != nil {
		return err
	}
	isFirst := true
	return db.repeat(ctx, func() error {
		t := newTx(ctx, db, s, isFirst)
		isFirst = false
		err := t.attempt(fn)
		t.outcome.conclude(backend.Versionstamp{}, err)
		return err
	})
}

// Read implements [backend.Database].
func (db *DB) Read(ctx context.Context, fn func(tx backend.ReadTx) error) error {
	call := db.calls.Enter("Read", fn)
	if call == nil {
		return fmt.Errorf("fdb: %w", backend.ErrClosed)
	}
	defer db.calls.Leave(call)
	s, err := db.opened(ctx)
	if err != nil {
		return err
	}
	return db.repeat(ctx, func() error { return newReadTx(ctx, db, s).attempt(fn) })
}

// opened is the directory, which is opened if nobody has.
func (db *DB) opened(ctx context.Context) (*space, error) {
	s, err := db.space.get(ctx, db.openSpace)
	if err != nil && ctx.Err() != nil && db.life.Err() == nil {
		err = db.unreached(ctx, "open the directory")
	}
	return s, err
}

// repeat runs attempt until it is not lost. Being too old is final the second time.
func (db *DB) repeat(ctx context.Context, attempt func() error) error {
	wasOld := false
	for n := 0; ; n++ {
		if err := db.check(ctx); err != nil {
			return err
		}
		err := attempt()
		again, isLost := err.(*lost) //nolint:errorlint // what fn's own error may wrap is not this attempt's
		switch {
		case err == nil:
			return nil
		case isLost && again.isRecalled:
			db.counts.forgotten.Add(1)
			n--
		case isLost:
			db.counts.conflicts.Add(1)
			if err := db.pause(ctx, delay(again, n)); err != nil {
				return err
			}
		case err == errTooOld && !wasOld: //nolint:errorlint // as above
			wasOld = true
		default:
			return err
		}
	}
}

// How long an attempt that was lost waits, at most, before it runs again: briefly when it lost to another transaction,
// longer when the cluster is in trouble.
const (
	raceDelay    = time.Millisecond
	raceDelayMax = 100 * time.Millisecond
	downDelay    = 10 * time.Millisecond
	downDelayMax = time.Second
)

func delay(e *lost, attempt int) time.Duration {
	switch {
	case e.isRace() && attempt == 0:
		return 0
	case e.isRace():
		return upTo(raceDelay, raceDelayMax, attempt)
	}
	return upTo(downDelay, downDelayMax, attempt)
}

// upTo is random, and doubles with each attempt.
func upTo(first, most time.Duration, attempt int) time.Duration {
	return rand.N(min(first<<min(attempt, 10), most)) + 1
}

// check refuses what should not begin.
func (db *DB) check(ctx context.Context) error {
	if db.life.Err() != nil {
		return fmt.Errorf("fdb: %w", backend.ErrClosed)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("fdb: begin a transaction: %w", ctx.Err())
	}
	return nil
}

// pause waits unless ctx or the database ends, and returns why.
func (db *DB) pause(ctx context.Context, d time.Duration) error {
	if err := db.check(ctx); err != nil || d <= 0 {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
	case <-db.life.Done():
	}
	return db.check(ctx)
}

// closePatience bounds what Close waits for where the cluster does not answer.
const closePatience = time.Second

// Close implements [backend.Database]. Where the cluster cannot be reached, a commit that was sent may stay behind in
// the client library; its caller was told [backend.ErrCommitUnknown].
func (db *DB) Close() (err error) {
	db.closeOnce.Do(func() { err = db.close() })
	return err
}

func (db *DB) close() error {
	db.calls.Close()
	committed := db.commits.close()
	db.end()
	left := db.calls.Await()
	db.background.Wait()
	patience, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	select {
	case <-committed:
		db.leaveSession(patience)
	case <-patience.Done():
	}
	if left != nil {
		return fmt.Errorf("fdb: close: %w", left)
	}
	return nil
}

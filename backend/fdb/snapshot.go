//go:build fdb

package fdb

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// snapshot is what both kinds of transactions read from: a transaction of the client library, made with the first read.
//
// Waiting for the library cannot be interrupted, but cancelling its transaction ends all waits. So the ends of the
// context and of the database cancel it, from its beginning on.
type snapshot struct {
	db    *DB
	space *space
	ctx   context.Context
	tr    fdb.Transaction
	began time.Time             // of the first read
	cause atomic.Pointer[error] // why the transaction was cancelled
	stops [2]func() bool        // of what may cancel it; nil before there is a transaction
	err   error                 // the first error of a read or a write: it fails the attempt
}

// open makes the transaction, if there is none. It fails only where memory does.
func (s *snapshot) open() error {
	if s.tr != (fdb.Transaction{}) {
		return nil
	}
	tr, err := s.db.cluster.conn.CreateTransaction()
	if err != nil {
		return s.fail(describe("begin a transaction", err))
	}
	s.tr = tr
	s.arm()
	return nil
}

// arm lets what ends the attempt cancel its transaction.
func (s *snapshot) arm() {
	s.stops[0] = context.AfterFunc(s.ctx, func() {
		s.cancel(fmt.Errorf("fdb: read from the cluster of %s: %w", s.db.cluster.name, s.ctx.Err()))
	})
	s.stops[1] = context.AfterFunc(s.db.life, func() { s.cancel(fmt.Errorf("fdb: %w", backend.ErrClosed)) })
}

// cancel ends all waits with cause.
func (s *snapshot) cancel(cause error) {
	if s.cause.CompareAndSwap(nil, &cause) {
		s.tr.Cancel()
	}
}

// disarm makes sure that nothing cancels the transaction any more, and reports why it was cancelled already.
func (s *snapshot) disarm() error {
	ours, lives := s.stops[0](), s.stops[1]() // both, as each keeps the transaction in memory until its context has ended
	if !ours || !lives {
		return s.interrupted()
	}
	return nil
}

// interrupted is what to tell of an attempt that has ended early.
func (s *snapshot) interrupted() error {
	if s.db.life.Err() != nil {
		return fmt.Errorf("fdb: %w", backend.ErrClosed)
	}
	return fmt.Errorf("fdb: begin a commit: %w", s.ctx.Err())
}

// finish ends the attempt unless its commit was sent. What is still waited for ends with errEnded.
func (s *snapshot) finish() {
	if s.stops[0] != nil && s.disarm() == nil {
		s.cancel(errEnded)
	}
}

// start is called before each read.
func (s *snapshot) start() error {
	switch {
	case s.err != nil:
		return s.err
	case s.cause.Load() != nil:
		return s.fail(*s.cause.Load())
	case s.began.IsZero():
		s.began = time.Now()
		return s.open()
	case time.Since(s.began) > backend.MaxDuration:
		return s.fail(errTooOld)
	}
	return nil
}

// keep keeps the first error.
func (s *snapshot) keep(err error) {
	if s.err == nil {
		s.err = err
	}
}

// fail keeps the first error and returns err.
func (s *snapshot) fail(err error) error {
	s.keep(err)
	return err
}

// failed turns an error of the library into the contract's, and keeps it.
func (s *snapshot) failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	return s.fail(s.judge(doing, err))
}

func (s *snapshot) judge(doing string, err error) error {
	if cause := s.cause.Load(); cause != nil {
		return *cause
	}
	switch {
	case codeOf(err) == codeTooOld && s.isOld():
		return errTooOld
	case isRefusal(err) || isOutage(err):
		return &lost{cause: err}
	}
	return describe(doing, err)
}

// isOld reports whether it was the attempt that took long. A recovery of the cluster makes all transactions too old
// that were under way, however short they are: that is no fault of theirs, and does not count.
func (s *snapshot) isOld() bool {
	return !s.began.IsZero() && time.Since(s.began) > backend.MaxDuration/2
}

// key is where k is stored.
func (s *snapshot) key(k backend.Key) fdb.Key { return fdb.Key(s.space.data.Join(k)) }

func (s *snapshot) keys(r backend.Range) fdb.KeyRange {
	return fdb.KeyRange{Begin: s.key(r.Begin), End: s.key(r.End)}
}

// run calls fn, and ends the attempt when fn panics.
func run[T any](s *snapshot, fn func(T) error, t T) (err error) {
	panicked := true
	defer func() {
		if panicked {
			s.finish()
		}
	}()
	err = fn(t)
	panicked = false
	return s.verdict(err)
}

// verdict is how fn ended. Where a read was refused or came too late, what fn made of that does not matter.
func (s *snapshot) verdict(err error) error {
	if errors.Is(s.err, errTooOld) {
		return errTooOld
	}
	var again *lost
	if errors.As(s.err, &again) {
		return again
	}
	if err == nil {
		return s.err
	}
	return err
}

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// snapshot is what a transaction reads: one state of the database, from its first read until it is finished by the
// transaction, by its time limit or by Close. Reads wait until the first of them is waited for; then all go out together,
// and one round trip brings them, with those of others (view.go).
type snapshot struct {
	db   *DB
	ctx  context.Context
	base occ.Base

	mu      sync.Mutex // held while reads run, so that whoever ends the snapshot waits for them
	view    *view      // nil before the first read and after the end
	waiting []*query
	ended   error
	lost    error // an outage that a read has met

	isAlone    bool // it is in a view of its own
	isAnothers bool // what has ended it may be due to another one's read
}

var _ occ.Starter = (*snapshot)(nil)

// StartGet implements [occ.Starter].
func (s *snapshot) StartGet(key backend.Key) (wait func() ([]byte, error)) {
	q := s.start(&query{r: key.Only(), isKey: true})
	return func() ([]byte, error) {
		s.flush(q)
		return q.value, q.err
	}
}

// StartScan implements [occ.Starter].
func (s *snapshot) StartScan(r backend.Range, o backend.RangeOptions) (wait func() ([]backend.KeyValue, bool, error)) {
	q := s.start(&query{r: r, o: o, isDone: r.IsEmpty()})
	return func() ([]backend.KeyValue, bool, error) {
		s.flush(q)
		return q.pairs, q.cut, q.err
	}
}

// Get implements [occ.Snapshot].
func (s *snapshot) Get(key backend.Key) ([]byte, error) { return s.StartGet(key)() }

// Scan implements [occ.Snapshot].
func (s *snapshot) Scan(r backend.Range, o backend.RangeOptions) ([]backend.KeyValue, bool, error) {
	return s.StartScan(r, o)()
}

func (s *snapshot) start(q *query) *query {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !q.isDone {
		s.waiting = append(s.waiting, q)
	}
	return q
}

// flush sends what waits, q among it, and reads the answers.
func (s *snapshot) flush(q *query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.isDone {
		return
	}
	waiting := s.waiting
	s.waiting = nil
	err := s.fetch(waiting)
	for _, q := range waiting {
		if q.isDone = true; err != nil {
			q.value, q.pairs, q.cut, q.err = nil, nil, false, err
		}
	}
}

// fetch carries out queries. The caller holds mu.
func (s *snapshot) fetch(queries []*query) error {
	if s.ended != nil {
		return s.ended
	}
	r := newRequest(queries)
	if err := s.carryOut(r); err != nil {
		return s.failed(err)
	}
	for i, q := range queries {
		done := &r.queries[i]
		q.value, q.pairs, q.cut = done.value, done.pairs, done.cut
	}
	return nil
}

// carryOut has a request carried out, the first one in a view that begins. The end of ctx leaves it to others.
func (s *snapshot) carryOut(r *request) error {
	if s.view != nil {
		s.view.read(r)
		select {
		case <-r.done:
			return r.err
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
	if err := s.db.check(s.ctx); err != nil {
		return err
	}
	j := &joiner{request: r, isAlone: s.isAlone}
	s.db.pool.join(j)
	select {
	case <-r.done:
	case <-s.ctx.Done():
		if s.db.pool.withdraw(j) {
			return fmt.Errorf("postgres: wait for one of the %d snapshots: %w", cap(s.db.pool.slots), context.Cause(s.ctx))
		}
		s.view = j.view
		return context.Cause(s.ctx)
	}
	if s.view = j.view; s.view != nil {
		s.base.Join(&s.view.base)
	}
	return r.err
}

// failed ends the snapshot after an error of a read, and tells what it was: the end of the context or of the database, an
// outage, or the server's word.
func (s *snapshot) failed(err error) error {
	if s.ctx.Err() != nil {
		err = unreached(s.ctx, err)
	}
	if isLost(err) {
		s.lost = err
	}
	s.isAnothers = errors.Is(err, errAnothers)
	s.finish(err)
	return err
}

// IsOpen implements [occ.Snapshot].
func (s *snapshot) IsOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended == nil && s.ctx.Err() == nil
}

// Finish implements [occ.Snapshot].
func (s *snapshot) Finish(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(cause)
}

// finish ends the snapshot. The caller holds mu.
func (s *snapshot) finish(cause error) {
	if s.ended == nil {
		s.ended = cause
	}
	if s.view != nil {
		s.view.leave()
		s.view = nil
	}
}

// readTx implements [backend.ReadTx].
type readTx struct {
	snapshot snapshot
	suspects uint64
	watches  []*occ.Watch
	started  []func()
	err      error
}

// run calls fn and waits for what it has started. The snapshot ends also by a panic.
func (t *readTx) run(fn func(tx backend.ReadTx) error) error {
	defer t.snapshot.Finish(errs.Ended)
	err := fn(t)
	for _, wait := range t.started {
		wait()
	}
	if err == nil {
		err = t.err
	}
	return err
}

// Get implements [backend.ReadTx].
func (t *readTx) Get(key backend.Key) backend.Future[[]byte] {
	wait := t.snapshot.StartGet(bytes.Clone(key))
	t.started = append(t.started, func() {
		_, err := wait()
		t.fail(err)
	})
	return backend.Later(wait)
}

// GetRange implements [backend.ReadTx].
func (t *readTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	wait := t.snapshot.StartScan(backend.Range{Begin: bytes.Clone(r.Begin), End: bytes.Clone(r.End)}, o)
	t.started = append(t.started, func() {
		_, _, err := wait()
		t.fail(err)
	})
	return backend.Later(func() ([]backend.KeyValue, error) {
		pairs, _, err := wait()
		return pairs, err
	})
}

// Watch implements [backend.ReadTx].
func (t *readTx) Watch(key backend.Key) backend.Watch {
	w := t.snapshot.db.watches.Make(key, nil)
	t.watches = append(t.watches, w)
	wait := t.snapshot.StartGet(bytes.Clone(key))
	t.started = append(t.started, func() {
		seen, err := wait()
		w.Saw(seen)
		t.fail(err)
	})
	return w
}

func (t *readTx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

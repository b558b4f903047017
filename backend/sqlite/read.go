package sqlite

import (
	"context"
	"slices"
	"sync"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// snapshot is what a transaction reads: one state of the file, from its first read until it is finished by the
// transaction, by its time limit or by Close.
type snapshot struct {
	db   *DB
	ctx  context.Context
	base occ.Base

	mu    sync.Mutex  // held while a read runs, so that whoever ends the snapshot waits for it
	conn  *connection // nil before the first read and after the end
	ended error
}

// locked returns the connection with the snapshot on it. The caller holds mu.
func (s *snapshot) locked() (*connection, error) {
	if s.ended != nil {
		return nil, s.ended
	}
	if s.conn != nil {
		if time.Since(s.conn.since) > backend.MaxDuration {
			s.finishLocked(errs.TooOld)
			return nil, errs.TooOld
		}
		return s.conn, nil
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	c, err := s.db.pool.acquire(s.ctx, s)
	if err != nil {
		return nil, err
	}
	s.base.Draw(s.db.log, c.since)
	// BEGIN alone takes no snapshot, the first SELECT does.
	if err := drain(c.begin); err != nil {
		s.db.pool.release(c, true)
		return nil, s.db.readError(err)
	}
	s.conn = c
	return c, nil
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
	s.finishLocked(cause)
}

func (s *snapshot) finishLocked(cause error) {
	if s.ended == nil {
		s.ended = cause
	}
	if s.conn != nil {
		s.db.pool.release(s.conn, drain(s.conn.end) != nil)
		s.conn = nil
	}
}

// Get implements [occ.Snapshot].
// Another process that mends the log after a crash, or that closes the file as the last, is waited for.
func (s *snapshot) Get(key backend.Key) (value []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.locked()
	if err != nil {
		return nil, err
	}
	for {
		value, err = c.Value(key)
		if err == nil || !isBusy(err) {
			return value, s.db.readError(err)
		}
		if err := s.db.pause(s.ctx, busyPause); err != nil {
			return nil, err
		}
	}
}

// Scan implements [occ.Snapshot].
func (s *snapshot) Scan(r backend.Range, o backend.RangeOptions) (pairs []backend.KeyValue, cut bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.locked()
	if err != nil {
		return nil, false, err
	}
	for {
		pairs, cut, err = c.pairs(r, o)
		if err == nil || !isBusy(err) {
			return pairs, cut, s.db.readError(err)
		}
		if err := s.db.pause(s.ctx, busyPause); err != nil {
			return nil, false, err
		}
	}
}

// readTx implements [backend.ReadTx].
type readTx struct {
	snapshot snapshot
	suspects uint64
	watches  []*occ.Watch
	err      error
}

func (t *readTx) run(fn func(tx backend.ReadTx) error) error {
	defer t.snapshot.Finish(errs.Ended)
	return fn(t)
}

// Get implements [backend.ReadTx].
func (t *readTx) Get(key backend.Key) backend.Future[[]byte] {
	value, err := t.snapshot.Get(key)
	t.fail(err)
	return backend.Ready(value, err)
}

// GetRange implements [backend.ReadTx].
func (t *readTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	pairs, _, err := t.snapshot.Scan(r, o)
	t.fail(err)
	return backend.Ready(pairs, err)
}

// Watch implements [backend.ReadTx].
func (t *readTx) Watch(key backend.Key) backend.Watch {
	seen, err := t.snapshot.Get(key)
	t.fail(err)
	w := t.snapshot.db.watches.Make(key, seen)
	t.watches = append(t.watches, w)
	return w
}

func (t *readTx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Value implements [occ.Current].
func (c *connection) Value(key backend.Key) ([]byte, error) {
	c.get.BindBytes(1, key)
	row, err := c.get.Step()
	if err != nil {
		return nil, err
	}
	if !row {
		return nil, c.get.Reset()
	}
	value := make([]byte, c.get.ColumnLen(0))
	c.get.ColumnBytes(0, value)
	return value, c.get.Reset()
}

// maxPassed rows are stepped over on the way from one key to the next; a statement of its own costs as much.
const maxPassed = 4

// values reads keys, of which it changes the order, into memory that is used again: nil of those that are not there. Keys that
// are close together, as bells are, share a statement.
func (c *connection) values(keys []string, each func(key string, value []byte)) error {
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	end := backend.Key(keys[len(keys)-1]).Only().End
	stmt, passed := c.forward, maxPassed
	var buf []byte
	column := func(i int) []byte {
		buf = slices.Grow(buf[:0], stmt.ColumnLen(i)+1)[:stmt.ColumnLen(i)]
		stmt.ColumnBytes(i, buf)
		return buf
	}
	for len(keys) > 0 {
		if passed == maxPassed {
			if err := stmt.Reset(); err != nil {
				return err
			}
			stmt.BindBytes(1, []byte(keys[0]))
			stmt.BindBytes(2, end)
			passed = 0
		}
		row, err := stmt.Step()
		if err != nil {
			return err
		}
		var found []byte
		if row {
			found = column(0)
		}
		for len(keys) > 0 && (!row || keys[0] < string(found)) {
			each(keys[0], nil)
			keys = keys[1:]
		}
		if passed++; len(keys) > 0 && keys[0] == string(found) {
			each(keys[0], column(1))
			keys, passed = keys[1:], 0
		}
	}
	return stmt.Reset()
}

// pairs reads a range, and reports whether a limit cut it.
func (c *connection) pairs(r backend.Range, o backend.RangeOptions) ([]backend.KeyValue, bool, error) {
	if r.IsEmpty() {
		return nil, false, nil
	}
	stmt := c.forward
	if o.Reverse {
		stmt = c.backward
	}
	stmt.BindBytes(1, r.Begin)
	stmt.BindBytes(2, r.End)
	c.rows.clear()
	for {
		row, err := stmt.Step()
		if err != nil {
			return nil, false, err
		}
		if !row {
			return c.rows.pairs(), false, stmt.Reset()
		}
		c.rows.add(stmt)
		if occ.Reached(o, c.rows.count(), c.rows.size) {
			return c.rows.pairs(), true, stmt.Reset()
		}
	}
}

// Pairs implements [occ.Current].
func (c *connection) Pairs(r backend.Range) ([]backend.KeyValue, error) {
	pairs, _, err := c.pairs(r, backend.RangeOptions{})
	return pairs, err
}

// rows gathers pairs in memory that is used again, so that a small range costs two allocations, and copies them off it
// whenever it is full, so that a large one is not moved as it grows.
type rows struct {
	bytes []byte
	ends  []int // of each key and each value in bytes

	copied []backend.KeyValue // those before
	size   int                // bytes of all keys and values
}

const rowsBytes = 64 << 10

func (r *rows) clear() {
	r.bytes, r.ends, r.copied, r.size = r.bytes[:0], r.ends[:0], nil, 0
}

func (r *rows) count() int { return len(r.copied) + len(r.ends)/2 }

func (r *rows) add(stmt *driver.Stmt) {
	if len(r.bytes) > rowsBytes {
		r.copied = r.pairs()
		r.bytes, r.ends = r.bytes[:0], r.ends[:0]
	}
	for column := range 2 {
		begin, size := len(r.bytes), stmt.ColumnLen(column)
		r.bytes = append(r.bytes, make([]byte, size)...)
		stmt.ColumnBytes(column, r.bytes[begin:])
		r.ends = append(r.ends, len(r.bytes))
		r.size += size
	}
}

// pairs copies what was gathered into memory of its own, behind what was copied before.
func (r *rows) pairs() []backend.KeyValue {
	n := len(r.ends) / 2
	if n == 0 {
		return r.copied
	}
	own := make([]byte, len(r.bytes))
	copy(own, r.bytes)
	pairs := slices.Grow(r.copied, n)
	begin := 0
	for i := range n {
		middle, end := r.ends[2*i], r.ends[2*i+1]
		pairs = append(pairs, backend.KeyValue{Key: own[begin:middle:middle], Value: own[middle:end:end]})
		begin = end
	}
	return pairs
}

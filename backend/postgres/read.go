package postgres

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// snapshot is what a transaction reads: one state of the database, from its first read until it is finished by the
// transaction, by its time limit or by Close. Reads wait until the first of them is waited for; then all go out together,
// after the begin of the transaction, and one round trip brings them.
type snapshot struct {
	db   *DB
	ctx  context.Context
	base occ.Base

	mu      sync.Mutex  // held while reads run, so that whoever ends the snapshot waits for them
	conn    *connection // nil before the first read and after the end
	io      context.Context
	cancel  context.CancelCauseFunc // of io; guarded by pool.mu, once the pool has it
	waiting []*query
	ended   error
	lost    error // an outage that a read has met
}

// query is a read that was started.
type query struct {
	r     backend.Range // of a key, its own
	o     backend.RangeOptions
	isKey bool

	isDone bool
	value  []byte
	pairs  []backend.KeyValue
	cut    bool
	err    error
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
	c, isFirst, err := s.open()
	if err != nil {
		return err
	}
	now := time.Now()
	if isFirst {
		s.base.Draw(s.db.log, now)
		s.db.pool.began(s, now)
	} else if now.Sub(s.base.Began) > backend.MaxDuration {
		s.finish(errs.TooOld)
		return errs.TooOld
	}
	if err = c.read(s.io, queries, isFirst); err == nil {
		return nil
	}
	return s.failed(err)
}

// open returns the connection, and whether the transaction on it is still to begin.
func (s *snapshot) open() (c *connection, isFirst bool, err error) {
	if s.ended != nil {
		return nil, false, s.ended
	}
	if s.conn != nil {
		return s.conn, false, nil
	}
	if err := s.db.check(s.ctx); err != nil {
		return nil, false, err
	}
	s.io, s.cancel = context.WithCancelCause(s.ctx)
	if s.conn, err = s.db.pool.acquire(s.io, s); err != nil {
		s.conn = nil
		return nil, false, s.failed(err)
	}
	return s.conn, true, nil
}

// failed ends the snapshot after an error of a read, and tells what it was: the end of the context or of the database, an
// outage, or the server's word.
func (s *snapshot) failed(err error) error {
	switch cause := context.Cause(s.io); {
	case s.ctx.Err() != nil:
		err = unreached(s.ctx, err)
	case cause != nil:
		err = cause
	case !errors.Is(err, backend.ErrClosed):
		err = judge("read", err)
	}
	if isLost(err) {
		s.lost = err
	}
	s.ended = err
	s.leave(true)
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

// end is Finish for others than the transaction: it interrupts a read.
func (s *snapshot) end(cause error) {
	s.db.pool.mu.Lock()
	cancel := s.cancel
	s.db.pool.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
	s.Finish(cause)
}

// finish ends the snapshot. The caller holds mu.
func (s *snapshot) finish(cause error) {
	if s.ended == nil {
		s.ended = cause
	}
	s.leave(false)
}

func (s *snapshot) leave(isBroken bool) {
	if s.conn != nil {
		s.db.pool.release(s, s.conn, isBroken)
		s.conn = nil
	}
	if s.cancel != nil {
		s.cancel(nil)
	}
}

// read carries out queries in one round trip, after the begin of their transaction where isFirst says so.
func (c *connection) read(ctx context.Context, queries []*query, isFirst bool) error {
	if err := c.prepareReads(ctx, queries, isFirst); err != nil {
		return err
	}
	var b pgconn.Batch
	skip := 0
	if isFirst {
		begin := c.sql.begin
		if c.isDirty {
			begin, c.isDirty = c.sql.chain, false
		}
		c.add(&b, begin)
		if skip++; c.isPooled {
			c.add(&b, c.sql.settings)
			skip++
		}
	}
	for _, q := range queries {
		c.addQuery(&b, q, stored(q.r))
	}
	results := c.pg.ExecBatch(ctx, &b)
	for ; skip > 0 && results.NextResult(); skip-- {
		_, _ = results.ResultReader().Close() // an error is that of the batch
	}
	for i := 0; i < len(queries) && results.NextResult(); i++ {
		queries[i].take(results.ResultReader())
	}
	if err := results.Close(); err != nil {
		return err
	}
	for _, q := range queries {
		if err := c.complete(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func (c *connection) prepareReads(ctx context.Context, queries []*query, isFirst bool) error {
	if isFirst {
		for _, sql := range []string{c.sql.begin, c.sql.chain, c.sql.settings} {
			if err := c.prepare(ctx, sql); err != nil {
				return err
			}
		}
	}
	for _, q := range queries {
		if err := c.prepare(ctx, c.sql.of(q)); err != nil {
			return err
		}
	}
	return nil
}

// of is the statement that carries out q.
func (s *statements) of(q *query) string {
	switch {
	case q.isKey && len(q.r.Begin) < headBytes:
		return s.get
	case q.o.Bytes > 0 && q.o.Reverse:
		return s.backwardBytes
	case q.o.Bytes > 0:
		return s.forwardBytes
	case q.o.Reverse:
		return s.backward
	}
	return s.forward
}

// addQuery puts q into a batch, for the rows of r.
func (c *connection) addQuery(b *pgconn.Batch, q *query, r backend.Range) {
	sql := c.sql.of(q)
	if sql == c.sql.get {
		c.add(b, sql, notNull(q.r.Begin))
		return
	}
	var limit []byte
	if n := q.pageRows(); n > 0 {
		limit = int64Parameter(int64(n))
	}
	if q.o.Bytes > 0 {
		c.add(b, sql, notNull(r.Begin), r.End, limit, int64Parameter(int64(q.o.Bytes)))
		return
	}
	c.add(b, sql, notNull(r.Begin), r.End, limit)
}

// pageRows is how many rows one statement brings at most; 0 is no limit.
func (q *query) pageRows() int {
	if q.o.Limit == 0 && q.o.Bytes > 0 {
		return pageRows
	}
	return q.o.Limit
}

// notNull is b, which the driver would take for NULL where it is nil.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// take reads the answer to q.
func (q *query) take(result *pgconn.ResultReader) {
	if q.isKey && len(q.r.Begin) < headBytes {
		for result.NextRow() {
			q.value = append([]byte{}, result.Values()[0]...)
		}
	} else {
		q.pairs = pairsOf(result)
	}
	_, _ = result.Close() // an error is that of the batch
}

// complete does what is left after the first page of a range: the long keys in it, and the rest of it, where the page
// and not the range had an end.
func (c *connection) complete(ctx context.Context, q *query) error {
	if q.isKey && len(q.r.Begin) < headBytes {
		return nil
	}
	page := q.pairs
	rest := stored(q.r)
	if !slices.ContainsFunc(page, isHead) { // as is usual
		if q.cut = occ.Reached(q.o, len(page), sizeOf(page)); q.cut || !q.isFull(page) {
			return nil
		}
	}
	q.pairs = nil
	for {
		if err := c.expand(ctx, q, page); err != nil {
			return err
		}
		if q.cut || !q.isFull(page) {
			break
		}
		if rest = beyond(rest, page[len(page)-1].Key, q.o.Reverse); rest.IsEmpty() {
			break
		}
		var err error
		if page, err = c.page(ctx, q, rest); err != nil {
			return err
		}
	}
	if q.isKey && len(q.pairs) > 0 {
		q.value = q.pairs[0].Value
	}
	return nil
}

// expand adds a page to the pairs of q, with what is stored for the heads in it, until a limit of q is reached.
func (c *connection) expand(ctx context.Context, q *query, page []backend.KeyValue) error {
	size := sizeOf(q.pairs)
	for i := range page {
		found := page[i : i+1]
		if isHead(page[i]) {
			var err error
			if found, err = c.longs(ctx, page[i].Key, q); err != nil {
				return err
			}
		}
		for _, kv := range found {
			q.pairs = append(q.pairs, kv)
			size += len(kv.Key) + len(kv.Value)
			if q.cut = occ.Reached(q.o, len(q.pairs), size); q.cut {
				return nil
			}
		}
	}
	return nil
}

// isFull reports whether a page had an end of its own, so that there may be more.
func (q *query) isFull(page []backend.KeyValue) bool {
	rows := q.pageRows()
	return rows > 0 && len(page) >= rows || q.o.Bytes > 0 && sizeOf(page) >= q.o.Bytes
}

// isHead reports whether a row stands for the long keys that begin with its own.
func isHead(kv backend.KeyValue) bool { return len(kv.Key) == headBytes }

func sizeOf(pairs []backend.KeyValue) int {
	n := 0
	for _, kv := range pairs {
		n += len(kv.Key) + len(kv.Value)
	}
	return n
}

// page reads the next rows of q, those of r.
func (c *connection) page(ctx context.Context, q *query, r backend.Range) ([]backend.KeyValue, error) {
	var b pgconn.Batch
	c.addQuery(&b, q, r)
	results := c.pg.ExecBatch(ctx, &b)
	var pairs []backend.KeyValue
	if results.NextResult() {
		pairs = pairsOf(results.ResultReader())
	}
	return pairs, results.Close()
}

// beyond is the part of r that is still to be read after the row of last.
func beyond(r backend.Range, last backend.Key, reverse bool) backend.Range {
	if reverse {
		return backend.Range{Begin: r.Begin, End: last}
	}
	return backend.Range{Begin: last.Only().End, End: r.End}
}

// stored is the range of the rows of kv that hold r: its own, or from the head of its begin to that of its end.
func stored(r backend.Range) backend.Range {
	if len(r.Begin) > headBytes {
		r.Begin = r.Begin[:headBytes]
	}
	if len(r.End) > headBytes {
		r.End = r.End[:headBytes:headBytes].Only().End
	}
	return r
}

// longs reads the keys of q's range that have this head.
func (c *connection) longs(ctx context.Context, head backend.Key, q *query) ([]backend.KeyValue, error) {
	if err := c.prepare(ctx, c.sql.longs); err != nil {
		return nil, err
	}
	var b pgconn.Batch
	c.add(&b, c.sql.longs, head, notNull(q.r.Begin), q.r.End)
	results := c.pg.ExecBatch(ctx, &b)
	var pairs []backend.KeyValue
	if results.NextResult() {
		pairs = pairsOf(results.ResultReader())
	}
	if q.o.Reverse {
		slices.Reverse(pairs)
	}
	return pairs, results.Close()
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

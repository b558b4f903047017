package occ

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Tx is one attempt of a transaction: reads of a snapshot, with its own writes over them, and what it will write. It
// implements [backend.Tx].
type Tx struct {
	ctx      context.Context
	log      *Log
	snapshot Snapshot
	starter  Starter // the snapshot, where reads are started
	base     *Base   // of the snapshot

	reads   Reads
	points  ordered // the keys that it writes
	cleared Spans   // what it clears besides, before it writes points
	appends []appended
	unknown Spans // the keys that the first placed of appends may get
	placed  int
	later   []laterClear // of some of these keys

	statements []backend.Statement
	pending    []func() // reads that were started, to be settled
	size       backend.Size
	err        error // the first error of a read or a write: it fails the commit
	outcome    *outcome
	arena      arena

	isAsync bool // its commit may reach the disk with a later one
	fresh   bool // reads the store, whatever is remembered
	guessed bool // its first read is what was remembered, and was not compared with the store
	recalls bool // its first read is to be remembered

	place  place
	commit backend.Versionstamp
	record *Record // which holds it, once it is committed

	// Result is how the commit ended, of a transaction that was picked.
	Result     error
	isDoubtful bool // the Result is of statements that saw those of others of the group

	// Room for a small transaction.
	someKeys   [4]keyRead
	someRanges [2]rangeRead
	somePoints [8]*Write
	someBlocks [1][]*Write
}

// appended is an Append, whose key is known at the commit.
type appended struct {
	prefix    backend.Key
	value     []byte
	isCleared bool // by a later Clear
}

// laterClear is a Clear that came after so many Appends, and may clear what they appended.
type laterClear struct {
	r       backend.Range
	appends int
}

// outcome is what Version waits for. It outlives the transaction.
type outcome struct {
	done  atomic.Bool // after which the others do not change
	stamp backend.Versionstamp
	err   error
}

// Begin makes t, whose other fields are zero, an attempt on a snapshot and its base. One that is fresh reads the store,
// whatever is remembered.
func (t *Tx) Begin(ctx context.Context, log *Log, snapshot Snapshot, base *Base, fresh bool) {
	t.ctx, t.log, t.snapshot, t.base, t.fresh = ctx, log, snapshot, base, fresh
	t.starter, _ = snapshot.(Starter)
	t.reads = Reads{t.someKeys[:0], t.someRanges[:0]}
	t.someBlocks[0] = t.somePoints[:0]
	t.points.blocks = t.someBlocks[:0]
}

// Attempt runs fn once and commits what it wrote by q.
func (t *Tx) Attempt(fn func(tx backend.Tx) error, q *Queue) error {
	err := t.run(fn)
	if err == nil && !t.isWrite() {
		t.conclude(t.log.errors.NoVersion)
		return nil
	}
	if err == nil && t.base.newest != nil && time.Since(t.base.Began) > backend.MaxDuration {
		err = t.log.errors.TooOld
	}
	if err == nil {
		err = q.Submit(t)
	}
	t.conclude(err)
	if err == nil {
		t.remember()
	}
	return err
}

// run ends the snapshot as soon as fn has returned, also by a panic: a commit does not need it.
func (t *Tx) run(fn func(tx backend.Tx) error) error {
	defer t.snapshot.Finish(t.log.errors.Ended)
	err := fn(t)
	if err != nil || t.err != nil || !t.isWrite() { // no commit will tell whether what fn saw was true
		_ = t.confirm() // is kept in t.err
	}
	t.settle()
	if errors.Is(t.err, ErrLost) { // fn need not have returned it
		return ErrLost
	}
	if err == nil {
		err = t.err
	}
	return err
}

// Committed notes the group that holds t.
func (t *Tx) Committed(group *Record) { t.record = group }

// start draws the line between the commits that the snapshot is sure to hold and those that must be looked through.
func (t *Tx) start() {
	if t.base.newest == nil {
		t.base.Draw(t.log, time.Now())
	}
}

// Get implements [backend.Tx].
func (t *Tx) Get(key backend.Key) backend.Future[[]byte] {
	if t.starter != nil && t.isPlain(key) {
		return t.startGet(key)
	}
	value, err := t.read(key)
	t.fail(err)
	return backend.Ready(value, err)
}

// GetRange implements [backend.Tx].
func (t *Tx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	if t.starter != nil && t.isPlainRange(r) {
		return t.startRange(r, o)
	}
	pairs, err := t.readRange(r, o)
	t.fail(err)
	return backend.Ready(pairs, err)
}

// fail keeps the first error.
func (t *Tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *Tx) read(key backend.Key) ([]byte, error) {
	t.start()
	own := t.points.find(key)
	switch {
	case own != nil && own.Kind == stamp || t.appendsTo(key.Only()):
		return nil, t.log.errors.Unreadable
	case own != nil && own.Kind == Set:
		return own.Value, nil
	case own != nil && own.Kind == Remove || own == nil && t.cleared.contains(key):
		return nil, nil
	}
	if err := t.confirm(); err != nil {
		return nil, err
	}
	value, err := t.snapshot.Get(key)
	if err != nil {
		return nil, err
	}
	if err := t.size.ConflictKey(key); err != nil {
		return nil, err
	}
	t.reads.keys = append(t.reads.keys, keyRead{t.arena.copy(key), value})
	if own != nil {
		return Sum(value, own.Delta), nil
	}
	return value, nil
}

func (t *Tx) readRange(r backend.Range, o backend.RangeOptions) ([]backend.KeyValue, error) {
	t.start()
	if r.IsEmpty() {
		return nil, nil
	}
	if t.appendsTo(r) {
		return nil, t.log.errors.Unreadable
	}
	if pairs, ok := t.guess(r, o); ok {
		return pairs, nil
	}
	if err := t.confirm(); err != nil {
		return nil, err
	}
	var stored, pairs []backend.KeyValue
	var cut bool
	var err error
	if t.points.any(r) || t.cleared.Overlaps(r) {
		stored, pairs, cut, err = t.merge(r, o)
	} else {
		first := t.reads.isBlank()
		stored, cut, err = t.snapshot.Scan(r, o)
		pairs = stored
		t.recalls = t.recalls || first && o.Snapshot && !o.Reverse && !cut
	}
	if err != nil {
		return nil, err
	}
	if cut {
		r = upTo(r, pairs[len(pairs)-1].Key, o.Reverse)
	}
	r = t.copyRange(r)
	t.reads.ranges = append(t.reads.ranges, rangeRead{r, stored, o.Snapshot, false})
	if !o.Snapshot {
		err = t.size.Conflict(r)
	}
	return pairs, err
}

func (t *Tx) copyRange(r backend.Range) backend.Range {
	return backend.Range{Begin: t.arena.copy(r.Begin), End: t.arena.copy(r.End)}
}

// upTo is the part of r that a read has seen which ended at last.
func upTo(r backend.Range, last backend.Key, reverse bool) backend.Range {
	if reverse {
		return backend.Range{Begin: last, End: r.End}
	}
	return backend.Range{Begin: r.Begin, End: last.Only().End}
}

// appendsTo reports whether an Append of this transaction could make a key in r.
func (t *Tx) appendsTo(r backend.Range) bool {
	for ; t.placed < len(t.appends); t.placed++ {
		prefix := t.appends[t.placed].prefix
		if t.placed == 0 || !bytes.Equal(t.appends[t.placed-1].prefix, prefix) {
			t.unknown.Add(backend.Range{Begin: prefix.Stamp(backend.Versionstamp{}), End: prefix.Stamp(latest).Only().End})
		}
	}
	return t.unknown.Overlaps(r)
}

// keyOf is the key of an Append in the commit.
func (t *Tx) keyOf(i int) backend.Key {
	return t.appends[i].prefix.Stamp(t.commit.WithOrder(uint16(i)))
}

// dropCleared finds the Appends that later Clears have cleared, from the last one backwards, so that each Clear is
// looked at once.
func (t *Tx) dropCleared() {
	if len(t.later) == 0 {
		return
	}
	var cleared Spans
	clears := t.later
	for i := len(t.appends) - 1; i >= 0; i-- {
		for n := len(clears); n > 0 && clears[n-1].appends > i; n-- {
			cleared.Add(clears[n-1].r)
			clears = clears[:n-1]
		}
		t.appends[i].isCleared = cleared.contains(t.keyOf(i))
	}
}

var latest = backend.Versionstamp(bytes.Repeat([]byte{0xff}, len(backend.Versionstamp{})))

// Set implements [backend.Tx].
func (t *Tx) Set(key backend.Key, value []byte) {
	t.fail(t.size.Write(key, len(value)))
	if t.err == nil {
		t.points.put(t.arena.write(Set, key, value, 0))
	}
}

// Clear implements [backend.Tx].
func (t *Tx) Clear(r backend.Range) {
	t.fail(t.size.Clear(r))
	if t.err != nil || r.IsEmpty() {
		return
	}
	r = t.copyRange(r)
	if t.appendsTo(r) {
		t.later = append(t.later, laterClear{r, len(t.appends)})
	}
	if isOnly(r) {
		t.points.put(t.arena.write(Remove, r.Begin, nil, 0))
		return
	}
	t.points.drop(r)
	t.cleared.Add(r)
}

// isOnly reports whether r is the range of one key.
func isOnly(r backend.Range) bool {
	n := len(r.Begin)
	return len(r.End) == n+1 && r.End[n] == 0 && bytes.Equal(r.End[:n], r.Begin)
}

// Add implements [backend.Tx].
func (t *Tx) Add(key backend.Key, delta int64) {
	t.fail(t.size.Write(key, counterBytes))
	if t.err != nil {
		return
	}
	own := t.points.find(key)
	switch {
	case own != nil && own.Kind == stamp:
		t.fail(t.log.errors.Unreadable)
	case own != nil:
		t.points.put(plus(own, delta))
	case t.cleared.contains(key):
		t.points.put(t.arena.write(Set, key, Sum(nil, delta), 0))
	default:
		t.points.put(t.arena.write(Add, key, nil, delta))
	}
}

// Append implements [backend.Tx].
func (t *Tx) Append(prefix backend.Key, value []byte) {
	t.fail(t.size.Append(prefix, len(value)))
	if t.err == nil {
		t.appends = append(t.appends, appended{prefix: t.arena.copy(prefix), value: t.arena.copy(value)})
	}
}

// Exec implements [backend.Execer].
func (t *Tx) Exec(s backend.Statement) {
	t.fail(t.size.Statement(s))
	if t.err == nil {
		t.statements = append(t.statements, s)
	}
}

// CommitAsync implements [backend.AsyncCommitter]. A store that has no use for it does not ask ([Queue.IsAsync]).
func (t *Tx) CommitAsync() { t.isAsync = true }

// Statements are run before t is absorbed. When one fails, t is not committed.
func (t *Tx) Statements() []backend.Statement { return t.statements }

// Stamp implements [backend.Tx].
func (t *Tx) Stamp(key backend.Key) {
	t.fail(t.size.Write(key, len(backend.Versionstamp{})))
	if t.err == nil {
		t.points.put(t.arena.write(stamp, key, nil, 0))
	}
}

// Conflict implements [backend.Tx]. It needs the value, for the case that another process commits meanwhile. Where a
// range that was read has it, it costs nothing.
func (t *Tx) Conflict(key backend.Key) {
	t.start()
	t.fail(t.size.ConflictKey(key))
	if t.err != nil {
		return
	}
	if t.starter != nil {
		t.startConflict(key)
		return
	}
	value, isKnown := t.reads.lookUp(key)
	if !isKnown {
		err := t.confirm()
		if err == nil {
			value, err = t.snapshot.Get(key)
		}
		t.fail(err)
	}
	if t.err == nil {
		t.reads.keys = append(t.reads.keys, keyRead{t.arena.copy(key), value})
	}
}

// Version implements [backend.Tx].
func (t *Tx) Version() backend.Future[backend.Versionstamp] {
	if t.outcome == nil {
		t.outcome = &outcome{}
	}
	o := t.outcome
	return backend.Later(func() (backend.Versionstamp, error) {
		if !o.done.Load() {
			return backend.Versionstamp{}, t.log.errors.NotCommitted
		}
		return o.stamp, o.err
	})
}

// conclude makes the version known.
func (t *Tx) conclude(err error) {
	if t.outcome == nil {
		return
	}
	if t.outcome.err = err; err == nil { // else a leader may still be at it
		t.outcome.stamp = t.commit
	}
	t.outcome.done.Store(true)
}

// isWrite reports whether there is something to commit.
func (t *Tx) isWrite() bool {
	return t.points.count > 0 || !t.cleared.isEmpty() || len(t.appends) > 0 || len(t.statements) > 0
}

const counterBytes = 8

// Sum is the value of a counter after delta was added. A value of another length is cut or filled up with zeros, as
// FoundationDB does it.
func Sum(value []byte, delta int64) []byte {
	var n [counterBytes]byte
	copy(n[:], value)
	return backend.CounterValue(int64(binary.LittleEndian.Uint64(n[:])) + delta)
}

// plus is w and then an Add of delta.
func plus(w *Write, delta int64) *Write {
	switch w.Kind {
	case Add:
		return &Write{Kind: Add, Key: w.Key, Delta: w.Delta + delta}
	case Remove:
		return &Write{Kind: Set, Key: w.Key, Value: Sum(nil, delta)}
	}
	return &Write{Kind: Set, Key: w.Key, Value: Sum(w.Value, delta)}
}

// arena hands out the memory of a transaction's keys, values and writes in few allocations.
type arena struct {
	bytes  []byte
	writes []Write
}

const (
	arenaBytes    = 256
	arenaMaxBytes = 64 << 10
	arenaWrites   = 4
)

// copy returns b in memory of its own. It is not nil.
func (a *arena) copy(b []byte) []byte {
	if len(b) > cap(a.bytes)-len(a.bytes) {
		a.bytes = make([]byte, 0, max(len(b), min(2*cap(a.bytes), arenaMaxBytes), arenaBytes))
	}
	begin := len(a.bytes)
	a.bytes = append(a.bytes, b...)
	return a.bytes[begin:len(a.bytes):len(a.bytes)]
}

// write returns a write with copies of key and value.
func (a *arena) write(k Kind, key backend.Key, value []byte, delta int64) *Write {
	if len(a.writes) == cap(a.writes) {
		a.writes = make([]Write, 0, min(max(arenaWrites, 2*cap(a.writes)), blockItems))
	}
	a.writes = append(a.writes, Write{Key: a.copy(key), Value: a.copy(value), Delta: delta, Kind: k})
	return &a.writes[len(a.writes)-1]
}

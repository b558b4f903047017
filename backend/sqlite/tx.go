package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
)

var errUnreadable = errors.New("sqlite: what is read has a key or a value that is known after the commit; " +
	"read before Append and Stamp")

// tx is one attempt of a transaction: reads of a snapshot, with its own writes over them, and what it will write.
type tx struct {
	snapshot
	reads   reads
	points  ordered // the keys that it writes
	cleared spans   // what it clears besides, before it writes points
	appends []appended
	unknown spans // the keys that the first placed of appends may get
	placed  int
	later   []laterClear // of some of these keys
	size    backend.Size
	err     error // the first error of a read or a write: it fails the commit
	outcome *outcome
	arena   arena

	fresh   bool // reads the file, whatever is remembered
	guessed bool // its first read is what was remembered, and was not compared with the file
	recalls bool // its first read is to be remembered

	place  queued
	commit backend.Versionstamp
	record *record // which holds it, once it is committed

	// Room for a small transaction.
	someKeys   [4]keyRead
	someRanges [2]rangeRead
	somePoints [8]*write
	someBlocks [1][]*write
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

func newTx(ctx context.Context, db *DB) *tx {
	t := &tx{snapshot: snapshot{db: db, ctx: ctx}}
	t.reads = reads{t.someKeys[:0], t.someRanges[:0]}
	t.someBlocks[0] = t.somePoints[:0]
	t.points.blocks = t.someBlocks[:0]
	return t
}

// start draws the line between the commits that the snapshot is sure to hold and those that must be looked through.
func (t *tx) start() {
	if t.base == nil {
		t.base = t.db.writer.newest()
		t.began = time.Now()
	}
}

// Get implements [backend.Tx].
func (t *tx) Get(key backend.Key) backend.Future[[]byte] {
	value, err := t.read(key)
	t.fail(err)
	return backend.Ready(value, err)
}

// GetRange implements [backend.Tx].
func (t *tx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	pairs, err := t.readRange(r, o)
	t.fail(err)
	return backend.Ready(pairs, err)
}

// fail keeps the first error.
func (t *tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *tx) read(key backend.Key) ([]byte, error) {
	t.start()
	own := t.points.find(key)
	switch {
	case own != nil && own.kind == stamp || t.appendsTo(key.Only()):
		return nil, errUnreadable
	case own != nil && own.kind == set:
		return own.value, nil
	case own != nil && own.kind == remove || own == nil && t.cleared.contains(key):
		return nil, nil
	}
	if err := t.confirm(); err != nil {
		return nil, err
	}
	value, err := t.get(key)
	if err != nil {
		return nil, err
	}
	if err := t.size.ConflictKey(key); err != nil {
		return nil, err
	}
	t.reads.keys = append(t.reads.keys, keyRead{t.arena.copy(key), value})
	if own != nil {
		return sum(value, own.delta), nil
	}
	return value, nil
}

func (t *tx) readRange(r backend.Range, o backend.RangeOptions) ([]backend.KeyValue, error) {
	t.start()
	if r.IsEmpty() {
		return nil, nil
	}
	if t.appendsTo(r) {
		return nil, errUnreadable
	}
	if pairs, ok := t.guess(r, o); ok {
		t.recalls = true
		t.reads.ranges = append(t.reads.ranges, rangeRead{t.copyRange(r), pairs, true, true})
		return pairs, nil
	}
	if err := t.confirm(); err != nil {
		return nil, err
	}
	var stored, pairs []backend.KeyValue
	var cut bool
	var err error
	if t.points.any(r) || t.cleared.overlaps(r) {
		stored, pairs, cut, err = t.merge(r, o)
	} else {
		first := t.reads.isBlank()
		stored, cut, err = t.scan(r, o)
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

func (t *tx) copyRange(r backend.Range) backend.Range {
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
func (t *tx) appendsTo(r backend.Range) bool {
	for ; t.placed < len(t.appends); t.placed++ {
		prefix := t.appends[t.placed].prefix
		if t.placed == 0 || !bytes.Equal(t.appends[t.placed-1].prefix, prefix) {
			t.unknown.add(backend.Range{Begin: prefix.Stamp(backend.Versionstamp{}), End: prefix.Stamp(latest).Only().End})
		}
	}
	return t.unknown.overlaps(r)
}

// keyOf is the key of an Append in the commit.
func (t *tx) keyOf(i int) backend.Key {
	return t.appends[i].prefix.Stamp(t.commit.WithOrder(uint16(i)))
}

// dropCleared finds the Appends that later Clears have cleared, from the last one backwards, so that each Clear is
// looked at once.
func (t *tx) dropCleared() {
	if len(t.later) == 0 {
		return
	}
	var cleared spans
	clears := t.later
	for i := len(t.appends) - 1; i >= 0; i-- {
		for n := len(clears); n > 0 && clears[n-1].appends > i; n-- {
			cleared.add(clears[n-1].r)
			clears = clears[:n-1]
		}
		t.appends[i].isCleared = cleared.contains(t.keyOf(i))
	}
}

var latest = backend.Versionstamp(bytes.Repeat([]byte{0xff}, len(backend.Versionstamp{})))

// Set implements [backend.Tx].
func (t *tx) Set(key backend.Key, value []byte) {
	t.fail(t.size.Write(key, len(value)))
	if t.err == nil {
		t.points.put(t.arena.write(set, key, value, 0))
	}
}

// Clear implements [backend.Tx].
func (t *tx) Clear(r backend.Range) {
	t.fail(t.size.Clear(r))
	if t.err != nil || r.IsEmpty() {
		return
	}
	r = t.copyRange(r)
	if t.appendsTo(r) {
		t.later = append(t.later, laterClear{r, len(t.appends)})
	}
	if isOnly(r) {
		t.points.put(t.arena.write(remove, r.Begin, nil, 0))
		return
	}
	t.points.drop(r)
	t.cleared.add(r)
}

// isOnly reports whether r is the range of one key.
func isOnly(r backend.Range) bool {
	n := len(r.Begin)
	return len(r.End) == n+1 && r.End[n] == 0 && bytes.Equal(r.End[:n], r.Begin)
}

// Add implements [backend.Tx].
func (t *tx) Add(key backend.Key, delta int64) {
	t.fail(t.size.Write(key, counterBytes))
	if t.err != nil {
		return
	}
	own := t.points.find(key)
	switch {
	case own != nil && own.kind == stamp:
		t.fail(errUnreadable)
	case own != nil:
		t.points.put(plus(own, delta))
	case t.cleared.contains(key):
		t.points.put(t.arena.write(set, key, sum(nil, delta), 0))
	default:
		t.points.put(t.arena.write(add, key, nil, delta))
	}
}

// Append implements [backend.Tx].
func (t *tx) Append(prefix backend.Key, value []byte) {
	t.fail(t.size.Append(prefix, len(value)))
	if t.err == nil {
		t.appends = append(t.appends, appended{prefix: t.arena.copy(prefix), value: t.arena.copy(value)})
	}
}

// Stamp implements [backend.Tx].
func (t *tx) Stamp(key backend.Key) {
	t.fail(t.size.Write(key, len(backend.Versionstamp{})))
	if t.err == nil {
		t.points.put(t.arena.write(stamp, key, nil, 0))
	}
}

// Conflict implements [backend.Tx]. It needs the value, for the case that another process commits meanwhile. Where a
// range that was read has it, it costs nothing.
func (t *tx) Conflict(key backend.Key) {
	t.start()
	t.fail(t.size.ConflictKey(key))
	value, isKnown := t.reads.lookUp(key)
	if t.err == nil && !isKnown {
		err := t.confirm()
		if err == nil {
			value, err = t.get(key)
		}
		t.fail(err)
	}
	if t.err == nil {
		t.reads.keys = append(t.reads.keys, keyRead{t.arena.copy(key), value})
	}
}

// Version implements [backend.Tx].
func (t *tx) Version() backend.Future[backend.Versionstamp] {
	if t.outcome == nil {
		t.outcome = &outcome{}
	}
	o := t.outcome
	return backend.Later(func() (backend.Versionstamp, error) {
		if !o.done.Load() {
			return backend.Versionstamp{}, errNotCommitted
		}
		return o.stamp, o.err
	})
}

// conclude makes the version known.
func (t *tx) conclude(err error) {
	if t.outcome == nil {
		return
	}
	t.outcome.stamp, t.outcome.err = t.commit, err
	t.outcome.done.Store(true)
}

// isWrite reports whether there is something to commit.
func (t *tx) isWrite() bool { return t.points.count > 0 || !t.cleared.isEmpty() || len(t.appends) > 0 }

const counterBytes = 8

// sum is the value of a counter after delta was added. A value of another length is cut or filled up with zeros, as
// FoundationDB does it.
func sum(value []byte, delta int64) []byte {
	var n [counterBytes]byte
	copy(n[:], value)
	return backend.CounterValue(int64(binary.LittleEndian.Uint64(n[:])) + delta)
}

// plus is w and then an Add of delta.
func plus(w *write, delta int64) *write {
	switch w.kind {
	case add:
		return &write{kind: add, key: w.key, delta: w.delta + delta}
	case remove:
		return &write{kind: set, key: w.key, value: sum(nil, delta)}
	}
	return &write{kind: set, key: w.key, value: sum(w.value, delta)}
}

// arena hands out the memory of a transaction's keys, values and writes in few allocations.
type arena struct {
	bytes  []byte
	writes []write
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
func (a *arena) write(k kind, key backend.Key, value []byte, delta int64) *write {
	if len(a.writes) == cap(a.writes) {
		a.writes = make([]write, 0, min(max(arenaWrites, 2*cap(a.writes)), blockItems))
	}
	a.writes = append(a.writes, write{key: a.copy(key), value: a.copy(value), delta: delta, kind: k})
	return &a.writes[len(a.writes)-1]
}

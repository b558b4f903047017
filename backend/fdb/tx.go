//go:build fdb

package fdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// tx is one attempt of a transaction. What it reads on, and what it writes, is noted here, for the commit, which is of a
// transaction of its own (group.go). The one that it reads from is told of the writes when something is read after them,
// and never committed.
type tx struct {
	snapshot
	conflicts occ.Spans
	writes    []write
	handed    int      // of the writes: what is read from knows them
	reads     []func() // wait for a read that was started
	bytes     int      // of the writes and conflicts
	appends   int
	size      backend.Size
	outcome   *outcome

	version    int64 // as of which it has read; of one that is blind, any that is recent
	since      int64 // what it has read was so at all versions since then
	isFirst    bool  // attempt of its Transact
	isRecalled bool
	hasRead    bool // or has a conflict: its read version says when

	// Of the commit.
	isSlow  bool // it took long until then
	session *session
	first   uint16     // number of its first Append in the group
	known   chan error // how it ended
}

// write is one call of the client library that is still to be made.
type write struct {
	kind  kind
	order uint16 // number of an Append
	key   fdb.Key
	value []byte // of a clear, the end of the range
}

type kind uint8

const (
	set kind = iota
	clearKey
	clearRange
	add
	stampKey
	stampValue
)

// outcome is what Version waits for. It outlives the transaction. The first conclusion stays.
type outcome struct{ is atomic.Pointer[conclusion] }

type conclusion struct {
	stamp backend.Versionstamp
	err   error
}

func newTx(ctx context.Context, db *DB, s *space, isFirst bool) *tx {
	return &tx{snapshot: snapshot{db: db, space: s, ctx: ctx}, isFirst: isFirst}
}

// begin is called before each read. One that comes after Recall would see what was before the caller's last commit.
func (t *tx) begin() error {
	if t.isRecalled {
		return t.fail(errRecalledWrong)
	}
	t.hasRead = true
	return t.start()
}

// Recall implements [backend.Recaller]. The read version is the one before v's: what another transaction wrote in the
// same version as v's, and after it, would otherwise be no conflict.
func (t *tx) Recall(v, since backend.Versionstamp, known ...backend.Range) bool {
	if !t.isFirst || t.isRecalled || t.hasRead || t.isWrite() || t.err != nil || v.IsZero() {
		return false
	}
	t.version, t.since, t.isRecalled = int64(v.Sequence())-1, int64(since.Sequence())-1, true
	for _, r := range known {
		t.keep(t.size.Conflict(r))
		t.conflict(r)
	}
	return true
}

// conflict notes that a change of r is one. The keys are copied.
func (t *tx) conflict(r backend.Range) {
	if !r.IsEmpty() {
		r = backend.Range{Begin: t.space.data.Join(r.Begin), End: t.space.data.Join(r.End)}
		t.conflicts.Add(r)
		t.bytes += len(r.Begin) + len(r.End)
	}
}

func (t *tx) isWrite() bool { return len(t.writes) > 0 }

// isBlind reports whether no version matters to it.
func (t *tx) isBlind() bool { return !t.hasRead && !t.isRecalled }

// attempt runs fn once and commits what it wrote.
func (t *tx) attempt(fn func(tx backend.Tx) error) error {
	defer t.finish()
	err := run(&t.snapshot, fn, backend.Tx(t))
	switch {
	case t.isRecalled && (err != nil || !t.isWrite()):
		return errRecalledWrong
	case err != nil:
		return err
	case !t.isWrite():
		t.outcome.conclude(backend.Versionstamp{}, errNoVersion)
		return nil
	}
	err = t.commit()
	if again, isLost := err.(*lost); isLost && t.isRecalled { //nolint:errorlint // as in repeat
		again.isRecalled = true
	}
	return err
}

// Get implements [backend.Tx].
func (t *tx) Get(key backend.Key) backend.Future[[]byte] {
	if err := t.startRead(); err != nil {
		return backend.Ready[[]byte](nil, err)
	}
	if err := t.size.ConflictKey(key); err != nil {
		return backend.Ready[[]byte](nil, t.fail(err))
	}
	t.conflict(key.Only())
	f := t.tr.Snapshot().Get(t.key(key))
	t.reads = append(t.reads, f.BlockUntilReady)
	return t.value(f)
}

// GetRange implements [backend.Tx].
func (t *tx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	if err := t.startRead(); err != nil {
		return backend.Ready[[]backend.KeyValue](nil, err)
	}
	if r.IsEmpty() {
		return backend.Future[[]backend.KeyValue]{}
	}
	x := t.scan(r, o)
	if !o.Snapshot {
		r = backend.Range{Begin: bytes.Clone(r.Begin), End: bytes.Clone(r.End)}
		x.arrived = func() { t.conflictWith(x, r) }
	}
	t.reads = append(t.reads, x.settle)
	return x.future()
}

// conflictWith makes a conflict of what x has read of r.
func (t *tx) conflictWith(x *rangeRead, r backend.Range) {
	if x.isCut && x.o.Reverse {
		r.Begin = x.pairs[len(x.pairs)-1].Key
	} else if x.isCut {
		r.End = x.pairs[len(x.pairs)-1].Key.Only().End
	}
	if x.err = t.size.Conflict(r); x.err != nil {
		x.err = t.failed("read a range", x.err)
		return
	}
	t.conflict(r)
}

// startRead hands over the writes, so that they are read. A read that is under way may see a write that comes later, so
// those before them are awaited.
func (t *tx) startRead() error {
	if err := t.begin(); err != nil {
		return err
	}
	if t.handed < len(t.writes) {
		t.settleReads()
		for ; t.handed < len(t.writes); t.handed++ {
			t.writes[t.handed].apply(t.tr, 0)
		}
	}
	return t.err
}

// settleReads waits for the reads that were started.
func (t *tx) settleReads() {
	for _, wait := range t.reads {
		wait()
	}
	t.reads = t.reads[:0]
}

// apply makes the call, of a transaction whose first Append has this number.
func (w write) apply(tr fdb.Transaction, first uint16) {
	switch w.kind {
	case set:
		tr.Set(w.key, w.value)
	case clearKey:
		tr.Clear(w.key)
	case clearRange:
		tr.ClearRange(fdb.KeyRange{Begin: w.key, End: fdb.Key(w.value)})
	case add:
		tr.Add(w.key, w.value)
	case stampKey:
		binary.BigEndian.PutUint16(w.key[len(w.key)-placeBytes-orderBytes:], first+w.order)
		tr.SetVersionstampedKey(w.key, w.value)
	case stampValue:
		binary.BigEndian.PutUint16(w.value[len(w.value)-placeBytes-orderBytes:], first)
		tr.SetVersionstampedValue(w.key, w.value)
	}
}

// What ends a key or value in which the cluster puts a versionstamp: the order in it, and its place.
const (
	orderBytes = 2
	placeBytes = 4
)

// put adds a write unless it is impossible.
func (t *tx) put(err error, kind kind, key fdb.Key, value []byte) {
	t.keep(err)
	if t.err == nil {
		t.writes = append(t.writes, write{kind: kind, key: key, value: value})
		t.bytes += len(key) + len(value)
	}
}

// Set implements [backend.Tx].
func (t *tx) Set(key backend.Key, value []byte) {
	t.put(t.size.Write(key, len(value)), set, t.key(key), bytes.Clone(value))
}

// Clear implements [backend.Tx].
func (t *tx) Clear(r backend.Range) {
	err := t.size.Clear(r)
	switch {
	case err == nil && r.IsEmpty():
	case isOnly(r):
		t.put(err, clearKey, t.key(r.Begin), nil)
	default:
		t.put(err, clearRange, t.key(r.Begin), t.key(r.End))
	}
}

// isOnly reports whether r is the range of one key.
func isOnly(r backend.Range) bool {
	n := len(r.Begin)
	return len(r.End) == n+1 && r.End[n] == 0 && bytes.Equal(r.End[:n], r.Begin)
}

// Add implements [backend.Tx].
func (t *tx) Add(key backend.Key, delta int64) {
	value := backend.CounterValue(delta)
	t.put(t.size.Write(key, len(value)), add, t.key(key), value)
}

// Append implements [backend.Tx].
func (t *tx) Append(prefix backend.Key, value []byte) {
	key := t.space.data.Join(prefix).Stamp(unknownStamp)
	at := len(key) - len(unknownStamp)
	t.put(t.size.Append(prefix, len(value)), stampKey, placed(key, at), bytes.Clone(value))
	if t.err == nil {
		t.writes[len(t.writes)-1].order = uint16(t.appends)
		t.appends++
	}
}

// unknownStamp is what the cluster overwrites. It orders after all known ones, as its key will.
var unknownStamp = backend.Versionstamp(bytes.Repeat([]byte{0xff}, len(backend.Versionstamp{})))

// placed says where in b the versionstamp goes: four bytes at the end, which are not stored.
func placed(b []byte, at int) []byte { return binary.LittleEndian.AppendUint32(b, uint32(at)) }

// Stamp implements [backend.Tx].
func (t *tx) Stamp(key backend.Key) {
	value := make([]byte, len(backend.Versionstamp{}), len(backend.Versionstamp{})+4)
	t.put(t.size.Write(key, len(value)), stampValue, t.key(key), placed(value, 0))
}

// Conflict implements [backend.Tx].
func (t *tx) Conflict(key backend.Key) {
	if !t.isRecalled && t.begin() != nil {
		return
	}
	if err := t.size.ConflictKey(key); err != nil {
		t.keep(err)
	} else {
		t.conflict(key.Only())
	}
}

// Version implements [backend.Tx].
func (t *tx) Version() backend.Future[backend.Versionstamp] {
	if t.outcome == nil {
		t.outcome = new(outcome)
	}
	o := t.outcome
	return backend.Later(func() (backend.Versionstamp, error) {
		if is := o.is.Load(); is != nil {
			return is.stamp, is.err
		}
		return backend.Versionstamp{}, errNotCommitted
	})
}

// conclude makes the version known, or why there is none.
func (o *outcome) conclude(v backend.Versionstamp, err error) {
	if o != nil {
		o.is.CompareAndSwap(nil, &conclusion{v, err})
	}
}

// isTooOld reports whether the attempt may not be committed any more.
func (t *tx) isTooOld() bool { return !t.began.IsZero() && time.Since(t.began) > backend.MaxDuration }

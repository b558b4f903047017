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
)

// tx is one attempt of a transaction. Its writes wait here until something is read after them or it is committed:
//
//  1. A read that is under way when a write of its key comes may forget its conflict, or see the write. So writes are
//     handed over when all reads before them have arrived.
//  2. A conflict on a key that the transaction has written is no conflict to the client library, as it would read its
//     own write. So conflicts are handed over at once, before the writes that wait.
type tx struct {
	snapshot
	waiting []write
	reads   []func() // wait for a read that was started
	isWrite bool
	appends uint16
	size    backend.Size
	outcome *outcome

	fence      fdb.Key // a conflict of the attempt, which fences it off (commit.go)
	isFirst    bool    // attempt of its Transact
	isRecalled bool
	hasRead    bool // or has a conflict: its read version says when
}

// write is one call of the client library that is still to be made.
type write struct {
	kind  kind
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

// outcome is what Version waits for. It outlives the transaction.
type outcome struct {
	done  atomic.Bool // after which the others do not change
	stamp backend.Versionstamp
	err   error
}

func newTx(ctx context.Context, db *DB, s *space, isFirst bool) *tx {
	t := &tx{isFirst: isFirst}
	t.open(ctx, db, s)
	return t
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
func (t *tx) Recall(v backend.Versionstamp, known ...backend.Range) bool {
	if !t.isFirst || t.isRecalled || t.hasRead || t.isWrite || t.err != nil || v.IsZero() {
		return false
	}
	if t.writeOnly(); t.err != nil {
		return false
	}
	t.tr.SetReadVersion(int64(v.Sequence()) - 1)
	t.isRecalled, t.isVersionKnown = true, true
	for _, r := range known {
		err := t.size.Conflict(r)
		if err == nil && !r.IsEmpty() {
			keys := t.keys(r)
			t.fence = keys.Begin.FDBKey()
			err = t.tr.AddReadConflictRange(keys)
		}
		t.keep(err)
	}
	return true
}

// writeOnly tells the library that nothing will be read: then it need not prepare for reads of what is written.
func (t *tx) writeOnly() { t.keep(t.tr.Options().SetReadYourWritesDisable()) }

// attempt runs fn once and commits what it wrote.
func (t *tx) attempt(fn func(tx backend.Tx) error) error {
	if t.err != nil {
		return t.err
	}
	defer t.finish()
	err := run(&t.snapshot, fn, backend.Tx(t))
	switch {
	case t.isRecalled && (err != nil || !t.isWrite):
		return errRecalledWrong
	case err != nil:
		return err
	case !t.isWrite:
		t.outcome.conclude(errNoVersion)
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
	f := t.tr.Get(t.key(key))
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
	isConflict, isTooMuch := !o.Snapshot, o.Bytes > 0
	o.Snapshot = o.Snapshot || isTooMuch // what the library reads beyond the limit is no conflict
	x := t.scan(r, o)
	if isConflict {
		r = backend.Range{Begin: bytes.Clone(r.Begin), End: bytes.Clone(r.End)}
		x.arrived = func() { t.conflictWith(x, r, isTooMuch) }
	}
	t.reads = append(t.reads, x.settle)
	return x.future()
}

// conflictWith counts the conflict on what x has read of r, and makes it where the library has not.
func (t *tx) conflictWith(x *rangeRead, r backend.Range, isOurs bool) {
	if x.isCut && x.o.Reverse {
		r.Begin = x.pairs[len(x.pairs)-1].Key
	} else if x.isCut {
		r.End = x.pairs[len(x.pairs)-1].Key.Only().End
	}
	x.err = t.size.Conflict(r)
	if x.err == nil && isOurs {
		x.err = t.tr.AddReadConflictRange(t.keys(r))
	}
	if x.err != nil {
		x.err = t.failed("read a range", x.err)
	}
}

// startRead hands over the writes, so that they are read.
func (t *tx) startRead() error {
	if err := t.begin(); err != nil {
		return err
	}
	t.flush()
	return t.err
}

// flush waits for the reads that came before the writes, and hands these over.
func (t *tx) flush() {
	if len(t.waiting) == 0 {
		return
	}
	for _, wait := range t.reads {
		wait()
	}
	t.reads, t.hasOwnWrites = t.reads[:0], true
	for _, w := range t.waiting {
		w.apply(t.tr)
	}
	t.waiting = t.waiting[:0]
}

func (w write) apply(tr fdb.Transaction) {
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
		tr.SetVersionstampedKey(w.key, w.value)
	case stampValue:
		tr.SetVersionstampedValue(w.key, w.value)
	}
}

// put adds a write unless it is impossible.
func (t *tx) put(err error, kind kind, key fdb.Key, value []byte) {
	t.keep(err)
	if t.err == nil {
		t.isWrite = true
		t.waiting = append(t.waiting, write{kind, key, value})
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
	order := t.appends
	t.appends++
	key := t.space.data.Join(prefix).Stamp(unknownStamp.WithOrder(order))
	at := len(key) - len(unknownStamp)
	t.put(t.size.Append(prefix, len(value)), stampKey, placed(key, at), bytes.Clone(value))
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
	} else if err := t.tr.AddReadConflictKey(t.key(key)); err != nil {
		t.keep(t.judge("make a conflict", err))
	}
}

// Version implements [backend.Tx].
func (t *tx) Version() backend.Future[backend.Versionstamp] {
	if t.outcome == nil {
		t.outcome = new(outcome)
	}
	o := t.outcome
	return backend.Later(func() (backend.Versionstamp, error) {
		if !o.done.Load() {
			return backend.Versionstamp{}, errNotCommitted
		}
		return o.stamp, o.err
	})
}

// conclude makes known that there is no version. The first conclusion stays.
func (o *outcome) conclude(err error) {
	if o != nil && !o.done.Load() {
		o.err = err
		o.done.Store(true)
	}
}

// stamped makes the version known.
func (o *outcome) stamped(v backend.Versionstamp) {
	o.stamp = v
	o.done.Store(true)
}

// isTooOld reports whether the attempt may not be committed any more.
func (t *tx) isTooOld() bool { return !t.began.IsZero() && time.Since(t.began) > backend.MaxDuration }

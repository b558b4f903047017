package occ

import (
	"bytes"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/dserver-go/dserver/backend"
)

// Validation. A transaction may be committed when nothing that it read was changed after its snapshot:
//
//  1. Its base is the newest record that it found before its snapshot began: all later commits of this process are
//     in the records that follow, and are looked through. (Those between base and snapshot are looked through in vain;
//     that can only cost another run.)
//  2. Earlier members of its own group are looked through in the same way.
//  3. Where another process may have committed in between, no record tells what: then every key and range is read
//     again and must be as it was.
//
// Records are a list that is linked forwards only. A transaction holds its base; what no transaction can reach any
// more is garbage.

// Record is what a group of commits wrote. The zero value is an empty one.
type Record struct {
	points  ordered
	cleared Spans
	next    atomic.Pointer[Record]

	executed bool // statements, beside what it writes

	// Foreign tells that other processes may have committed between this record and the one before.
	Foreign bool
}

// IsEmpty reports whether c does nothing.
func (c *Record) IsEmpty() bool { return c.points.count == 0 && c.cleared.isEmpty() && !c.executed }

// Cleared are the ranges that are cleared before anything of c is written, in order.
func (c *Record) Cleared() iter.Seq[backend.Range] { return c.cleared.All() }

// Writes are the writes of c, in key order.
func (c *Record) Writes() iter.Seq[*Write] { return c.points.all() }

// Count is how many writes there are, beside the ranges that are cleared.
func (c *Record) Count() int { return c.points.count }

// Reads is what a transaction read and named, as it was stored.
type Reads struct {
	keys   []keyRead
	ranges []rangeRead
}

// keyRead is a key and its value, nil when it was absent.
type keyRead struct {
	key   backend.Key
	value []byte
}

// rangeRead is a range and its pairs. One of a snapshot read is no conflict; it tells the values of keys in it, for
// Conflict.
type rangeRead struct {
	r          backend.Range
	pairs      []backend.KeyValue
	isSnapshot bool
	isGuess    bool // as it was remembered: a conflict where other processes commit (recent.go)
}

func (r *Reads) isEmpty() bool {
	return len(r.keys) == 0 && !slices.ContainsFunc(r.ranges, func(x rangeRead) bool { return x.isConflict() })
}

// isBlank reports whether nothing was read.
func (r *Reads) isBlank() bool { return len(r.keys) == 0 && len(r.ranges) == 0 }

// wrote reports whether c holds a write of something in r.
func (c *Record) wrote(r *Reads) bool {
	for i := range r.keys {
		if key := r.keys[i].key; c.points.find(key) != nil || c.cleared.contains(key) {
			return true
		}
	}
	for i := range r.ranges {
		if x := &r.ranges[i]; !x.isSnapshot && (c.points.any(x.r) || c.cleared.Overlaps(x.r)) {
			return true
		}
	}
	return false
}

// Current is what is stored now, after all that was committed.
type Current interface {
	Value(key backend.Key) ([]byte, error)             // nil when there is none
	Pairs(r backend.Range) ([]backend.KeyValue, error) // in key order
}

// Lost reports whether t may not be committed after what was committed before group, and in group before it. Now is
// asked only where other processes may have committed since the snapshot. It is nil where the store itself compares what
// t expects, before it commits.
func (t *Tx) Lost(group *Record, now Current) (bool, error) {
	if t.reads.isEmpty() {
		return false, nil
	}
	foreign := group.Foreign
	for c := t.base.newest.next.Load(); c != nil; c = c.next.Load() {
		foreign = foreign || c.Foreign
		if c.wrote(&t.reads) {
			return true, nil
		}
	}
	if group.wrote(&t.reads) {
		return true, nil
	}
	if !foreign || now == nil {
		return false, nil
	}
	return t.reads.differ(now)
}

// Expects tells what t relies on: keys with their values, nil where there was none, and ranges with their pairs, in key
// order. A store reads all of it together before it asks Lost, or compares it by itself.
func (t *Tx) Expects(key func(k backend.Key, value []byte), r func(r backend.Range, pairs []backend.KeyValue)) {
	for i := range t.reads.keys {
		key(t.reads.keys[i].key, t.reads.keys[i].value)
	}
	for i := range t.reads.ranges {
		if x := &t.reads.ranges[i]; x.isConflict() {
			r(x.r, sorted(x.pairs))
		}
	}
}

// differ reports whether what is stored now is not what was read.
func (r *Reads) differ(now Current) (bool, error) {
	for i := range r.keys {
		x := &r.keys[i]
		if value, err := now.Value(x.key); err != nil || !isSame(value, x.value) {
			return true, err
		}
	}
	for _, x := range r.ranges {
		if !x.isConflict() {
			continue
		}
		pairs, err := now.Pairs(x.r)
		if err != nil || !slices.EqualFunc(pairs, sorted(x.pairs), isSamePair) {
			return true, err
		}
	}
	return false, nil
}

// isConflict reports whether a change of the range is one where it is read again.
func (x *rangeRead) isConflict() bool { return !x.isSnapshot || x.isGuess }

// lookUp finds the value of key in the ranges that were read.
func (r *Reads) lookUp(key backend.Key) ([]byte, bool) {
	for _, x := range r.ranges {
		if !x.r.Contains(key) {
			continue
		}
		for _, kv := range x.pairs {
			if bytes.Equal(kv.Key, key) {
				return kv.Value, true
			}
		}
		return nil, true
	}
	return nil, false
}

// sorted returns pairs in key order, whichever way they were read.
func sorted(pairs []backend.KeyValue) []backend.KeyValue {
	if n := len(pairs); n > 1 && pairs[0].Key.Compare(pairs[n-1].Key) > 0 {
		pairs = slices.Clone(pairs)
		slices.Reverse(pairs)
	}
	return pairs
}

func isSame(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func isSamePair(a, b backend.KeyValue) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

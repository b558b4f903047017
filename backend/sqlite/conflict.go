package sqlite

import (
	"bytes"
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

// record is what a group of commits wrote.
type record struct {
	points  ordered
	cleared spans
	foreign bool // other processes may have committed between this record and the one before
	next    atomic.Pointer[record]
}

// reads is what a transaction read and named, as it was stored.
type reads struct {
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

func (r *reads) isEmpty() bool {
	return len(r.keys) == 0 && !slices.ContainsFunc(r.ranges, func(x rangeRead) bool { return !x.isSnapshot || x.isGuess })
}

// isBlank reports whether nothing was read.
func (r *reads) isBlank() bool { return len(r.keys) == 0 && len(r.ranges) == 0 }

// wrote reports whether c holds a write of something in r.
func (c *record) wrote(r *reads) bool {
	for i := range r.keys {
		if key := r.keys[i].key; c.points.find(key) != nil || c.cleared.contains(key) {
			return true
		}
	}
	for i := range r.ranges {
		if x := &r.ranges[i]; !x.isSnapshot && (c.points.any(x.r) || c.cleared.overlaps(x.r)) {
			return true
		}
	}
	return false
}

// lost reports whether t may not be committed after what was committed before group, and in group before it.
func (w *writer) lost(t *tx, group *record) (bool, error) {
	if t.reads.isEmpty() {
		return false, nil
	}
	foreign := group.foreign
	for c := t.base.next.Load(); c != nil; c = c.next.Load() {
		foreign = foreign || c.foreign
		if c.wrote(&t.reads) {
			return true, nil
		}
	}
	if group.wrote(&t.reads) {
		return true, nil
	}
	if !foreign {
		return false, nil
	}
	return t.reads.differ(w.conn)
}

// differ reports whether what c reads now is not what was read.
func (r *reads) differ(c *connection) (bool, error) {
	for i := range r.keys {
		x := &r.keys[i]
		if now, err := c.value(x.key); err != nil || !isSame(now, x.value) {
			return true, err
		}
	}
	for _, x := range r.ranges {
		if x.isSnapshot && !x.isGuess {
			continue
		}
		now, _, err := c.pairs(x.r, backend.RangeOptions{})
		if err != nil || !slices.EqualFunc(now, sorted(x.pairs), isSamePair) {
			return true, err
		}
	}
	return false, nil
}

// lookUp finds the value of key in the ranges that were read.
func (r *reads) lookUp(key backend.Key) ([]byte, bool) {
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

package occ

import (
	"bytes"
	"slices"
	"sync"

	"github.com/dserver-go/dserver/backend"
)

// recent holds what ranges were a moment ago, so that a transaction that begins by reading one of them needs no
// connection, no transaction of the store and no statement, which is most of what a small transaction costs. Only ranges that
// were read as snapshots are held: nothing of them is a conflict, so a hit has to be true only when it is read.
//
//  1. After a commit its transaction leaves what it read, with its own writes over it, unless others wrote there too.
//  2. A hit looks through the commits of this process since. A write in the range ends the entry.
//  3. Commits of other processes are in no record. So a hit is a guess: where such a commit came since, the range is
//     read again at the commit, like all that was read, and must be as it was. A transaction that reads more, or ends
//     without a commit, compares the range with the store first: what it has seen is one snapshot, or it runs again.
//  4. While other processes commit nobody guesses.
//
// What is held is bounded in bytes and in age, as each entry keeps the records since alive: there are two generations,
// and the older one is dropped when the younger is full or old.
type recent struct {
	mu         sync.Mutex
	young, old map[string]remembered // by where the range begins
	bytes      int                   // of young
	records    int                   // that came since young began
}

const (
	RecentBytes   = 1 << 20 // of a generation: the heads of a thousand busy servers
	RecentRecords = 64
	RecentRange   = 4 << 10 // bytes of the largest range
	recentEntry   = 512     // what an entry is counted for beside its pairs
	RecentValue   = 64      // bytes of the largest value that a record keeps for it
)

// remembered is a range as base left it.
type remembered struct {
	r     backend.Range
	pairs []backend.KeyValue
	base  *Record
}

// find returns the pairs of r as newest left them, unless they were written since.
func (c *recent) find(r backend.Range, newest *Record) ([]backend.KeyValue, bool) {
	c.mu.Lock()
	e, ok := c.young[string(r.Begin)]
	if !ok {
		e, ok = c.old[string(r.Begin)]
	}
	c.mu.Unlock()
	if !ok || !bytes.Equal(e.r.End, r.End) {
		return nil, false
	}
	for at := e.base; at != newest; {
		if at = at.next.Load(); at == nil { // e is newer than newest
			return nil, false
		}
		if at.Foreign || at.writes(r) {
			return nil, false
		}
	}
	return e.pairs, true
}

func (c *recent) put(e remembered) {
	size := recentEntry + sizeOf(e.pairs)
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, ok := c.young[string(e.r.Begin)]; ok {
		size -= recentEntry + sizeOf(before.pairs)
	}
	if c.young == nil || c.bytes+size > RecentBytes {
		c.turn()
		size = recentEntry + sizeOf(e.pairs)
	}
	c.bytes += size
	c.young[string(e.r.Begin)] = e
}

// age counts a new record.
func (c *recent) age() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.records++; c.records > RecentRecords {
		c.turn()
	}
}

// turn begins a new generation. The caller holds mu.
func (c *recent) turn() {
	c.old, c.young = c.young, make(map[string]remembered, len(c.young))
	c.bytes, c.records = 0, 0
}

func sizeOf(pairs []backend.KeyValue) int {
	n := 0
	for _, kv := range pairs {
		n += len(kv.Key) + len(kv.Value)
	}
	return n
}

// writes reports whether c holds a write in r.
func (c *Record) writes(r backend.Range) bool { return c.points.any(r) || c.cleared.Overlaps(r) }

// guess reads r from what is remembered, if it is the transaction's first read and may be answered so.
func (t *Tx) guess(r backend.Range, o backend.RangeOptions) ([]backend.KeyValue, bool) {
	if !o.Snapshot || o.Reverse || t.fresh || !t.reads.isBlank() || t.isWrite() || t.log.IsShared() {
		return nil, false
	}
	if !t.snapshot.IsOpen() {
		return nil, false // the store tells why
	}
	pairs, ok := t.log.recent.find(r, t.base.newest)
	if !ok || Reached(o, len(pairs), sizeOf(pairs)) {
		return nil, false
	}
	t.guessed, t.recalls, t.base.isFixed = true, true, true
	t.reads.ranges = append(t.reads.ranges, rangeRead{t.copyRange(r), pairs, true, true})
	return pairs, true
}

// confirm opens the snapshot of a transaction that has guessed, and fails with ErrLost when that shows something else.
func (t *Tx) confirm() error {
	if !t.guessed {
		return nil
	}
	r := t.reads.ranges[0].r
	if t.starter != nil {
		t.guessed = false
		wait := t.starter.StartScan(r, backend.RangeOptions{})
		t.pending = append(t.pending, func() {
			stored, _, err := wait()
			_ = t.compare(stored, err)
		})
		return nil
	}
	stored, _, err := t.snapshot.Scan(r, backend.RangeOptions{})
	if err = t.compare(stored, err); err == nil {
		t.guessed = false
	}
	return err
}

// compare compares the guess with what is stored.
func (t *Tx) compare(stored []backend.KeyValue, err error) error {
	x := &t.reads.ranges[0]
	if err == nil && !slices.EqualFunc(stored, x.pairs, isSamePair) {
		err = ErrLost
	}
	if err == nil {
		x.isGuess = false
	}
	t.fail(err)
	return err
}

// remember leaves the range that a committed transaction read first to those that come.
func (t *Tx) remember() {
	if !t.recalls || t.base.newest == nil || t.record == nil {
		return
	}
	x := t.reads.ranges[0]
	if sizeOf(x.pairs) > RecentRange {
		return
	}
	for c := t.base.newest.next.Load(); c != t.record; c = c.next.Load() {
		if c.Foreign || c.writes(x.r) {
			return
		}
	}
	if t.record.Foreign || t.record.cleared.Overlaps(x.r) {
		return
	}
	var room [2][8]*Write
	own := t.points.in(x.r, room[0][:0])
	if !slices.Equal(own, t.record.points.in(x.r, room[1][:0])) { // a later member of the group wrote there as well
		return
	}
	if pairs, ok := overlay(x.pairs, own); ok {
		t.log.recent.put(remembered{x.r, pairs, t.record})
	}
}

// overlay is what pairs are after writes, both in order. It fails where a value is not known any more.
func overlay(pairs []backend.KeyValue, writes []*Write) ([]backend.KeyValue, bool) {
	if len(writes) == 0 {
		return pairs, true
	}
	out := make([]backend.KeyValue, 0, len(pairs)+len(writes))
	for _, w := range writes {
		for len(pairs) > 0 && pairs[0].Key.Compare(w.Key) < 0 {
			out, pairs = append(out, pairs[0]), pairs[1:]
		}
		key := w.Key
		if len(pairs) > 0 && bytes.Equal(pairs[0].Key, w.Key) {
			key, pairs = pairs[0].Key, pairs[1:]
		}
		switch {
		case w.Kind == Remove:
		case w.Kind == Set && w.Value != nil:
			out = append(out, backend.KeyValue{Key: key, Value: bytes.Clone(w.Value)})
		default:
			return nil, false
		}
	}
	return append(out, pairs...), true
}

package occ

import (
	"slices"

	"github.com/dserver-go/dserver/backend"
)

// mergePage is how many stored pairs are read at a time where own writes lie over them.
const mergePage = 64

// merging lays a transaction's own writes over the stored pairs of a range.
type merging struct {
	t   *Tx
	o   backend.RangeOptions
	own []*Write // what is still to come, in the order of the read
	out []backend.KeyValue
	sum int // bytes of out
}

// merge reads a range with the transaction's own writes over it. It returns the stored pairs that it met, for
// validation, and the merged ones.
func (t *Tx) merge(r backend.Range, o backend.RangeOptions) (stored, merged []backend.KeyValue, cut bool, err error) {
	m := &merging{t: t, o: o, own: t.points.in(r, nil)}
	if slices.ContainsFunc(m.own, func(w *Write) bool { return w.Kind == stamp }) {
		return nil, nil, false, t.log.errors.Unreadable
	}
	if o.Reverse {
		slices.Reverse(m.own)
	}
	page := backend.RangeOptions{Limit: max(mergePage, o.Limit), Reverse: o.Reverse}
	for more := true; more; {
		var pairs []backend.KeyValue
		if pairs, more, err = t.snapshot.Scan(r, page); err != nil {
			return nil, nil, false, err
		}
		for i, kv := range pairs {
			if m.before(kv.Key) {
				return append(stored, pairs[:i]...), m.out, true, nil
			}
			if m.stored(kv) {
				return append(stored, pairs[:i+1]...), m.out, true, nil
			}
		}
		stored = append(stored, pairs...)
		if more {
			r = beyond(r, pairs[len(pairs)-1].Key, o.Reverse)
		}
	}
	cut = m.rest()
	return stored, m.out, cut, nil
}

// beyond is the part of r that is still to be read after last.
func beyond(r backend.Range, last backend.Key, reverse bool) backend.Range {
	if reverse {
		return backend.Range{Begin: r.Begin, End: last}
	}
	return backend.Range{Begin: last.Only().End, End: r.End}
}

// before emits the own writes that come before key, and reports whether a limit was reached.
func (m *merging) before(key backend.Key) bool {
	for len(m.own) > 0 && m.order(m.own[0].Key, key) < 0 {
		w := m.own[0]
		m.own = m.own[1:]
		if m.emit(w, nil) {
			return true
		}
	}
	return false
}

func (m *merging) order(a, b backend.Key) int {
	if m.o.Reverse {
		return b.Compare(a)
	}
	return a.Compare(b)
}

// stored emits a stored pair as the own writes leave it, and reports whether a limit was reached.
func (m *merging) stored(kv backend.KeyValue) bool {
	if len(m.own) > 0 && m.own[0].Key.Compare(kv.Key) == 0 {
		w := m.own[0]
		m.own = m.own[1:]
		return m.emit(w, kv.Value)
	}
	return !m.t.cleared.contains(kv.Key) && m.put(kv.Key, kv.Value)
}

func (m *merging) rest() bool {
	for _, w := range m.own {
		if m.emit(w, nil) {
			return true
		}
	}
	return false
}

func (m *merging) emit(w *Write, base []byte) bool {
	switch w.Kind {
	case Set:
		return m.put(w.Key, w.Value)
	case Add:
		return m.put(w.Key, Sum(base, w.Delta))
	}
	return false
}

func (m *merging) put(key backend.Key, value []byte) bool {
	m.out = append(m.out, backend.KeyValue{Key: key, Value: value})
	m.sum += len(key) + len(value)
	return Reached(m.o, len(m.out), m.sum)
}

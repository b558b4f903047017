package postgres

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// What a group writes, as statements: its rows, the row of the attempt, the clock, and what is notified.

// forgetEvery is how many rows of attempts are removed at a time, at least.
const forgetEvery = 256

// addWrites adds what a group does.
func (w *writer) addWrites(b *bundle, group *occ.Record, m move) {
	w.attempt++
	w.number = m.number
	var bells []byte
	if w.hears {
		bells = bellsOf(group)
	}
	sql, me := b.c.sql, int64Parameter(w.session)
	b.add(m.sql, me, int64Parameter(m.last), int64Parameter(w.attempt), int64Parameter(m.clock), int64Parameter(m.number), bells)
	if w.last-w.forgotten > forgetEvery { // with the row of this one, nobody will ask for these
		b.add(sql.forget, me, int64Parameter(w.forgotten), int64Parameter(w.last))
	}
	addCleared(b, group)
	var gone, keys, values, counters, deltas array
	w.sums.begin(group)
	for x := range group.Writes() {
		if x.Kind == occ.Add && len(x.Key) < headBytes {
			if value, isKnown := w.sums.add(x); isKnown {
				keys.add(x.Key)
				values.add(value)
				continue
			}
		} else {
			w.sums.wrote(x)
		}
		switch {
		case len(x.Key) >= headBytes:
			addLong(b, x)
		case x.Kind == occ.Remove:
			gone.add(x.Key)
		case x.Kind == occ.Add:
			counters.add(x.Key)
			deltas.add(backend.CounterValue(x.Delta))
		default:
			keys.add(x.Key)
			values.add(x.Value)
		}
	}
	if gone.count > 0 {
		b.add(sql.remove, gone.parameter())
	}
	if keys.count > 0 {
		b.add(sql.set, keys.parameter(), values.parameter())
	}
	if counters.count > 0 {
		b.add(sql.add, counters.parameter(), deltas.parameter())
	}
}

// addCleared adds the ranges that are cleared. A range between short keys has all long keys of a head, or none.
func addCleared(b *bundle, group *occ.Record) {
	var begins, ends array
	for r := range group.Cleared() {
		if len(r.Begin) >= headBytes || len(r.End) >= headBytes {
			b.add(b.c.sql.wipeLong, notNull(r.Begin), r.End)
			continue
		}
		begins.add(r.Begin)
		ends.add(r.End)
	}
	if begins.count > 0 {
		b.add(b.c.sql.wipe, begins.parameter(), ends.parameter())
	}
}

// What the server does with a long key.
const (
	fateSet = iota
	fateRemove
	fateAdd
)

func addLong(b *bundle, x *occ.Write) {
	value, fate := x.Value, uint32(fateSet)
	switch x.Kind {
	case occ.Remove:
		fate = fateRemove
	case occ.Add:
		value, fate = backend.CounterValue(x.Delta), fateAdd
	}
	b.add(b.c.sql.long, x.Key[:headBytes], x.Key[headBytes:], notNull(value), binary.BigEndian.AppendUint32(nil, fate))
}

// bellsMax is how many keys a notification names; its length is limited. Where there are more, or ranges, it says that
// anything may have changed.
const bellsMax = 500

// bellsOf is what a notification says of the keys that changed, nil for anything.
func bellsOf(group *occ.Record) []byte {
	for range group.Cleared() {
		return nil
	}
	if group.Count() > bellsMax {
		return nil
	}
	var b strings.Builder
	for x := range group.Writes() {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(bell(string(x.Key))), 36))
	}
	return []byte(b.String())
}

// bell stands for a key in a notification.
func bell(key string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(key))
	return h.Sum32()
}

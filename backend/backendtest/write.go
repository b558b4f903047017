package backendtest

import (
	"encoding/binary"

	"github.com/dserver-go/dserver/backend"
)

// write is one buffered write of a transaction. Its kind says which fields it has.
type write struct {
	kind  writeKind
	at    span   // the key alone; the range of a clear; the prefix alone of an append
	value []byte // of a set and an append
	delta int64  // of an add
	order uint16 // of an append, in its transaction
}

type writeKind int

const (
	isSet writeKind = iota
	isClear
	isAdd
	isAppend
	isStamp
)

// apply does the write in the commit that has stamp, and returns what it changed.
func (w write) apply(p *pairs, stamp backend.Versionstamp) span {
	key := w.at.begin
	switch w.kind {
	case isSet:
		p.Set(key, w.value)
	case isClear:
		for _, key := range keysIn(p, w.at) {
			p.Delete(key)
		}
	case isAdd:
		old, _ := p.Get(key)
		p.Set(key, add(old, w.delta))
	case isAppend:
		key = string(backend.Key(key).Stamp(stamp.WithOrder(w.order)))
		p.Set(key, w.value)
		return only(key)
	case isStamp:
		p.Set(key, stamp[:])
	}
	return w.at
}

// unreadable is what cannot be read after w in its transaction, as it is unknown until the commit. For an append that
// is any key that one at this prefix could ever make.
func (w write) unreadable() span {
	switch w.kind {
	case isAppend:
		prefix := backend.Key(w.at.begin)
		first, last := prefix.Stamp(backend.Versionstamp{}), prefix.Stamp(lastStamp())
		return span{string(first), string(last) + "\x00"}
	case isStamp:
		return w.at
	}
	return span{}
}

func lastStamp() (last backend.Versionstamp) {
	for i := range last {
		last[i] = 0xff
	}
	return last
}

func keysIn(p *pairs, s span) (keys []string) {
	p.Ascend(s.begin, func(key string, _ []byte) bool {
		if key >= s.end {
			return false
		}
		keys = append(keys, key)
		return true
	})
	return keys
}

// add adds as FoundationDB does: a counter that is absent is 0, a shorter one is filled up, a longer one is cut.
func add(old []byte, delta int64) []byte {
	var counter [8]byte
	copy(counter[:], old)
	return backend.CounterValue(int64(binary.LittleEndian.Uint64(counter[:])) + delta)
}

package backendtest

import (
	"fmt"
	"strings"

	"github.com/dserver-go/dserver/backend"
)

func reads() []check {
	return []check{
		{"AnAbsentKeyIsNil", absentKeyIsNil},
		{"AnEmptyValueIsNotAbsent", emptyValueIsNotAbsent},
		{"ValuesOfAllBytesComeBack", valuesOfAllBytesComeBack},
		{"ATransactionReadsItsOwnWrites", readsOwnWrites},
		{"ARangeHasItsOwnWrites", rangeHasOwnWrites},
		{"LimitsCountOwnWrites", limitsCountOwnWrites},
		{"ReadsOfOneTransactionAreOneSnapshot", oneSnapshot},
		{"FuturesMayBeWaitedForInAnyOrderAndAgain", futuresInAnyOrder},
		{"AReadDoesNotSeeItsOwnLater", laterWritesAreNotSeen},
		{"AReadOnItsWayDoesNotSeeWritesThatALaterReadSees", readsOnTheirWayAreLeftAlone},
	}
}

func absentKeyIsNil(x *trial) {
	x.read(x.db, func(r *reader) { x.expect("an absent key", r.get("a"), absent) })
	x.transact(x.db, func(s *script) { x.expect("an absent key", s.get("a"), absent) })
}

func emptyValueIsNotAbsent(x *trial) {
	x.transact(x.db, func(s *script) {
		s.tx.Set(key("empty"), []byte{})
		s.tx.Set(key("nil"), nil)
		x.expect("its own empty value", s.get("empty"), "")
		x.expect("its own nil value", s.get("nil"), "")
	})
	x.expect("an empty value", x.get(x.other, "empty"), "")
	x.expect("a nil value", x.get(x.other, "nil"), "")
	x.read(x.other, func(r *reader) {
		found, err := r.GetRange(wholeStore(), backend.RangeOptions{}).Get()
		r.keep(err)
		for _, pair := range found {
			if pair.Value == nil {
				x.Errorf("the empty value of %v is nil in a range", pair.Key)
			}
		}
	})
}

func valuesOfAllBytesComeBack(x *trial) {
	var all strings.Builder
	for b := range 256 {
		all.WriteByte(byte(b))
	}
	name := all.String() // zero bytes and 0xff in keys as well
	x.set(x.db, name, name)
	x.expect("a value of all bytes", x.get(x.other, name), name)
}

func readsOwnWrites(x *trial) {
	x.set(x.db, "a", "old", "b", "old", "c", "old")
	x.transact(x.db, func(s *script) {
		s.set("a", "new")
		s.tx.Clear(key("b").Only())
		s.set("d", "new")
		x.expect("a set key", s.get("a"), "new")
		x.expect("a cleared key", s.get("b"), absent)
		x.expect("an untouched key", s.get("c"), "old")
		x.expect("a new key", s.get("d"), "new")
		s.set("b", "again")
		s.tx.Clear(key("d").Only())
		x.expect("a key that was cleared and set", s.get("b"), "again")
		x.expect("a key that was set and cleared", s.get("d"), absent)
	})
	x.expect("committed", x.everything(x.other), "a=new b=again c=old")
}

func rangeHasOwnWrites(x *trial) {
	x.set(x.db, "a", "1", "c", "1", "e", "1", "g", "1")
	x.transact(x.db, func(s *script) {
		all := between("a", "z")
		x.expect("before", s.list(all, backend.RangeOptions{}), "a=1 c=1 e=1 g=1")
		s.set("b", "2", "c", "2")
		s.clear("e", "f")
		s.set("h", "2")
		x.expect("after", s.list(all, backend.RangeOptions{}), "a=1 b=2 c=2 g=1 h=2")
		x.expect("backwards", s.list(all, backend.RangeOptions{Reverse: true}), "h=2 g=1 c=2 b=2 a=1")
		x.expect("as snapshot", s.list(all, backend.RangeOptions{Snapshot: true}), "a=1 b=2 c=2 g=1 h=2")
		s.clear("a", "h")
		s.set("f", "3")
		x.expect("after more", s.list(all, backend.RangeOptions{}), "f=3 h=2")
	})
}

func limitsCountOwnWrites(x *trial) {
	x.set(x.db, "a", "1", "c", "1", "e", "1", "g", "1")
	x.transact(x.db, func(s *script) {
		s.clear("a", "b")
		s.set("d", "2")
		all := between("a", "z")
		x.expect("the first", s.list(all, backend.RangeOptions{Limit: 1}), "c=1")
		x.expect("the first two", s.list(all, backend.RangeOptions{Limit: 2}), "c=1 d=2")
		s.clear("e", "z")
		x.expect("the last", s.list(all, backend.RangeOptions{Limit: 1, Reverse: true}), "d=2")
	})
}

// A commit in the midst of a transaction is seen by none of its reads.
func oneSnapshot(x *trial) {
	x.set(x.db, "a", "1", "b", "1")
	x.read(x.db, func(r *reader) {
		first := r.get("a")
		x.set(x.other, "a", first+"+", "b", first+"+")
		x.expect("a read after another's commit", r.get("b"), first)
		x.expect("a range after another's commit", r.list(wholeStore(), backend.RangeOptions{}), "a="+first+" b="+first)
	})
	x.set(x.db, "a", "1", "b", "1")
	x.transact(x.db, func(s *script) {
		first := s.get("a")
		x.set(x.other, "a", first+"+", "b", first+"+")
		x.expect("a read after another's commit", s.get("b"), first)
		x.expect("a range after another's commit", s.list(wholeStore(), backend.RangeOptions{}), "a="+first+" b="+first)
	})
}

func futuresInAnyOrder(x *trial) {
	x.set(x.db, "a", "1", "b", "2")
	x.transact(x.db, func(s *script) {
		a, b, all := s.Get(key("a")), s.Get(key("b")), s.GetRange(wholeStore(), backend.RangeOptions{})
		for range 2 {
			pairs, err := all.Get()
			s.keep(err)
			second, err := b.Get()
			s.keep(err)
			first, err := a.Get()
			s.keep(err)
			x.expect("all", words(pairs), "a=1 b=2")
			x.expect("both", fmt.Sprintf("%s %s", first, second), "1 2")
		}
	})
}

// A read is what was there when it was started, also when it is waited for after a write.
func laterWritesAreNotSeen(x *trial) {
	x.set(x.db, "a", "1")
	x.transact(x.db, func(s *script) {
		a, all := s.Get(key("a")), s.GetRange(wholeStore(), backend.RangeOptions{})
		s.set("a", "2", "b", "2")
		value, err := a.Get()
		s.keep(err)
		pairs, err := all.Get()
		s.keep(err)
		x.expect("a read before the write", string(value), "1")
		x.expect("a range before the write", words(pairs), "a=1")
	})
}

// The same when another read, which has to see the writes, is started before the first ones have arrived. The range is
// more than comes in one piece.
func readsOnTheirWayAreLeftAlone(x *trial) {
	const pairs = 1_000
	item := func(i int) backend.Key { return backend.NewKey("n", i) }
	x.transact(x.db, func(s *script) {
		for i := range pairs {
			s.tx.Set(item(i), make([]byte, 500))
		}
	})
	x.transact(x.db, func(s *script) {
		before := []backend.Future[[]backend.KeyValue]{
			s.GetRange(key("n").Below(), backend.RangeOptions{}),
			s.GetRange(key("n").Below(), backend.RangeOptions{Reverse: true}),
			s.GetRange(key("n").Below(), backend.RangeOptions{Bytes: 300_000}),
		}
		first, last := s.Get(item(0)), s.Get(item(pairs-1))
		s.tx.Clear(key("n").Below())
		s.tx.Set(item(pairs), []byte("new"))
		after, err := s.GetRange(key("n").Below(), backend.RangeOptions{}).Get()
		s.keep(err)
		x.expect("a range after the writes", words(after), "n/1000=new")
		for i, want := range []int{pairs, pairs, 300_000/500 + 1} {
			all, err := before[i].Get()
			s.keep(err)
			if i < 2 && len(all) != want || i == 2 && (len(all) < want/2 || len(all) > want) {
				x.Errorf("range %d before the writes has %d pairs", i, len(all))
			}
			for _, pair := range all {
				if len(pair.Value) != 500 {
					x.Errorf("range %d before the writes has %v = %q", i, pair.Key, pair.Value)
				}
			}
		}
		for _, read := range []backend.Future[[]byte]{first, last} {
			value, err := read.Get()
			s.keep(err)
			if len(value) != 500 {
				x.Errorf("a read before the writes has %d bytes", len(value))
			}
		}
	})
}

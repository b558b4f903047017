package backendtest

import (
	"github.com/dserver-go/dserver/backend"
)

// race is a transaction that has run when another handle commits meanwhile. Both begin with
// a=1 c=1 e=1 g=1, and the counter n at 1.
type race struct {
	fact      string
	first     func(s *script)
	meanwhile func(s *script)
}

func races() []check {
	var checks []check
	for _, r := range conflicting() {
		checks = append(checks, check{"Conflict/" + r.fact, func(x *trial) { x.mustRunAgain(r) }})
	}
	for _, r := range harmless() {
		checks = append(checks, check{"NoConflict/" + r.fact, func(x *trial) { x.mustRunOnce(r) }})
	}
	return append(checks,
		check{"ALostRaceOnOneHandle", lostRaceOnOneHandle},
		check{"ATransactionWithoutWritesIsNotValidated", withoutWritesIsNotValidated},
		check{"TheNextRunSeesWhatWonTheRace", nextRunSeesTheWinner},
	)
}

// run plays r, and returns how often its first transaction ran.
func (r race) run(x *trial) (runs int) {
	x.set(x.db, "a", "1", "c", "1", "e", "1", "g", "1")
	x.transact(x.db, func(s *script) { s.tx.Add(key("n"), 1) })
	x.transact(x.db, func(s *script) {
		r.first(s)
		if runs++; runs == 1 {
			x.transact(x.other, r.meanwhile)
		}
	})
	return runs
}

func (x *trial) mustRunAgain(r race) {
	if runs := r.run(x); runs < 2 {
		x.Error("committed though what it had read was changed")
	}
}

func (x *trial) mustRunOnce(r race) {
	if runs := r.run(x); runs != 1 {
		x.Errorf("ran %d times though nothing that it had read was changed", runs)
	}
}

func getting(name string) func(*script) {
	return func(s *script) {
		s.get(name)
		s.set("result", "x")
	}
}

func listing(begin, end string, o backend.RangeOptions) func(*script) {
	return func(s *script) {
		s.list(between(begin, end), o)
		s.set("result", "x")
	}
}

func sets(name string) func(*script) { return func(s *script) { s.set(name, "2") } }

func clears(begin, end string) func(*script) { return func(s *script) { s.clear(begin, end) } }

// drawn makes the snapshot without a conflict, so that the commit that follows is later for sure.
func drawn(s *script) { s.list(between("a", "b"), backend.RangeOptions{Snapshot: true}) }

func conflicting() []race {
	limit2, last1 := backend.RangeOptions{Limit: 2}, backend.RangeOptions{Limit: 1, Reverse: true}
	return []race{
		{"AGetAndASet", getting("a"), sets("a")},
		{"AGetOfNothingAndASet", getting("b"), sets("b")},
		{"AGetAndAClear", getting("c"), clears("b", "d")},
		{"AGetAndAnAdd", getting("n"), func(s *script) { s.tx.Add(key("n"), 1) }},
		{"AGetAndAStamp", getting("a"), func(s *script) { s.tx.Stamp(key("a")) }},
		{"AnUpdateAndASet", func(s *script) { s.set("a", s.get("a")+"+") }, sets("a")},
		{"ARangeAndAChange", listing("a", "z", backend.RangeOptions{}), sets("c")},
		{"ARangeAndAPhantom", listing("a", "z", backend.RangeOptions{}), sets("d")},
		{"ARangeAndAPhantomAtItsBegin", listing("b", "z", backend.RangeOptions{}), sets("b")},
		{"ARangeAndAPhantomBehindItsLast", listing("a", "z", backend.RangeOptions{}), sets("y")},
		{"ARangeAndADelete", listing("a", "z", backend.RangeOptions{}), clears("e", "f")},
		{"ARangeBackwardsAndAPhantom", listing("a", "z", backend.RangeOptions{Reverse: true}), sets("b")},
		{"AnEmptyRangeAndAPhantom", listing("h", "k", backend.RangeOptions{}), sets("i")},
		{"AnEmptyRangeAndAnAppend", func(s *script) {
			s.list(key("q").Below(), backend.RangeOptions{})
			s.set("result", "x")
		}, func(s *script) { s.tx.Append(key("q"), nil) }},
		{"ALimitedRangeAndItsLast", listing("a", "z", limit2), sets("c")},
		{"ALimitedRangeAndAPhantomWithin", listing("a", "z", limit2), sets("b")},
		{"ALimitThatIsNotReachedAndAPhantomBehind", listing("a", "d", backend.RangeOptions{Limit: 3}), sets("cc")},
		{"ALimitedRangeBackwardsAndAPhantomWithin", listing("a", "k", last1), sets("h")},
		{"ALimitedRangeBackwardsAndItsLast", listing("a", "k", last1), sets("g")},
		{"ARangeOfBytesAndItsLast", listing("a", "z", backend.RangeOptions{Bytes: 1}), sets("a")},
		{"ALimitedRangeBehindAnOwnClear", func(s *script) {
			s.clear("a", "b")
			s.list(between("a", "z"), backend.RangeOptions{Limit: 1})
		}, clears("c", "d")},
		{"ARangeWithOwnWritesAndAPhantom", func(s *script) {
			s.set("d", "2")
			s.list(between("a", "z"), backend.RangeOptions{})
		}, sets("f")},
		{"AGetOfAnOwnAddAndAnAdd", func(s *script) {
			s.tx.Add(key("n"), 1)
			s.get("n")
		}, func(s *script) { s.tx.Add(key("n"), 1) }},
		{"AConflictAndASet", func(s *script) {
			drawn(s)
			s.tx.Conflict(key("c"))
			s.set("result", "x")
		}, sets("c")},
		{"AConflictOnNothingAndASet", func(s *script) {
			drawn(s)
			s.tx.Conflict(key("d"))
			s.set("result", "x")
		}, sets("d")},
		{"AGetAndAnAppend", func(s *script) {
			s.get("a")
			s.tx.Append(key("q"), nil)
		}, sets("a")},
		{"AGetAndAClearOfItself", func(s *script) {
			s.get("a")
			s.clear("a", "b")
		}, sets("a")},
		{"ASnapshotReadIsNoExcuseForAGet", func(s *script) {
			drawn(s)
			s.get("a")
			s.set("result", "x")
		}, sets("a")},
	}
}

func harmless() []race {
	push := func(s *script) { s.tx.Append(key("q"), []byte("x")) }
	return []race{
		{"AGetAndASetOfAnotherKey", getting("a"), sets("b")},
		{"AGetAndAClearOfItsNeighbours", getting("c"), clears("d", "f")},
		{"BlindSets", func(s *script) { drawn(s); s.set("a", "x") }, sets("a")},
		{"ABlindClear", func(s *script) { drawn(s); s.clear("a", "z") }, sets("b")},
		{"Adds", func(s *script) { drawn(s); s.tx.Add(key("n"), 1) }, func(s *script) { s.tx.Add(key("n"), 1) }},
		{"Appends", func(s *script) { drawn(s); push(s) }, push},
		{"Stamps", func(s *script) { drawn(s); s.tx.Stamp(key("a")) }, func(s *script) { s.tx.Stamp(key("a")) }},
		{"ASnapshotRange", listing("a", "z", backend.RangeOptions{Snapshot: true}), sets("c")},
		{"ATakeAndAPush", func(s *script) {
			s.list(key("q").Below(), backend.RangeOptions{Snapshot: true, Limit: 10})
			s.tx.Conflict(key("q").Stamp(backend.NewVersionstamp(1, 0)))
			s.set("result", "x")
		}, push},
		{"AConflictAndASetOfAnotherKey", func(s *script) {
			drawn(s)
			s.tx.Conflict(key("c"))
			s.set("result", "x")
		}, sets("d")},
		{"ARangeAndASetAtItsEnd", listing("a", "c", backend.RangeOptions{}), sets("c")},
		{"ALimitedRangeAndASetBehind", listing("a", "z", backend.RangeOptions{Limit: 2}), sets("d")},
		{"ALimitedRangeBackwardsAndASetBefore", listing("a", "z", backend.RangeOptions{Limit: 2, Reverse: true}), sets("c")},
		{"ARangeOfBytesAndASetBehind", listing("a", "z", backend.RangeOptions{Bytes: 1}), sets("c")},
	}
}

func lostRaceOnOneHandle(x *trial) {
	runs := 0
	x.set(x.db, "a", "1")
	x.transact(x.db, func(s *script) {
		value := s.get("a")
		if runs++; runs == 1 {
			x.set(x.db, "a", "2")
		}
		s.set("b", value)
	})
	x.expect("what was read", x.get(x.db, "b"), "2")
}

func withoutWritesIsNotValidated(x *trial) {
	runs := 0
	x.set(x.db, "a", "1")
	x.transact(x.db, func(s *script) {
		if runs++; runs == 1 {
			s.get("a")
			x.set(x.other, "a", "2")
		}
		s.tx.Conflict(key("a"))
	})
	if runs != 1 {
		x.Errorf("ran %d times", runs)
	}
}

func nextRunSeesTheWinner(x *trial) {
	runs := 0
	x.set(x.db, "a", "0")
	x.transact(x.db, func(s *script) {
		const losses = 3
		value := s.get("a")
		if runs < losses {
			x.set(x.other, "a", value+"!")
		}
		runs++
		s.set("result", value)
	})
	x.expect("the last run's reading", x.get(x.other, "result"), "0!!!")
}

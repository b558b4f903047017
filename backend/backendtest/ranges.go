package backendtest

import (
	"fmt"
	"strings"

	"github.com/dserver-go/dserver/backend"
)

func ranges() []check {
	return []check{
		{"ARangeIsInKeyOrder", rangeIsInKeyOrder},
		{"AnEndIsNotInTheRange", endIsNotInRange},
		{"ALimitCutsFromTheEndThatIsReadFirst", limitCuts},
		{"ABytesLimitStopsAfterThePairThatReachesIt", bytesLimitStops},
		{"AnEmptyRangeHasNothing", emptyRangeHasNothing},
		{"ATreeHasItsRootAndNoSibling", treeHasRootAndNoSibling},
		{"ALargeRangeComesWhole", largeRangeComesWhole},
	}
}

func rangeIsInKeyOrder(x *trial) {
	x.transact(x.db, func(s *script) {
		for _, i := range []int64{300, -1, 0, 2, 255, 256, -300} {
			s.tx.Set(backend.NewKey("n", i), nil)
		}
		s.tx.Set(backend.NewKey("n", "text"), nil)
	})
	x.read(x.other, func(r *reader) {
		x.expect("upwards", r.list(key("n").Below(), backend.RangeOptions{}),
			"n/text= n/-300= n/-1= n/0= n/2= n/255= n/256= n/300=")
		x.expect("downwards", r.list(key("n").Below(), backend.RangeOptions{Reverse: true}),
			"n/300= n/256= n/255= n/2= n/0= n/-1= n/-300= n/text=")
	})
}

func endIsNotInRange(x *trial) {
	x.set(x.db, "a", "1", "b", "1", "c", "1", "d", "1")
	x.read(x.other, func(r *reader) {
		x.expect("b to d", r.list(between("b", "d"), backend.RangeOptions{}), "b=1 c=1")
		x.expect("b to d backwards", r.list(between("b", "d"), backend.RangeOptions{Reverse: true}), "c=1 b=1")
		x.expect("between keys", r.list(between("aa", "bb"), backend.RangeOptions{}), "b=1")
	})
}

func limitCuts(x *trial) {
	x.set(x.db, "a", "1", "b", "1", "c", "1")
	x.read(x.other, func(r *reader) {
		for limit, want := range []string{"a=1 b=1 c=1", "a=1", "a=1 b=1", "a=1 b=1 c=1", "a=1 b=1 c=1"} {
			x.expect(fmt.Sprintf("limit %d", limit), r.list(wholeStore(), backend.RangeOptions{Limit: limit}), want)
		}
		x.expect("the last two", r.list(wholeStore(), backend.RangeOptions{Limit: 2, Reverse: true}), "c=1 b=1")
	})
}

func bytesLimitStops(x *trial) {
	value := strings.Repeat("v", 97)
	pair := len(key("a")) + len(value) // 100 bytes
	x.set(x.db, "a", value, "b", value, "c", value)
	count := func(r *reader, o backend.RangeOptions) string {
		return fmt.Sprint(strings.Count(r.list(wholeStore(), o), "="))
	}
	both := func(what string, o backend.RangeOptions, want string) {
		x.read(x.other, func(r *reader) { x.expect(what, count(r, o), want) })
		x.transact(x.other, func(s *script) { x.expect(what+" in a Tx", count(&s.reader, o), want) })
	}
	both("one byte is reached by the first pair", backend.RangeOptions{Bytes: 1}, "1")
	both("just one pair", backend.RangeOptions{Bytes: pair}, "1")
	both("a byte more", backend.RangeOptions{Bytes: pair + 1}, "2")
	both("a byte more, backwards", backend.RangeOptions{Bytes: pair + 1, Reverse: true}, "2")
	both("more than all", backend.RangeOptions{Bytes: 10 * pair}, "3")
	both("the limit is lower", backend.RangeOptions{Bytes: 10 * pair, Limit: 2}, "2")
	both("the bytes are lower", backend.RangeOptions{Bytes: pair, Limit: 2}, "1")
}

func emptyRangeHasNothing(x *trial) {
	x.set(x.db, "a", "1", "b", "1")
	for _, empty := range []backend.Range{between("a", "a"), between("b", "a"), between("c", "z")} {
		x.transact(x.db, func(s *script) {
			x.expect("a range", s.list(empty, backend.RangeOptions{}), "")
			x.expect("a range backwards", s.list(empty, backend.RangeOptions{Reverse: true, Limit: 1}), "")
			s.tx.Clear(empty)
			s.set("b", "2")
			x.expect("a range after a write", s.list(empty, backend.RangeOptions{}), "")
		})
		x.read(x.db, func(r *reader) { x.expect("a range", r.list(empty, backend.RangeOptions{}), "") })
	}
	x.expect("nothing was cleared", x.everything(x.other), "a=1 b=2")
}

func treeHasRootAndNoSibling(x *trial) {
	x.transact(x.db, func(s *script) {
		for _, k := range []backend.Key{
			backend.NewKey("a"), backend.NewKey("a", 1), backend.NewKey("a", 1, "x"), backend.NewKey("a", nil),
			backend.NewKey("ab"), backend.NewKey("a\x00"), backend.NewKey("A", 1), backend.NewKey("b"),
		} {
			s.tx.Set(k, nil)
		}
	})
	x.transact(x.other, func(s *script) {
		x.expect("the tree", s.list(key("a").Tree(), backend.RangeOptions{}), "a= a/<nil>= a/1= a/1/x=")
		x.expect("below", s.list(key("a").Below(), backend.RangeOptions{}), "a/<nil>= a/1= a/1/x=")
		s.tx.Clear(key("a").Tree())
	})
	x.expect("what is left", x.everything(x.db), "A/1= a\x00= ab= b=")
}

// A range of many kilobytes takes a store several steps, which must neither lose nor double a pair.
func largeRangeComesWhole(x *trial) {
	const pairs = 3000
	value := []byte(strings.Repeat("v", 300))
	x.transact(x.db, func(s *script) {
		for i := range pairs {
			s.tx.Set(backend.NewKey("n", i), value)
		}
	})
	x.transact(x.other, func(s *script) {
		s.tx.Clear(backend.NewKey("n", pairs/2).Only())
		s.tx.Set(backend.NewKey("n", pairs), value)
		for _, reverse := range []bool{false, true} {
			found, err := s.GetRange(key("n").Below(), backend.RangeOptions{Reverse: reverse}).Get()
			s.keep(err)
			x.expect("pairs", fmt.Sprint(len(found)), fmt.Sprint(pairs))
			for i := 1; i < len(found); i++ {
				if ordered := found[i-1].Key.Compare(found[i].Key) < 0; ordered == reverse {
					x.Fatalf("%v is before %v", found[i-1].Key, found[i].Key)
				}
			}
		}
	})
}

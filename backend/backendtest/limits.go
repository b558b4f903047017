package backendtest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
)

// Each limit is tried at its border, where it must work, and just beyond, where it must fail the commit.
func limits() []check {
	var checks []check
	for what, l := range borders() {
		checks = append(checks,
			check{what + "/AtTheBorder", func(x *trial) { x.isAllowed(l) }},
			check{what + "/Beyond", func(x *trial) { x.isTooLarge(l) }})
	}
	return append(checks,
		check{"AKeyAtTheBorderComesBack", longKeyComesBack},
		check{"NothingOfATooLargeTransactionIsWritten", tooLargeWritesNothing},
		check{"TheFirstImpossibleWriteSticks", impossibleWriteSticks},
		check{"ManyReadsAreTooLarge", manyReadsAreTooLarge},
	)
}

// border is a limit: write is called with 0 for what is just allowed and with 1 for one more.
type border func(tx backend.Tx, more int)

func filler(n int) []byte { return bytes.Repeat([]byte("f"), n) }

func borders() map[string]border {
	const stampElement = 13 // bytes that Append adds to its prefix
	return map[string]border{
		"TheKeyOfASet":   func(tx backend.Tx, more int) { tx.Set(filler(backend.MaxKeyBytes+more), nil) },
		"TheKeyOfAnAdd":  func(tx backend.Tx, more int) { tx.Add(filler(backend.MaxKeyBytes+more), 1) },
		"TheKeyOfAStamp": func(tx backend.Tx, more int) { tx.Stamp(filler(backend.MaxKeyBytes + more)) },
		"TheKeyOfAClear": func(tx backend.Tx, more int) { tx.Clear(backend.Key(filler(backend.MaxKeyBytes + more)).Only()) },
		"ThePrefixOfAnAppend": func(tx backend.Tx, more int) {
			tx.Append(filler(backend.MaxKeyBytes-stampElement+more), nil)
		},
		"TheValueOfASet":     func(tx backend.Tx, more int) { tx.Set(key("a"), filler(backend.MaxValueBytes+more)) },
		"TheValueOfAnAppend": func(tx backend.Tx, more int) { tx.Append(key("q"), filler(backend.MaxValueBytes+more)) },
		"TheWritesTogether":  fillTransaction,
		"TheConflictsTogether": func(tx backend.Tx, more int) {
			fillConflicts(tx, more)
			tx.Set(key("a"), nil)
		},
		"TheNumberOfAppends": func(tx backend.Tx, more int) {
			for range backend.MaxAppends + more {
				tx.Append(key("q"), nil)
			}
		},
	}
}

// fillTransaction writes just as many bytes as Size allows, and so many more.
func fillTransaction(tx backend.Tx, more int) {
	var size backend.Size
	for i := 0; ; i++ {
		full, k := size, backend.NewKey("fill", i)
		if full.Write(k, backend.MaxValueBytes) == nil {
			size = full
			tx.Set(k, filler(backend.MaxValueBytes))
			continue
		}
		tx.Set(k, filler(largest(func(n int) bool { trial := size; return trial.Write(k, n) == nil })+more))
		return
	}
}

// fillConflicts is fillTransaction for conflicts, leaving room for a Set of key a.
func fillConflicts(tx backend.Tx, more int) {
	var size backend.Size
	if size.Write(key("a"), 0) != nil {
		return
	}
	long := func(i, n int) backend.Key { return append(backend.NewKey(i), filler(n)...) }
	for i := 0; ; i++ {
		full, k := size, long(i, backend.MaxKeyBytes-10)
		if full.Conflict(k.Only()) == nil {
			size = full
			tx.Conflict(k)
			continue
		}
		n := largest(func(n int) bool { trial := size; return trial.Conflict(long(i, n).Only()) == nil })
		tx.Conflict(long(i, n+more))
		return
	}
}

// largest returns the largest n for which fits holds, up to the longest value.
func largest(fits func(n int) bool) int {
	low, high := 0, backend.MaxValueBytes
	for low < high {
		if middle := (low + high + 1) / 2; fits(middle) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}

func (x *trial) isAllowed(l border) {
	if err := x.db.Transact(x.Context(), func(tx backend.Tx) error { l(tx, 0); return nil }); err != nil {
		x.Errorf("at the border: %v", err)
	}
}

func (x *trial) isTooLarge(l border) {
	runs := 0
	err := x.db.Transact(x.Context(), func(tx backend.Tx) error {
		runs++
		l(tx, 1)
		return nil
	})
	if !errors.Is(err, backend.ErrTooLarge) {
		x.Errorf("one more: %v", err)
	}
	if runs != 1 {
		x.Errorf("ran %d times, though trying again does not help", runs)
	}
}

func longKeyComesBack(x *trial) {
	long := backend.Key(filler(backend.MaxKeyBytes))
	x.transact(x.db, func(s *script) { s.tx.Set(long, filler(backend.MaxValueBytes)) })
	x.transact(x.other, func(s *script) {
		value, err := s.Get(long).Get()
		s.keep(err)
		x.expect("the value's length", fmt.Sprint(len(value)), fmt.Sprint(backend.MaxValueBytes))
		found, err := s.GetRange(wholeStore(), backend.RangeOptions{}).Get()
		s.keep(err)
		if len(found) != 1 || !bytes.Equal(found[0].Key, long) {
			x.Errorf("the range has %d pairs", len(found))
		}
		s.tx.Clear(long.Only())
	})
	x.expect("after the clear", x.everything(x.db), "")
}

func tooLargeWritesNothing(x *trial) {
	err := transact(x.Context(), x.db, func(s *script) {
		s.set("before", "1")
		s.tx.Append(key("q"), nil)
		s.tx.Set(key("large"), filler(backend.MaxValueBytes+1))
		s.set("after", "1")
	})
	if !errors.Is(err, backend.ErrTooLarge) {
		x.Error(err)
	}
	x.expect("what was written", x.everything(x.other), "")
}

// A later write of the same key does not mend it.
func impossibleWriteSticks(x *trial) {
	err := transact(x.Context(), x.db, func(s *script) {
		s.tx.Set(key("a"), filler(backend.MaxValueBytes+1))
		s.set("a", "small")
		s.clear("a", "b")
	})
	if !errors.Is(err, backend.ErrTooLarge) {
		x.Error(err)
	}
	x.expect("what was written", x.everything(x.other), "")
}

// What was read counts as well, since the store must compare it at the commit.
func manyReadsAreTooLarge(x *trial) {
	long := func(i int) backend.Key { return append(backend.NewKey(i), filler(backend.MaxKeyBytes-10)...) }
	reads := backend.MaxTransactionBytes/(2*(backend.MaxKeyBytes-10)) + 1
	err := transact(x.Context(), x.db, func(s *script) {
		for i := range reads {
			s.Get(long(i)).Get()
		}
		s.set("a", "1")
	})
	if !errors.Is(err, backend.ErrTooLarge) {
		x.Errorf("%d reads: %v", reads, err)
	}
	x.transact(x.db, func(s *script) {
		for i := range reads {
			s.list(long(i).Only(), backend.RangeOptions{Snapshot: true})
		}
		s.set("a", "1")
	})
}

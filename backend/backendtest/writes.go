package backendtest

import (
	"context"

	"github.com/dserver-go/dserver/backend"
)

func writes() []check {
	return []check{
		{"WritesAreCopied", writesAreCopied},
		{"WritesApplyInTheOrderOfTheirCalls", writesApplyInOrder},
		{"AWriteIsInvisibleUntilItsCommit", invisibleUntilCommit},
		{"ATransactionAppearsAllAtOnce", appearsAllAtOnce},
		{"AClearEndsBeforeItsEnd", clearEndsBeforeEnd},
		{"ManyWritesOfAllKindsByTurnsTakeNoTimeOfTheirOwn", manyByTurns},
		{"EveryHandleSeesWhatAnotherWrote", everyHandleSees},
		{"AnAsynchronousCommitIsOneLikeAnyOther", asyncIsLikeAnyOther},
	}
}

func writesAreCopied(x *trial) {
	x.transact(x.db, func(s *script) {
		value := []byte("before")
		s.tx.Set(key("a"), value)
		s.tx.Append(key("q"), value)
		copy(value, "AFTER!")
		x.expect("its own value", s.get("a"), "before")
	})
	x.expect("the values", x.everything(x.other), "a=before q/#=before")
}

func writesApplyInOrder(x *trial) {
	x.set(x.db, "cleared", "old", "set", "old")
	x.transact(x.db, func(s *script) {
		s.set("cleared", "new")
		s.clear("cleared", "cleared2")
		s.clear("set", "set2")
		s.set("set", "first", "set", "second")
		s.tx.Append(key("kept"), []byte("x"))
		s.tx.Append(key("gone"), []byte("x"))
		s.tx.Clear(key("gone").Tree())
		s.tx.Stamp(key("stamped"))
		s.tx.Clear(key("stamped").Only())
		s.tx.Stamp(key("value"))
		s.set("value", "last")
	})
	x.expect("the last write wins", x.everything(x.other), "kept/#=x set=second value=last")
}

func invisibleUntilCommit(x *trial) {
	x.transact(x.db, func(s *script) {
		s.set("a", "1")
		x.expect("another's write before its commit", x.get(x.other, "a"), absent)
		x.expect("on the same handle", x.get(x.db, "a"), absent)
	})
	x.expect("another's write after its commit", x.get(x.other, "a"), "1")
}

// A reader that races with a writer of two keys sees both or neither.
func appearsAllAtOnce(x *trial) {
	x.set(x.db, "a", "", "b", "")
	written := make(chan error, 1)
	go func() { written <- writeTwins(x.Context(), x.db, 100) }()
	for {
		x.read(x.other, func(r *reader) { x.expect("the twins", r.get("a"), r.get("b")) })
		select {
		case err := <-written:
			if err != nil {
				x.Fatal(err)
			}
			return
		default:
		}
	}
}

// writeTwins makes both values one byte longer in each commit.
func writeTwins(ctx context.Context, db backend.Database, commits int) error {
	for range commits {
		err := transact(ctx, db, func(s *script) {
			longer := s.get("a") + "x"
			s.set("a", longer, "b", longer)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func clearEndsBeforeEnd(x *trial) {
	x.set(x.db, "a", "1", "b", "1", "c", "1", "d", "1")
	x.transact(x.db, func(s *script) { s.clear("b", "d") })
	x.expect("what is left", x.everything(x.other), "a=1 d=1")
}

func everyHandleSees(x *trial) {
	third := x.open()
	x.set(x.db, "a", "1")
	x.set(x.other, "b", "2")
	x.set(third, "c", "3")
	for _, db := range []backend.Database{x.db, x.other, third, x.open()} {
		x.expect("a handle", x.everything(db), "a=1 b=2 c=3")
	}
}

func asyncIsLikeAnyOther(x *trial) {
	x.set(x.db, "n", "")
	for _, db := range []backend.Database{x.db, x.other, x.db} {
		x.transact(db, func(s *script) {
			backend.CommitAsync(s.tx)
			s.set("n", s.get("n")+"x")
			s.tx.Append(key("q"), []byte(s.get("n")))
		})
	}
	x.expect("another handle", x.everything(x.other), "n=xxx q/#=x q/#=xx q/#=xxx")
	runs := 0
	x.transact(x.other, func(s *script) {
		backend.CommitAsync(s.tx)
		s.set("seen", s.get("n"))
		if runs++; runs == 1 {
			x.set(x.db, "n", "changed")
		}
	})
	x.expect("one that lost a race", x.get(x.db, "seen"), "changed")
}

// A transaction as large as the limits allow takes time in proportion to its size, in whatever order its writes and
// reads come: else it grows too old.
func manyByTurns(x *trial) {
	const turns = 12_000
	err := x.db.Transact(x.Context(), func(tx backend.Tx) error {
		var asked []backend.Future[[]byte]
		for i := range turns {
			k := backend.NewKey("k", i)
			tx.Clear(k.Below())
			tx.Append(backend.NewKey("q", i%(turns/2)), nil)
			if i%10 == 0 {
				tx.Set(k, nil)
				asked = append(asked, tx.Get(backend.NewKey("r", i)))
			}
			if i%200 != 199 {
				continue
			}
			for _, f := range asked { // together, as what this asks for is not the time of many round trips
				if _, err := f.Get(); err != nil {
					return err
				}
			}
			asked = nil
		}
		tx.Clear(backend.NewKey("q", 0).Below())
		return nil
	})
	if err != nil {
		x.Fatalf("%d turns: %v", turns, err)
	}
	x.read(x.other, func(r *reader) {
		for what, want := range map[string]int{"k": turns / 10, "q": turns - 2} {
			found, err := r.GetRange(backend.NewKey(what).Below(), backend.RangeOptions{}).Get()
			if err != nil || len(found) != want {
				x.Errorf("%d keys below %s, %v; want %d", len(found), what, err, want)
			}
		}
	})
}

package backendtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/dserver-go/dserver/backend"
)

func versionstamps() []check {
	return []check{
		{"AppendsAreNumberedInTheOrderOfTheirCalls", appendsAreNumbered},
		{"LaterCommitsHaveLaterStamps", laterCommitsHaveLaterStamps},
		{"UnderLoadStampsAreInTheOrderOfAcknowledgement", stampsUnderLoad},
		{"AStampIsTheVersion", stampIsTheVersion},
		{"AStampIsNotUsedAgain", stampIsNotUsedAgain},
		{"AppendsOfOneTransactionAreContiguous", appendsAreContiguous},
		{"NoVersionWithoutACommit", noVersionWithoutCommit},
		{"EveryKindOfWriteHasAVersion", everyWriteHasVersion},
		{"WhatWasAppendedOrStampedCannotBeReadBefore", unknownCannotBeRead},
	}
}

// versionOf runs fn and returns the version of its commit.
func versionOf(ctx context.Context, db backend.Database, fn func(tx backend.Tx) error) (backend.Versionstamp, error) {
	var version backend.Future[backend.Versionstamp]
	err := db.Transact(ctx, func(tx backend.Tx) error {
		version = tx.Version()
		return fn(tx)
	})
	if err != nil {
		return backend.Versionstamp{}, err
	}
	return version.Get()
}

func (x *trial) versionOf(db backend.Database, fn func(tx backend.Tx)) backend.Versionstamp {
	x.Helper()
	v, err := versionOf(x.Context(), db, func(tx backend.Tx) error { fn(tx); return nil })
	if err != nil {
		x.Fatal(err)
	}
	return v
}

func appendTo(prefix backend.Key) func(backend.Tx) {
	return func(tx backend.Tx) { tx.Append(prefix, nil) }
}

// One counter numbers the appends of a transaction, whatever their prefixes and whatever is written between them.
func appendsAreNumbered(x *trial) {
	version := x.versionOf(x.db, func(tx backend.Tx) {
		tx.Append(key("q"), []byte("0"))
		tx.Append(key("p"), []byte("1"))
		tx.Set(key("a"), nil)
		tx.Append(key("q"), []byte("2"))
		tx.Append(key("q").Int(7), []byte("3"))
		tx.Stamp(key("s"))
		tx.Append(key("q"), []byte("4"))
	})
	for order, prefix := range []backend.Key{key("q"), key("p"), key("q"), key("q").Int(7), key("q")} {
		x.read(x.other, func(r *reader) {
			value, err := r.Get(prefix.Stamp(version.Plus(order))).Get()
			r.keep(err)
			x.expect(fmt.Sprintf("append %d", order), string(value), fmt.Sprint(order))
		})
	}
}

func laterCommitsHaveLaterStamps(x *trial) {
	handles := []backend.Database{x.db, x.other, x.open()}
	var last backend.Versionstamp
	for i := range 60 {
		version := x.versionOf(handles[i%3], appendTo(key("q")))
		if version.Compare(last) <= 0 {
			x.Fatalf("commit %d has %v after %v", i, version, last)
		}
		last = version
	}
}

// A transaction that began after another was acknowledged has a later stamp, and no two have the same.
func stampsUnderLoad(x *trial) {
	var mu sync.Mutex
	var highest backend.Versionstamp
	seen := make(map[backend.Versionstamp]bool)
	newest := func() backend.Versionstamp {
		mu.Lock()
		defer mu.Unlock()
		return highest
	}
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		for range 50 {
			floor := newest()
			version, err := versionOf(ctx, db, func(tx backend.Tx) error {
				tx.Append(key("q").Int(int64(worker%2)), nil)
				return nil
			})
			if err != nil {
				return err
			}
			mu.Lock()
			double := seen[version]
			seen[version] = true
			if highest.Compare(version) < 0 {
				highest = version
			}
			mu.Unlock()
			if double || version.Compare(floor) <= 0 {
				return fmt.Errorf("%v was handed out after %v, or twice (%v)", version, floor, double)
			}
		}
		return nil
	})
}

func stampIsTheVersion(x *trial) {
	version := x.versionOf(x.db, func(tx backend.Tx) {
		tx.Append(key("q"), nil)
		tx.Stamp(key("s"))
	})
	x.read(x.other, func(r *reader) {
		value, err := r.Get(key("s")).Get()
		r.keep(err)
		stamp, err := backend.StampOf(value)
		r.keep(err)
		x.expect("the stamp", stamp.String(), version.String())
	})
}

// The stamps go on when all that was appended has been cleared and every handle was closed.
func stampIsNotUsedAgain(x *trial) {
	last := x.versionOf(x.db, appendTo(key("q")))
	for range 3 {
		x.transact(x.db, func(s *script) { s.tx.Clear(wholeStore()) })
		closeAll(x, x.db, x.other)
		x.db, x.other = x.open(), x.open()
		version := x.versionOf(x.db, appendTo(key("q")))
		if version.Compare(last) <= 0 {
			x.Fatalf("%v after %v", version, last)
		}
		last = version
	}
}

func appendsAreContiguous(x *trial) {
	const batches, perBatch = 20, 5
	x.each(func(ctx context.Context, db backend.Database, worker int) error {
		for batch := range batches {
			err := transact(ctx, db, func(s *script) {
				for i := range perBatch {
					s.tx.Append(key("q"), fmt.Appendf(nil, "%d %d %d", worker, batch, i))
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	x.read(x.db, func(r *reader) {
		found, err := r.GetRange(key("q").Below(), backend.RangeOptions{}).Get()
		r.keep(err)
		x.expect("items", fmt.Sprint(len(found)), fmt.Sprint(eachWorkers*batches*perBatch))
		next := make(map[int]int) // the batch that is due, by worker
		for i, pair := range found {
			var worker, batch, place int
			fmt.Sscanf(string(pair.Value), "%d %d %d", &worker, &batch, &place)
			if place != i%perBatch || batch != next[worker] {
				x.Fatalf("item %d is %q, where batch %d is due", i, pair.Value, next[worker])
			}
			if place == perBatch-1 {
				next[worker]++
			}
		}
	})
}

func noVersionWithoutCommit(x *trial) {
	var read, refused, conflict backend.Future[backend.Versionstamp]
	x.transact(x.db, func(s *script) {
		s.get("a")
		read = s.tx.Version()
	})
	x.transact(x.db, func(s *script) {
		s.tx.Conflict(key("a"))
		conflict = s.tx.Version()
	})
	transact(x.Context(), x.db, func(s *script) {
		s.set("a", "1")
		refused = s.tx.Version()
		s.keep(errRefused)
	})
	for what, version := range map[string]backend.Future[backend.Versionstamp]{
		"a transaction that only read": read, "one that only has a conflict": conflict, "one that was rolled back": refused,
	} {
		if v, err := version.Get(); err == nil {
			x.Errorf("%s has version %v", what, v)
		}
	}
}

func everyWriteHasVersion(x *trial) {
	var last backend.Versionstamp
	for what, write := range map[string]func(backend.Tx){
		"set":              func(tx backend.Tx) { tx.Set(key("a"), nil) },
		"clear":            func(tx backend.Tx) { tx.Clear(key("a").Only()) },
		"clear of nothing": func(tx backend.Tx) { tx.Clear(key("nothing").Tree()) },
		"add":              func(tx backend.Tx) { tx.Add(key("n"), 1) },
		"append":           appendTo(key("q")),
		"stamp":            func(tx backend.Tx) { tx.Stamp(key("s")) },
	} {
		version := x.versionOf(x.db, write)
		if version.Compare(last) <= 0 {
			x.Errorf("%s: %v after %v", what, version, last)
		}
		last = version
	}
}

// Such a read fails the transaction, even if its error is not looked at.
func unknownCannotBeRead(x *trial) {
	for what, fn := range map[string]func(s *script){
		"a range with an append": func(s *script) {
			s.tx.Append(key("q"), nil)
			s.GetRange(key("q").Below(), backend.RangeOptions{}).Get()
		},
		"a snapshot of a range with an append": func(s *script) {
			s.tx.Append(key("q"), nil)
			s.GetRange(wholeStore(), backend.RangeOptions{Snapshot: true}).Get()
		},
		"a stamped key": func(s *script) {
			s.tx.Stamp(key("s"))
			s.Get(key("s")).Get()
		},
		"a range with a stamped key": func(s *script) {
			s.tx.Stamp(key("s"))
			s.GetRange(between("a", "z"), backend.RangeOptions{}).Get()
		},
	} {
		if err := transact(x.Context(), x.db, fn); err == nil {
			x.Errorf("%s was read before the commit", what)
		}
	}
	x.expect("nothing was committed", x.everything(x.other), "")
	x.transact(x.db, func(s *script) {
		s.tx.Append(key("q"), nil)
		s.tx.Stamp(key("s"))
		x.expect("another range", s.list(between("a", "b"), backend.RangeOptions{}), "")
		x.expect("another key", s.get("t"), absent)
	})
}

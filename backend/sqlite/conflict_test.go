package sqlite

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"weak"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
)

// runsWhile commits a transaction that reads "a", lets meanwhile happen, and writes; it returns how often it ran.
func runsWhile(t *testing.T, db *DB, meanwhile func()) (runs int) {
	t.Helper()
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		value, err := tx.Get(backend.NewKey("a")).Get()
		if runs++; runs == 1 && err == nil {
			meanwhile()
		}
		tx.Set(backend.NewKey("copy"), value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if copied, a := getKey(t, db, "copy"), getKey(t, db, "a"); copied != a {
		t.Errorf("committed %q though it was %q then", copied, a)
	}
	return runs
}

// The record of an own group tells nothing of the foreign commit before it.
func TestForeignCommitBeforeAnOwnOneIsAConflict(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	mustSet(t, db, "a", "1")
	runs := runsWhile(t, db, func() {
		mustSet(t, other, "a", "2")
		mustSet(t, db, "b", "1")
		mustSet(t, db, "c", "1")
	})
	if runs != 2 {
		t.Errorf("it ran %d times; want 2", runs)
	}
}

// A handle that has not committed yet cannot know whose the sequence row is.
func TestForeignCommitBeforeTheFirstOwnOneIsAConflict(t *testing.T) {
	other := openTest(t)
	mustSet(t, other, "a", "1")
	db := openAt(t, other.path)
	if runs := runsWhile(t, db, func() { mustSet(t, other, "a", "2") }); runs != 2 {
		t.Errorf("it ran %d times; want 2", runs)
	}
}

func TestForeignCommitOfOtherKeysIsNoConflict(t *testing.T) {
	db := openTest(t)
	other := openAt(t, db.path)
	mustSet(t, db, "a", "1")
	for range 3 {
		if runs := runsWhile(t, db, func() { mustSet(t, other, "b", "2") }); runs != 1 {
			t.Errorf("it ran %d times; want 1", runs)
		}
	}
}

// Earlier members of a group are in the way like commits before it.
func TestMembersOfOneGroupConflict(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "before", "1")
	const members = 10
	db.writer.turn.Lock()
	outcomes := make(chan error, members)
	for range members {
		go func() { outcomes <- countUp(t.Context(), db, backend.NewKey("n")) }()
	}
	awaitQueue(t, db, members)
	db.writer.turn.Unlock()
	for range members {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	if n, _ := backend.Counter([]byte(getKey(t, db, "n"))); n != members {
		t.Errorf("%d of %d increments", n, members)
	}
}

// What no transaction can reach any more is garbage; what one has to look through is not.
func TestRecordsGoWhenTheOldestSnapshotEnds(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "a", "1")
	var held weak.Pointer[record]
	runs := runsWhile(t, db, func() {
		mustSet(t, db, "b", "1")
		held = weak.Make(db.writer.newest())
		for i := range 10 {
			mustSet(t, db, fmt.Sprint(i), "1")
		}
		runtime.GC()
		if held.Value() == nil {
			t.Error("a record is gone that a running transaction needs")
		}
	})
	if runs != 1 {
		t.Errorf("it ran %d times", runs)
	}
	mustSet(t, db, "c", "1")
	await(t, "an old record to be collected", func() bool {
		runtime.GC()
		return held.Value() == nil
	})
}

// The ordered writes and the spans are compared with a map, over a small set of keys.
func TestWritesInOrderAreAsInAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var o ordered
		var cleared spans
		want, wantCleared := map[string]int64{}, map[string]bool{}
		key := func(i int) backend.Key { return fmt.Appendf(nil, "%03d", i) }
		keys := rapid.IntRange(0, 999)
		drawRange := func() (int, int, backend.Range) {
			begin := keys.Draw(t, "begin")
			end := min(begin+rapid.IntRange(1, 300).Draw(t, "size"), 999)
			return begin, end, backend.Range{Begin: key(begin), End: key(end)}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				begin := keys.Draw(t, "key")
				for i := range rapid.IntRange(1, 700).Draw(t, "count") {
					k, n := key((begin+i*7)%1000), int64(i)
					o.put(&write{key: k, delta: n})
					want[string(k)] = n
				}
			},
			"drop": func(*rapid.T) {
				begin, end, r := drawRange()
				o.drop(r)
				for i := begin; i < end; i++ {
					delete(want, string(key(i)))
				}
			},
			"clear": func(*rapid.T) {
				begin, end, r := drawRange()
				if r.IsEmpty() {
					return
				}
				cleared.add(r)
				for i := begin; i < end; i++ {
					wantCleared[string(key(i))] = true
				}
			},
			"": func(t *rapid.T) {
				if err := errors.Join(sameWrites(&o, want), sameSpans(cleared, wantCleared)); err != nil {
					t.Fatal(err)
				}
				begin, end, r := drawRange()
				inRange := 0
				for i := begin; i < end; i++ {
					if _, ok := want[string(key(i))]; ok {
						inRange++
					}
				}
				if got := len(o.in(r, nil)); got != inRange || o.any(r) != (inRange > 0) {
					t.Fatalf("%d writes in %v; want %d", got, r, inRange)
				}
				touched := false
				for s := range cleared.all() {
					touched = touched || s.Begin.Compare(r.End) < 0 && r.Begin.Compare(s.End) < 0
				}
				if cleared.overlaps(r) != (touched && !r.IsEmpty()) {
					t.Fatalf("%v overlaps %v: %t", cleared, r, !touched)
				}
			},
		})
	})
}

func sameWrites(o *ordered, want map[string]int64) error {
	if o.count != len(want) {
		return fmt.Errorf("%d writes; want %d", o.count, len(want))
	}
	var last backend.Key
	for _, block := range o.blocks {
		if len(block) == 0 || len(block) > blockItems {
			return fmt.Errorf("a block of %d", len(block))
		}
		for _, w := range block {
			if last != nil && last.Compare(w.key) >= 0 {
				return fmt.Errorf("%q after %q", w.key, last)
			}
			if found := o.find(w.key); found != w || want[string(w.key)] != w.delta {
				return fmt.Errorf("%q is %v; want %d", w.key, found, want[string(w.key)])
			}
			last = w.key
		}
	}
	return nil
}

func sameSpans(s spans, want map[string]bool) error {
	var last backend.Range
	for r := range s.all() {
		if last.End != nil && last.End.Compare(r.Begin) >= 0 {
			return fmt.Errorf("%v meets %v", last, r)
		}
		last = r
	}
	for i := range 1000 {
		k := fmt.Sprintf("%03d", i)
		if s.contains(backend.Key(k)) != want[k] {
			return fmt.Errorf("%s is in %v: %t", k, s, !want[k])
		}
	}
	return nil
}

// More ranges than a block holds, in any order, and then one that joins those of several blocks.
func TestSpansOfManyBlocksAreOneSet(t *testing.T) {
	const ranges = 10 * blockItems
	key := func(i int) backend.Key { return backend.Key(fmt.Sprintf("%06d", i)) }
	var s spans
	for _, i := range rand.Perm(ranges) {
		s.add(backend.Range{Begin: key(2 * i), End: key(2*i + 1)})
	}
	if n := len(slices.Collect(s.all())); n != ranges || len(s.blocks) < 2 {
		t.Fatalf("%d ranges of %d in %d blocks", n, ranges, len(s.blocks))
	}
	s.add(backend.Range{Begin: key(1), End: key(2*ranges - 2)})
	if n := len(slices.Collect(s.all())); n != 1 {
		t.Errorf("%d ranges, though one joins them all", n)
	}
	for i := range 2 * ranges {
		if want := i < 2*ranges-1; s.contains(key(i)) != want || s.overlaps(key(i).Only()) != want {
			t.Fatalf("%s is in the set: %t", key(i), !want)
		}
	}
}

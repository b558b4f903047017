package occ

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
)

// The ordered writes and the spans are compared with a map, over a small set of keys.
func TestWritesInOrderAreAsInAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var o ordered
		var cleared Spans
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
					o.put(&Write{Key: k, Delta: n})
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
				cleared.Add(r)
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
				for s := range cleared.All() {
					touched = touched || s.Begin.Compare(r.End) < 0 && r.Begin.Compare(s.End) < 0
				}
				if cleared.Overlaps(r) != (touched && !r.IsEmpty()) {
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
			if last != nil && last.Compare(w.Key) >= 0 {
				return fmt.Errorf("%q after %q", w.Key, last)
			}
			if found := o.find(w.Key); found != w || want[string(w.Key)] != w.Delta {
				return fmt.Errorf("%q is %v; want %d", w.Key, found, want[string(w.Key)])
			}
			last = w.Key
		}
	}
	return nil
}

func sameSpans(s Spans, want map[string]bool) error {
	var last backend.Range
	for r := range s.All() {
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
	var s Spans
	for _, i := range rand.Perm(ranges) {
		s.Add(backend.Range{Begin: key(2 * i), End: key(2*i + 1)})
	}
	if n := len(slices.Collect(s.All())); n != ranges || len(s.blocks) < 2 {
		t.Fatalf("%d ranges of %d in %d blocks", n, ranges, len(s.blocks))
	}
	s.Add(backend.Range{Begin: key(1), End: key(2*ranges - 2)})
	if n := len(slices.Collect(s.All())); n != 1 {
		t.Errorf("%d ranges, though one joins them all", n)
	}
	for i := range 2 * ranges {
		if want := i < 2*ranges-1; s.contains(key(i)) != want || s.Overlaps(key(i).Only()) != want {
			t.Fatalf("%s is in the set: %t", key(i), !want)
		}
	}
}

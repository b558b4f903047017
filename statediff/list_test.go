package statediff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type line struct {
	SKU  string `dserver:"id"`
	Note string
	Qty  int
}

type cart struct{ Lines []line }

func lines(ids ...string) []line {
	list := make([]line, len(ids))
	for i, id := range ids {
		list[i] = line{SKU: id, Qty: i}
	}
	return list
}

func manyLines(n int) []line {
	list := make([]line, n)
	for i := range list {
		list[i] = line{SKU: "sku-" + strconv.Itoa(i), Note: "a line", Qty: i}
	}
	return list
}

// The cost of one change in a list of 100,000 does not depend on the 100,000.
func TestListWritesAFewKeysPerChange(t *testing.T) {
	const n = 100_000
	s := schemaOf[cart](t)
	c := &cart{Lines: manyLines(n)}
	r := rowsOf(t, s, c)
	for _, change := range []struct {
		name  string
		edits int
		make  func()
	}{
		{"edit", 1, func() { c.Lines[500].Qty++ }},
		{"append", 2, func() { c.Lines = append(c.Lines, line{SKU: "last"}) }},
		{"prepend", 2, func() { c.Lines = slices.Insert(c.Lines, 0, line{SKU: "first"}) }},
		{"insert", 2, func() { c.Lines = slices.Insert(c.Lines, n/2, line{SKU: "middle"}) }},
		{"delete", 1, func() { c.Lines = slices.Delete(c.Lines, 7, 8) }},
		{"move back", 1, func() { move(c.Lines, 90_000, 3) }},
		{"move ahead", 1, func() { move(c.Lines, 3, 90_000) }},
		{"move to the end", 1, func() { move(c.Lines, 3, len(c.Lines)-1) }},
		{"swap of neighbours", 1, func() { c.Lines[10], c.Lines[11] = c.Lines[11], c.Lines[10] }},
		{"move and edit", 2, func() { c.Lines[0].Qty = -1; move(c.Lines, 0, 50) }},
		{"nothing", 0, func() {}},
		{"clear", 1, func() { c.Lines = nil }},
	} {
		change.make()
		edits := commit(t, s, r, c)
		if len(edits) != change.edits {
			t.Fatalf("%s: %d edits, want %d:\n%s", change.name, len(edits), change.edits, textOfEdits(edits[:min(9, len(edits))]))
		}
	}
	if r.Len() != 0 {
		t.Fatalf("%d rows are left", r.Len())
	}
}

func move(list []line, from, to int) {
	moved := list[from]
	if from < to {
		copy(list[from:to], list[from+1:])
	} else {
		copy(list[to+1:], list[to:from])
	}
	list[to] = moved
}

// Trap 8: the new order of a list was not stored, so that writer and readers saw different ones.
// Trap 9: to reorder and to insert at once crashed the order's index.
func TestTrap8And9ReorderedListsComeBackInOrder(t *testing.T) {
	s := schemaOf[cart](t)
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom(strings.Split("a b c d e f g h i j k l", " ")), 0, 12, rapid.ID[string])
	rapid.Check(t, func(t *rapid.T) {
		r := NewRows()
		for i := range rapid.IntRange(1, 6).Draw(t, "steps") {
			c := &cart{Lines: lines(ids.Draw(t, "ids")...)}
			commit(t, s, r, c)
			mustBeSame(t, decode[cart](t, s, r), c)
			if edits := diff(t, s, r, c); len(edits) != 0 {
				t.Fatalf("step %d: edits without a change:\n%s", i, textOfEdits(edits))
			}
		}
	})
}

func TestListPermutationMovesTheFewest(t *testing.T) {
	s := schemaOf[cart](t)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "n")
		order := rapid.Permutation(seq(n)).Draw(t, "order")
		c := &cart{Lines: manyLines(n)}
		for i := range c.Lines {
			c.Lines[i].Qty = 0
		}
		r := rowsOf(t, s, c)
		old := slices.Clone(c.Lines)
		for i, from := range order {
			c.Lines[i] = old[from]
		}
		if got, want := len(diff(t, s, r, c)), n-longestAscending(order); got != want {
			t.Fatalf("%v: %d edits, want %d", order, got, want)
		}
	})
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// longestAscending tries all subsequences.
func longestAscending(order []int) (longest int) {
	for set := range 1 << len(order) {
		last, n := -1, 0
		for i, v := range order {
			if set>>i&1 == 0 {
				continue
			}
			if v < last {
				n = 0
				break
			}
			last, n = v, n+1
		}
		longest = max(longest, n)
	}
	return longest
}

// Trap 10: with an id twice in a list, an item that had been deleted came back.
func TestTrap10DuplicateIDsAreRefusedAndNothingIsLost(t *testing.T) {
	s := schemaOf[cart](t)
	committed := &cart{Lines: lines("a", "b")}
	r := rowsOf(t, s, committed)
	before := textOf(r)
	for _, ids := range [][]string{{"a", "b", "a"}, {"a", "c", "b", "c"}} {
		_, err := s.Diff(r, &cart{Lines: lines(ids...)})
		if err == nil || !strings.Contains(err.Error(), "Lines."+ids[len(ids)-1]) || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%v: the error is %v; want one that names the field and the id", ids, err)
		}
	}
	if textOf(r) != before {
		t.Fatal("the committed rows changed")
	}
	mustBeSame(t, decode[cart](t, s, r), committed)
}

// Trap 11: the order of a whole list was one value: many long ids broke the store's limit, and each append made it longer.
func TestTrap11ManyLongIDsAndAppendsKeepRowsSmall(t *testing.T) {
	s := schemaOf[cart](t)
	c, r := &cart{}, NewRows()
	long := strings.Repeat("x", 200)
	for i := range 700 {
		c.Lines = append(c.Lines, line{SKU: fmt.Sprintf("%s-%d", long, i)})
		mustCount(t, commit(t, s, r, c), 2)
	}
	for k, v := range r.All() {
		if len(k) > 250 || len(v) > 300 {
			t.Fatalf("a row with a key of %d and a value of %d bytes", len(k), len(v))
		}
		if strings.HasSuffix(Path(k), "#") && len(v) > 5 {
			t.Fatalf("a place takes %d bytes", len(v))
		}
	}
	mustBeSame(t, decode[cart](t, s, r), c)
}

// Inserts at one spot use the room between two labels up. What is spaced anew is a few edits an insert, on average.
func TestInsertsAtOneSpotWriteFewKeysOnAverage(t *testing.T) {
	s := schemaOf[cart](t)
	for name, spot := range map[string]func(n int) int{
		"behind the first":      func(int) int { return 1 },
		"ahead of the last":     func(n int) int { return n - 1 },
		"in the middle":         func(n int) int { return n / 2 },
		"at the front":          func(int) int { return 0 },
		"one after the other":   func(n int) int { return n - 50 },
		"one before the other":  func(int) int { return 50 },
		"alternating in a spot": func(n int) int { return n/2 + n%2 },
	} {
		c := &cart{Lines: manyLines(100)}
		r := rowsOf(t, s, c)
		const inserts = 400
		total := 0
		for i := range inserts {
			c.Lines = slices.Insert(c.Lines, spot(len(c.Lines)), line{SKU: "new-" + strconv.Itoa(i)})
			total += len(commit(t, s, r, c))
		}
		mustBeSame(t, decode[cart](t, s, r), c)
		t.Logf("%s: %.1f edits an insert", name, float64(total)/inserts)
		if total > 8*inserts {
			t.Errorf("%s: %d edits for %d inserts", name, total, inserts)
		}
	}
}

// Trap 25: to edit one field of an item rewrote the list.
func TestTrap25EditOfOneFieldWritesOneSmallRow(t *testing.T) {
	s := schemaOf[cart](t)
	c := &cart{Lines: manyLines(1_000)}
	r := rowsOf(t, s, c)
	c.Lines[500].Note = "changed"
	edits := diff(t, s, r, c)
	mustCount(t, edits, 1)
	if n := len(edits[0].Key) + len(edits[0].Value); n > 100 {
		t.Fatalf("the edit writes %d bytes", n)
	}
}

func TestListOfPointersWithIntegerIDs(t *testing.T) {
	type item struct {
		ID   uint32 `dserver:"n,id"`
		Tags map[string]bool
	}
	type state struct{ Items []*item }
	s := schemaOf[state](t)
	v := &state{Items: []*item{{ID: 300, Tags: map[string]bool{"x": true}}, {ID: 2}, {ID: 70_000}}}
	r := rowsOf(t, s, v)
	mustBeSame(t, decode[state](t, s, r), &state{Items: []*item{v.Items[0], {ID: 2, Tags: map[string]bool{}}, v.Items[2]}})
	v.Items[0].Tags["y"] = false
	mustCount(t, commit(t, s, r, v), 1)
	v.Items = v.Items[1:]
	mustCount(t, commit(t, s, r, v), 1)
	v.Items = append(v.Items, nil)
	if _, err := s.Diff(r, v); err == nil || !strings.Contains(err.Error(), "Items") {
		t.Fatalf("a nil item: %v", err)
	}
}

func TestListWithinListsKeepsItsOrder(t *testing.T) {
	type card struct {
		ID    string `dserver:"id"`
		Title string
	}
	type column struct {
		ID    string `dserver:"id"`
		Cards []card
	}
	type board struct{ Columns []column }
	s := schemaOf[board](t)
	random := rand.New(rand.NewPCG(1, 2))
	b, r := &board{}, NewRows()
	for i := range 200 {
		switch n := len(b.Columns); {
		case n < 5:
			b.Columns = append(b.Columns, column{ID: strconv.Itoa(i)})
		case random.IntN(9) == 0:
			b.Columns = slices.Delete(b.Columns, 1, 2)
		case random.IntN(3) == 0:
			random.Shuffle(n, func(i, j int) { b.Columns[i], b.Columns[j] = b.Columns[j], b.Columns[i] })
		default:
			c := &b.Columns[random.IntN(n)]
			c.Cards = slices.Insert(c.Cards, random.IntN(len(c.Cards)+1), card{ID: strconv.Itoa(i), Title: "t"})
		}
		commit(t, s, r, b)
		mustBeSame(t, decode[board](t, s, r), b)
	}
}

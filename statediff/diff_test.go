package statediff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/internal/chunk"
)

type account struct {
	Owner string
	Cents int64 `json:"cents"`
	Notes []string
}

type member struct {
	Name  string `dserver:"n"`
	Photo []byte
	Roles map[string]bool
	log   func() `dserver:"-"`
}

type wing struct {
	Floor int
	Doors map[int8]bool
}

// world has a field of every kind that a state can have.
type world struct {
	Count    int64
	Title    string `dserver:"t"`
	Ratio    float64
	Flag     bool
	Blob     []byte
	Words    []string
	Three    [3]uint16
	Digest   [4]byte
	At       time.Time
	Huge     big.Int
	Addr     netip.Addr
	Maybe    *int
	Wing     wing
	Annex    *wing
	Accounts map[string]account
	Members  map[int16]*member
	Nested   map[string]map[uint8]string
	ByAddr   map[netip.Addr]int
	Sparse   map[float64]string
	Compact  map[string]int `dserver:",whole"`
	Lines    []line
	Halls    []hall
	embedded
	Ignored func() `dserver:"-"`
}

type embedded struct{ Promoted int }

type hall struct {
	No    int `dserver:"id"`
	Lines []*line
	Wing  wing
}

// some draws a zero value half of the time.
func some[V any](t *rapid.T, label string, g *rapid.Generator[V]) (v V) {
	if rapid.Bool().Draw(t, label+" is there") {
		v = g.Draw(t, label)
	}
	return v
}

func words() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"", "a", "b", "a\x00", "a\x00\xff", "\xff", "ä", "\x00"})
}

// blobs are small, or large enough to be cut.
func blobs() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		size := rapid.SampledFrom([]int{0, 1, 100, chunk.Bytes - 3, chunk.Bytes, 3 * chunk.Bytes}).Draw(t, "size")
		return bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, size)
	})
}

func times() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		zone := time.FixedZone("", rapid.IntRange(-50_000, 50_000).Draw(t, "zone"))
		return time.Unix(rapid.Int64Range(-60_000_000_000, 200_000_000_000).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).In(zone)
	})
}

func addresses() *rapid.Generator[netip.Addr] {
	return rapid.Map(rapid.Uint8(), func(b byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, b}) })
}

func wings() *rapid.Generator[wing] {
	return rapid.Custom(func(t *rapid.T) wing {
		return wing{rapid.IntRange(-1, 1).Draw(t, "floor"), rapid.MapOfN(rapid.Int8(), rapid.Bool(), 0, 3).Draw(t, "doors")}
	})
}

func lists() *rapid.Generator[[]line] {
	one := rapid.Custom(func(t *rapid.T) line {
		return line{SKU: rapid.SampledFrom(strings.Split("a b c d e f", " ")).Draw(t, "sku"), Qty: rapid.IntRange(0, 2).Draw(t, "qty")}
	})
	return rapid.SliceOfNDistinct(one, 0, 6, func(l line) string { return l.SKU })
}

func halls() *rapid.Generator[[]hall] {
	one := rapid.Custom(func(t *rapid.T) hall {
		h := hall{No: rapid.IntRange(-2, 2).Draw(t, "no"), Wing: some(t, "wing", wings())}
		for _, l := range lists().Draw(t, "lines") {
			h.Lines = append(h.Lines, &l)
		}
		return h
	})
	return rapid.SliceOfNDistinct(one, 0, 4, func(h hall) int { return h.No })
}

func members() *rapid.Generator[*member] {
	return rapid.Custom(func(t *rapid.T) *member {
		if rapid.IntRange(0, 4).Draw(t, "nil") == 0 {
			return nil
		}
		return &member{Name: words().Draw(t, "name"), Photo: some(t, "photo", blobs()), Roles: rapid.MapOfN(words(), rapid.Bool(), 0, 3).Draw(t, "roles")}
	})
}

func worlds() *rapid.Generator[*world] {
	small := rapid.SampledFrom([]string{"", "a", "b", "c\x00"})
	return rapid.Custom(func(t *rapid.T) *world {
		w := &world{
			Count: some(t, "count", rapid.Int64()), Title: some(t, "title", words()), Ratio: some(t, "ratio", rapid.Float64()),
			Flag: rapid.Bool().Draw(t, "flag"), Blob: some(t, "blob", blobs()),
			Words: some(t, "words", rapid.SliceOfN(words(), 0, 3)), At: some(t, "at", times()), Addr: some(t, "addr", addresses()),
			Maybe: some(t, "maybe", rapid.Ptr(rapid.IntRange(0, 1), true)), Wing: some(t, "wing", wings()),
			Annex:    some(t, "annex", rapid.Ptr(wings(), true)),
			Members:  some(t, "members", rapid.MapOfN(rapid.Int16Range(-2, 2), members(), 0, 4)),
			Nested:   some(t, "nested", rapid.MapOfN(small, rapid.MapOfN(rapid.Uint8Range(0, 3), small, 0, 3), 0, 3)),
			ByAddr:   some(t, "by addr", rapid.MapOfN(addresses(), rapid.Int(), 0, 3)),
			Sparse:   some(t, "sparse", rapid.MapOfN(rapid.Float64Range(0, 9), small, 0, 3)),
			Compact:  some(t, "compact", rapid.MapOfN(small, rapid.Int(), 0, 3)),
			Lines:    some(t, "lines", lists()),
			Halls:    some(t, "halls", halls()),
			embedded: embedded{some(t, "promoted", rapid.Int())},
			Accounts: some(t, "accounts", rapid.MapOfN(small, rapid.Custom(func(t *rapid.T) account {
				return account{Owner: small.Draw(t, "owner"), Cents: rapid.Int64Range(0, 1).Draw(t, "cents")}
			}), 0, 4)),
		}
		w.Huge.SetString(some(t, "huge", rapid.StringMatching(`-?[1-9][0-9]{0,40}`)), 10)
		w.Digest[2] = some(t, "digest", rapid.Byte())
		w.Three[1] = some(t, "three", rapid.Uint16())
		return w
	})
}

// withoutOrder is the rows' text without the places of items, which depend on how a list came about.
func withoutOrder(r *Rows) string {
	var b strings.Builder
	for k, v := range r.All() {
		if p := Path(k); !strings.HasSuffix(p, "#") {
			fmt.Fprintf(&b, "%s = %x\n", p, v)
		}
	}
	return b.String()
}

func TestAppliedDiffGivesTheRowsOfTheNewValue(t *testing.T) {
	s := schemaOf[world](t)
	rapid.Check(t, func(t *rapid.T) {
		a, b := worlds().Draw(t, "a"), worlds().Draw(t, "b")
		rows := rowsOf(t, s, a)
		before := textOf(rows)
		edits := diff(t, s, rows, b)
		if textOf(rows) != before {
			t.Fatalf("Diff changed the committed rows")
		}
		rows.Apply(edits)
		fresh := rowsOf(t, s, b)
		if got, want := withoutOrder(rows), withoutOrder(fresh); got != want {
			t.Fatalf("the rows are\n%.3000s\nbut should be\n%.3000s\nafter\n%.3000s", got, want, textOfEdits(edits))
		}
		mustBeSame(t, decode[world](t, s, rows), b)
		if again := diff(t, s, rows, b); len(again) != 0 {
			t.Fatalf("edits of an unchanged value:\n%s", textOfEdits(again))
		}
		decoded := decode[world](t, s, rows)
		if again := diff(t, s, rows, decoded); len(again) != 0 {
			t.Fatalf("edits of a value that was decoded and not changed:\n%s", textOfEdits(again))
		}
		mustBeLoadable(t, rows)
	})
}

// mustBeLoadable checks the invariants of Rows, and that they can be loaded from a store.
func mustBeLoadable(t fataler, r *Rows) {
	t.Helper()
	loaded, size := NewRows(), int64(0)
	last := ""
	for k, v := range r.All() {
		if k <= last && loaded.Len() > 0 {
			t.Fatalf("%q comes after %q", k, last)
		}
		loaded.Set(k, v)
		size += int64(len(k) + len(v))
		last = k
		if len(v) > chunk.Bytes {
			t.Fatalf("%s: a row of %d bytes", Path(k), len(v))
		}
	}
	if size != r.size || textOf(loaded) != textOf(r) {
		t.Fatalf("%d bytes are counted, %d are there", r.size, size)
	}
}

func TestMapsAreNeverNil(t *testing.T) {
	s := schemaOf[world](t)
	for name, w := range map[string]*world{
		"new":     s.New().Interface().(*world),
		"decoded": decode[world](t, s, NewRows()),
		"entries": decode[world](t, s, rowsOf(t, s, &world{Annex: &wing{}, Members: map[int16]*member{7: {}}})),
	} {
		if w.Wing.Doors == nil || w.Members == nil || w.Sparse == nil || w.Compact == nil || w.Nested == nil ||
			w.Annex != nil && w.Annex.Doors == nil || len(w.Members) > 0 && w.Members[7].Roles == nil {
			t.Errorf("%s: %+v", name, w)
		}
	}
}

// Maps that are part of one value, too, are there when the value is older than they are.
func TestMapsThatWereAddedAreNotNil(t *testing.T) {
	type old struct{ N int }
	type now struct {
		N int
		M map[float64]int
	}
	type before struct {
		By   map[string]old
		List []old
	}
	type after struct {
		By   map[string]now
		List []now
	}
	v := decode[after](t, schemaOf[after](t), rowsOf(t, schemaOf[before](t), &before{map[string]old{"a": {1}}, []old{{2}}}))
	if v.By["a"].M == nil || v.List[0].M == nil {
		t.Fatalf("%+v", v)
	}
}

func TestOneChangeIsOneEdit(t *testing.T) {
	s := schemaOf[world](t)
	w := s.New().Interface().(*world)
	r := rowsOf(t, s, w)
	if r.Len() != 0 {
		t.Fatalf("a zero state has the rows\n%s", textOf(r))
	}
	one := 1
	for _, change := range []struct {
		name  string
		edits int
		make  func()
	}{
		{"a number", 1, func() { w.Count = 1 }},
		{"a promoted field", 1, func() { w.Promoted = 1 }},
		{"a field of a struct", 1, func() { w.Wing.Floor = 2 }},
		{"a map entry", 1, func() { w.Accounts["a"] = account{Owner: "me"} }},
		{"another entry", 1, func() { w.Accounts["b"] = account{} }},
		{"a field of an entry", 1, func() { w.Accounts["a"] = account{Owner: "me", Cents: 3} }},
		{"an entry deleted", 1, func() { delete(w.Accounts, "a") }},
		{"an entry that holds a map", 2, func() { w.Members[1] = &member{Roles: map[string]bool{"x": true}} }},
		{"a map within an entry", 1, func() { w.Members[1].Roles["y"] = true }},
		{"more of it", 2, func() { w.Members[1].Roles["z"], w.Members[1].Roles["x"] = true, false }},
		{"the entry deleted with all below", 1, func() { delete(w.Members, 1) }},
		{"an empty inner map", 1, func() { w.Nested["a"] = map[uint8]string{} }},
		{"its first entry", 1, func() { w.Nested["a"][1] = "" }},
		{"a pointer to nothing", 1, func() { w.Annex = &wing{} }},
		{"a field behind a pointer", 1, func() { w.Annex.Floor = 1 }},
		{"a map behind a pointer", 2, func() { w.Annex.Doors = map[int8]bool{1: true, 2: true} }},
		{"no pointer", 1, func() { w.Annex = nil }},
		{"a pointer to a number", 1, func() { w.Maybe = &one }},
		{"back to zero", 1, func() { w.Count = 0 }},
		{"an entry of a whole map", 1, func() { w.Compact["a"] = 1 }},
		{"nothing", 0, func() { w.Ignored = func() {} }},
	} {
		change.make()
		edits := commit(t, s, r, w)
		if len(edits) != change.edits {
			t.Errorf("%s: %d edits, want %d:\n%s", change.name, len(edits), change.edits, textOfEdits(edits))
		}
	}
	*w = world{}
	mustCount(t, commit(t, s, r, w), 1)
	if r.Len() != 0 {
		t.Fatalf("a zero state has the rows\n%s", textOf(r))
	}
}

func TestLargeValueIsCutAndOnlyChangedRowsAreWritten(t *testing.T) {
	type state struct{ Blob []byte }
	s := schemaOf[state](t)
	v := &state{Blob: make([]byte, 10*chunk.Bytes)}
	for i := range v.Blob {
		v.Blob[i] = byte(i * i >> 8)
	}
	r := rowsOf(t, s, v)
	if r.Len() != 11 {
		t.Fatalf("%d rows", r.Len())
	}
	v.Blob[5*chunk.Bytes]++
	mustCount(t, commit(t, s, r, v), 1)
	mustBeSame(t, decode[state](t, s, r), v)
	v.Blob = v.Blob[:100]
	mustCount(t, commit(t, s, r, v), 2)
	mustBeSame(t, decode[state](t, s, r), v)
	mustBeLoadable(t, r)
	v.Blob = make([]byte, chunk.MaxBytes+1)
	if _, err := s.Diff(r, v); err == nil || !strings.Contains(err.Error(), "Blob") {
		t.Fatalf("too large a value: %v", err)
	}
}

func TestTooLongKeyIsRefused(t *testing.T) {
	type state struct{ M map[string]int }
	s := schemaOf[state](t)
	if _, err := s.Diff(NewRows(), &state{map[string]int{strings.Repeat("k", MaxKeyBytes): 1}}); err == nil {
		t.Fatal("no error")
	}
}

// A field whose type changes to one with rows of another shape: nothing of the old remains, and nothing is dropped unasked.
func TestChangedKindOfAFieldClearsWhatWasThere(t *testing.T) {
	type before struct {
		F map[string]int
		G string
	}
	type after struct {
		F string
		G map[string]int
	}
	old, now := schemaOf[before](t), schemaOf[after](t)
	r := rowsOf(t, old, &before{F: map[string]int{"a": 1, "b": 2}, G: "g"})
	if err := now.Decode(r, &after{}); err == nil || !strings.Contains(err.Error(), "F") {
		t.Fatalf("rows of another shape were read: %v", err)
	}
	v := &after{F: "f", G: map[string]int{"c": 3}}
	edits := commit(t, now, r, v)
	if got, want := textOf(r), textOf(rowsOf(t, now, v)); got != want {
		t.Fatalf("the rows are\n%s\nbut should be\n%s\nafter\n%s", got, want, textOfEdits(edits))
	}
	commit(t, now, r, &after{})
	if r.Len() != 0 {
		t.Fatalf("left:\n%s", textOf(r))
	}
}

func TestRowsOfAnotherShapeAreRefused(t *testing.T) {
	mustRefuse[struct{ F struct{ A int } }](t, struct{ F string }{"x"})
	mustRefuse[struct{ F map[string]int }](t, struct{ F string }{"x"})
	mustRefuse[struct{ F []line }](t, struct{ F string }{"x"})
	mustRefuse[struct{ F int }](t, struct{ F string }{"x"})
	mustRefuse[struct{ F string }](t, struct{ F []line }{lines("a")})
	mustRefuse[struct{ F []string }](t, struct{ F struct{ A int } }{struct{ A int }{1}})
	mustRefuse[struct{ F map[int]int }](t, struct{ F map[string]int }{map[string]int{"a": 1}})
	mustRefuse[struct{ F map[int8]int }](t, struct{ F map[int]int }{map[int]int{128: 1}})
	mustRefuse[struct{ F map[uint]int }](t, struct{ F map[int]int }{map[int]int{-1: 1}})
}

// mustRefuse reads rows of one type into another.
func mustRefuse[Now, Before any](t *testing.T, v Before) {
	t.Helper()
	err := schemaOf[Now](t).Decode(rowsOf(t, schemaOf[Before](t), &v), new(Now))
	if err == nil || !strings.Contains(err.Error(), ": F") {
		t.Errorf("%T is read as %T: %v", v, *new(Now), err)
	}
}

// A map of structs and a list of the same, with ids that are the keys, have the same rows but for the order.
func TestMapBecomesListAndBack(t *testing.T) {
	type mapped struct{ Lines map[string]line }
	list, m := schemaOf[cart](t), schemaOf[mapped](t)
	v := &mapped{map[string]line{"b": {SKU: "b", Qty: 2}, "a": {SKU: "a", Qty: 1}, "c": {}}}
	r := rowsOf(t, m, v)
	c := decode[cart](t, list, r)
	mustBeSame(t, c, &cart{[]line{{SKU: "a", Qty: 1}, {SKU: "b", Qty: 2}, {SKU: "c"}}})
	commit(t, list, r, c)
	v.Lines["c"] = line{SKU: "c"}
	mustBeSame(t, decode[mapped](t, m, r), v)
}

// The same within an entry: its list was part of the entry's row, and has rows of its own since its items have ids.
func TestChangedKindWithinAnEntryIsNotDropped(t *testing.T) {
	type plainLine struct{ SKU string }
	type before struct {
		Carts map[string]struct{ Lines []plainLine }
	}
	type after struct{ Carts map[string]cart }
	old, now := schemaOf[before](t), schemaOf[after](t)
	v := &before{map[string]struct{ Lines []plainLine }{"k": {[]plainLine{{"a"}}}}}
	if err := now.Decode(rowsOf(t, old, v), &after{}); err == nil || !strings.Contains(err.Error(), "Carts.k") {
		t.Errorf("the inner list was dropped: %v", err)
	}
	r := rowsOf(t, now, &after{map[string]cart{"k": {lines("a")}}})
	if err := old.Decode(r, &before{}); err == nil || !strings.Contains(err.Error(), "Carts.k") {
		t.Errorf("the inner rows were dropped: %v", err)
	}
}

func TestRemovedFieldStaysUntilRewrite(t *testing.T) {
	type inner struct{ A, B int }
	type before struct {
		Keep, Gone int
		Inner      inner
		List       map[string]int
	}
	type innerNow struct{ B int }
	type after struct {
		Keep  int
		Inner innerNow
	}
	old, now := schemaOf[before](t), schemaOf[after](t)
	r := rowsOf(t, old, &before{1, 2, inner{3, 4}, map[string]int{"x": 5, "y": 6}})
	v := decode[after](t, now, r)
	mustBeSame(t, v, &after{1, innerNow{4}})
	v.Keep = 7
	mustCount(t, commit(t, now, r, v), 1)
	mustBeSame(t, decode[before](t, old, r), &before{7, 2, inner{3, 4}, map[string]int{"x": 5, "y": 6}})
	v.Inner.B = 0
	mustCount(t, commit(t, now, r, v), 1)
	edits, err := now.Rewrite(r, old, v)
	if err != nil {
		t.Fatal(err)
	}
	mustCount(t, edits, 3)
	r.Apply(edits)
	if got, want := textOf(r), textOf(rowsOf(t, now, v)); got != want {
		t.Fatalf("the rows are\n%s\nbut should be\n%s", got, want)
	}
}

// An entry takes with it what is below it, also what only a newer program knows.
func TestUnknownRowsGoWithTheirEntry(t *testing.T) {
	type newer struct {
		Members map[string]struct {
			Roles map[string]bool
			Pets  map[string]int
		}
	}
	type older struct {
		Members map[string]struct{ Roles map[string]bool }
	}
	schema := schemaOf[newer](t)
	v := schema.New().Interface().(*newer)
	for _, k := range []string{"a", "b"} {
		m := v.Members[k]
		m.Roles, m.Pets = map[string]bool{"r": true}, map[string]int{"p": 1}
		v.Members[k] = m
	}
	old := schemaOf[older](t)
	r := rowsOf(t, schema, v)
	o := decode[older](t, old, r)
	delete(o.Members, "a")
	mustCount(t, commit(t, old, r, o), 1)
	delete(v.Members, "a")
	mustBeSame(t, decode[newer](t, schema, r), v)
}

func TestApplyKeepsTheOrderOfEdits(t *testing.T) {
	keys := rapid.SampledFrom([]string{"\x02a\x00", "\x02a\x00\x15\x01", "\x02a\x00\xff\x00", "\x02a\x00\x02x\x00", "\x02b\x00", ""})
	rapid.Check(t, func(t *rapid.T) {
		r, model := NewRows(), map[string]string{}
		for range rapid.IntRange(1, 4).Draw(t, "batches") {
			edits := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Edit {
				e := Edit{Key: keys.Draw(t, "key"), Clear: Scope(rapid.IntRange(0, 2).Draw(t, "scope"))}
				if e.Clear == None {
					e.Value = []byte(rapid.SampledFrom([]string{"1", "22"}).Draw(t, "value"))
				}
				return e
			}), 0, 8).Draw(t, "edits")
			r.Apply(edits)
			for _, e := range edits {
				begin, end := e.Range()
				for k := range model {
					if e.Clear != None && k >= begin && k < end {
						delete(model, k)
					}
				}
				if e.Clear == None {
					model[e.Key] = string(e.Value)
				}
			}
		}
		got := map[string]string{}
		for k, v := range r.All() {
			got[k] = string(v)
		}
		if !reflect.DeepEqual(got, model) {
			t.Fatalf("got %q, want %q", got, model)
		}
		mustBeLoadable(t, r)
	})
}

func TestCloneIsApart(t *testing.T) {
	s := schemaOf[cart](t)
	c, r := &cart{lines("a", "b")}, NewRows()
	for k, v := range rowsOf(t, s, c).All() {
		r.Set(k, v)
	}
	mustCount(t, diff(t, s, r, c), 0) // leaves its marks
	clone := r.Clone()
	c.Lines = lines("b")
	mustCount(t, commit(t, s, clone, c), 2)
	mustBeSame(t, decode[cart](t, s, clone), c)
	mustBeSame(t, decode[cart](t, s, r), &cart{lines("a", "b")})
	mustBeLoadable(t, clone)
	mustBeLoadable(t, r)
}

func TestDecodeOverwritesAll(t *testing.T) {
	s := schemaOf[world](t)
	v := &world{Count: 1, Annex: &wing{}, Lines: lines("a"), Compact: map[string]int{"a": 1}, Ignored: func() {}}
	if err := s.Decode(NewRows(), v); err != nil || v.Ignored != nil {
		t.Fatal(err)
	}
	mustBeSame(t, v, &world{})
}

func TestTreeEndsBeforeLongerStringsWithZeroBytes(t *testing.T) {
	type state struct{ M map[string]map[string]int }
	s := schemaOf[state](t)
	v := &state{map[string]map[string]int{"a": {"x": 1, "y": 2}, "a\x00": {"z": 3}, "a\x00b": {}}}
	r := rowsOf(t, s, v)
	delete(v.M, "a")
	mustCount(t, commit(t, s, r, v), 1)
	mustBeSame(t, decode[state](t, s, r), v)
}

func TestTimesComeBackToTheNanosecond(t *testing.T) {
	type state struct {
		At time.Time
		By map[string]time.Time
	}
	s := schemaOf[state](t)
	amsterdam := time.FixedZone("LMT", 19*60+32) // not a whole number of minutes
	v := &state{At: time.Date(1930, 1, 1, 0, 0, 0, 1, amsterdam), By: map[string]time.Time{"zero": {}, "one": time.Unix(1, 999_999_999)}}
	mustBeSame(t, decode[state](t, s, rowsOf(t, s, v)), v)
	v.At = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := s.Diff(NewRows(), v); err == nil || !strings.Contains(err.Error(), "At") {
		t.Fatalf("a time that cannot be read back: %v", err)
	}
}

func TestSchemaServesManyGoroutines(t *testing.T) {
	s := schemaOf[world](t)
	want := &world{Count: 1, Accounts: map[string]account{"a": {Owner: "b"}}, Lines: lines("x", "y")}
	done := make(chan error)
	for range 8 {
		go func() {
			r := NewRows()
			for range 100 {
				edits, err := s.Diff(r, want)
				if err != nil {
					done <- err
					return
				}
				r.Apply(edits)
			}
			got := new(world)
			err := s.Decode(r, got)
			if err == nil && !same(reflect.ValueOf(got), reflect.ValueOf(want)) {
				err = fmt.Errorf("got %+v", got)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestRowsOfRootsThatAreNoStructs(t *testing.T) {
	mustComeBack(t, 5)
	mustComeBack(t, map[string]int{"a": 0, "": 1})
	mustComeBack(t, lines("b", "a"))
	mustComeBack(t, strings.Repeat("x", 3*chunk.Bytes))
	mustComeBack(t, []int{1, 2})
}

func TestUnusualKeysAndStructsComeBackInWholeValues(t *testing.T) {
	type point struct{ X, Y int }
	type array struct {
		_    struct{} `cbor:",toarray"`
		A, B int
	}
	type short struct {
		A int `cbor:"1,keyasint"`
	}
	mustComeBack(t, struct {
		ByPoint map[point]int
		ByArray map[[2]bool]string
		Short   []short
		Arrays  map[string]array
		Raw     json.RawMessage
		Deep    map[string][]map[float64]*point
	}{
		map[point]int{{1, 2}: 3}, map[[2]bool]string{{true, false}: "x"}, []short{{5}}, map[string]array{"a": {A: 1, B: 2}},
		json.RawMessage(`{}`), map[string][]map[float64]*point{"a": {{1.5: {3, 4}, 2.5: nil}}},
	})
}

func mustComeBack[T any](t *testing.T, v T) {
	t.Helper()
	s := schemaOf[T](t)
	r := rowsOf(t, s, &v)
	mustBeSame(t, decode[T](t, s, r), &v)
	var zero T
	commit(t, s, r, &zero)
	if r.Len() != 0 {
		t.Errorf("%T: left\n%s", v, textOf(r))
	}
}

func TestWrongPointerIsRefused(t *testing.T) {
	s := schemaOf[cart](t)
	for _, ptr := range []any{nil, cart{}, (*cart)(nil), new(line)} {
		if _, err := s.Diff(NewRows(), ptr); err == nil {
			t.Errorf("Diff takes %T", ptr)
		}
		if err := s.Decode(NewRows(), ptr); err == nil {
			t.Errorf("Decode takes %T", ptr)
		}
	}
}

func TestValuesAreNotShared(t *testing.T) {
	type state struct {
		B []byte
		M map[string][]byte
	}
	s := schemaOf[state](t)
	v := &state{B: []byte("abc"), M: map[string][]byte{"k": []byte("def")}}
	edits := diff(t, s, NewRows(), v)
	r := NewRows()
	r.Apply(edits)
	before := textOf(r)
	v.B[0], v.M["k"][0] = 'x', 'x'
	for _, e := range edits {
		clear(e.Value)
	}
	w := decode[state](t, s, r)
	w.B[1] = 'y'
	for _, value := range r.All() {
		clear(value)
	}
	if textOf(r) != before {
		t.Fatalf("the rows share memory:\n%s", textOf(r))
	}
	if got := decode[state](t, s, r); string(got.B) != "abc" || string(got.M["k"]) != "def" {
		t.Fatalf("%+v", got)
	}
}

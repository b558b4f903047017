package statediff

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/internal/chunk"
)

// store is a loader over committed rows that counts what it is asked for.
type store struct {
	rows        *Rows
	gets, scans int
	read        int // rows
	err         error
}

func (s *store) Get(key string) ([]byte, error) {
	s.gets++
	v, found := s.rows.Get(key)
	if found {
		s.read++
	}
	return v, s.err
}

func (s *store) Scan(begin, end string, limit int, reverse bool) ([]Row, error) {
	s.scans++
	if s.err != nil {
		return nil, s.err
	}
	var rows []Row
	lo, _ := s.rows.search(begin)
	hi, _ := s.rows.search(end)
	for _, r := range s.rows.list[lo:max(lo, hi)] {
		rows = append(rows, Row{r.key(), []byte(r.value())})
	}
	if reverse {
		slices.Reverse(rows)
	}
	if limit > 0 && len(rows) > limit {
		rows = rows[:limit]
	}
	s.read += len(rows)
	return rows, nil
}

// write makes edits as a store does, for which those of tracked collections are like all others.
func (s *store) write(edits []Edit) {
	for i := range edits {
		edits[i].aside = false
	}
	s.rows.Apply(edits)
}

type office struct {
	Name    string
	Desks   Map[string, desk]
	Log     List[string]
	Archive struct{ ByYear Map[int16, *folder] }
}

type desk struct {
	Owner string
	Items map[string]int
}

type folder struct{ Pages []string }

// turn loads the state, lets fn change it and commits, as a consumer does.
func turn(t fataler, schema *Schema, s *store, fn func(o *office)) []Edit {
	t.Helper()
	committed := NewRows()
	for _, r := range schema.Ranges() {
		rows, _ := s.Scan(r.Begin, r.End, 0, false)
		for _, row := range rows {
			committed.Set(row.Key, row.Value)
		}
	}
	o := decode[office](t, schema, committed)
	if err := schema.Bind(o, s); err != nil {
		t.Fatalf("%v", err)
	}
	fn(o)
	edits := diff(t, schema, committed, o)
	if committed.Apply(edits); committed.Len() > 1 {
		t.Fatalf("rows of tracked collections are kept:\n%s", committed)
	}
	s.write(slices.Clone(edits))
	return edits
}

func TestTrackedMapIsAMap(t *testing.T) {
	schema := schemaOf[office](t)
	keys := rapid.SampledFrom([]string{"", "a", "a\x00", "a\x00b", "b", "c", "\xff"})
	rapid.Check(t, func(t *rapid.T) {
		s, model, old := &store{rows: NewRows()}, map[string]desk{}, map[int16]string{}
		for range rapid.IntRange(1, 5).Draw(t, "turns") {
			turn(t, schema, s, func(o *office) {
				for range rapid.IntRange(0, 8).Draw(t, "steps") {
					stepOfMap(t, o, model, old, keys.Draw(t, "key"))
				}
				mustBeMap(t, &o.Desks, model)
			})
			turn(t, schema, s, func(o *office) { mustBeMap(t, &o.Desks, model) })
			mustBeSame(t, decode[plainOffice](t, schemaOf[plainOffice](t), s.rows), &plainOffice{Desks: model, Archive: folders(old)})
		}
	})
}

// plainOffice reads the rows of an office.
type plainOffice struct {
	Desks   map[string]desk
	Archive struct{ ByYear map[int16]*folder }
}

func folders(pages map[int16]string) (a struct{ ByYear map[int16]*folder }) {
	a.ByYear = map[int16]*folder{}
	for k, v := range pages {
		a.ByYear[k] = &folder{strings.Split(v, "")}
	}
	return a
}

func stepOfMap(t *rapid.T, o *office, model map[string]desk, old map[int16]string, k string) {
	year := int16(len(k))
	switch rapid.IntRange(0, 6).Draw(t, "what") {
	case 0:
		d := desk{Owner: k, Items: map[string]int{"pen": 1}}
		o.Desks.Set(k, d)
		model[k] = desk{Owner: k, Items: map[string]int{"pen": 1}}
	case 1:
		_, found := model[k]
		if o.Desks.Delete(k) != found {
			t.Fatalf("Delete of %q, which is there: %v", k, found)
		}
		delete(model, k)
	case 2:
		if d, found := o.Desks.Get(k); found {
			d.Items["cup"]++ // what a value points to may be changed in place
			model[k].Items["cup"]++
		}
	case 3:
		o.Archive.ByYear.Set(year, &folder{[]string{"x"}})
		old[year] = "x"
	case 4:
		if f, found := o.Archive.ByYear.Get(year); found {
			f.Pages = append(f.Pages, "y")
			old[year] += "y"
		}
	case 5:
		for year, f := range o.Archive.ByYear.All() {
			f.Pages = append(f.Pages, "z")
			old[year] += "z"
		}
	case 6:
		o.Archive.ByYear.Delete(year)
		delete(old, year)
	}
}

func mustBeMap(t *rapid.T, m *Map[string, desk], model map[string]desk) {
	if m.Len() != len(model) {
		t.Fatalf("Len is %d, want %d", m.Len(), len(model))
	}
	sorted := slices.Sorted(maps.Keys(model))
	from := rapid.IntRange(0, len(sorted)).Draw(t, "from")
	got, start := []string{}, "\xff\xff"
	if from < len(sorted) {
		start = sorted[from]
	}
	for k, d := range m.From(start) {
		if w := model[k]; d.Owner != w.Owner || !maps.Equal(d.Items, w.Items) {
			t.Fatalf("%q is %v, want %v", k, d, w)
		}
		got = append(got, k)
	}
	if !slices.Equal(got, sorted[from:]) {
		t.Fatalf("From(%q) yields %q, want %q", start, got, sorted[from:])
	}
}

func TestTrackedListIsAList(t *testing.T) {
	schema := schemaOf[office](t)
	rapid.Check(t, func(t *rapid.T) {
		s, model, next := &store{rows: NewRows()}, []string{}, 0
		for range rapid.IntRange(1, 5).Draw(t, "turns") {
			turn(t, schema, s, func(o *office) {
				for range rapid.IntRange(0, 8).Draw(t, "steps") {
					next++
					model = stepOfList(t, &o.Log, model, fmt.Sprint(next))
				}
				mustBeList(t, &o.Log, model)
			})
			turn(t, schema, s, func(o *office) { mustBeList(t, &o.Log, model) })
		}
	})
}

func stepOfList(t *rapid.T, l *List[string], model []string, v string) []string {
	i, j := rapid.IntRange(0, len(model)).Draw(t, "i"), rapid.IntRange(0, len(model)).Draw(t, "j")
	at, before := placeAt(l, i), placeAt(l, j)
	switch rapid.IntRange(0, 4).Draw(t, "what") {
	case 0:
		l.Append(v)
		return append(model, v)
	case 1:
		if p, ok := l.Insert(at, v); !ok || p == "" {
			t.Fatalf("Insert before %q: %v", at, ok)
		}
		return slices.Insert(model, i, v)
	case 2:
		if l.Set(at, v) != (i < len(model)) {
			t.Fatalf("Set at %q", at)
		}
		if i < len(model) {
			model[i] = v
		}
	case 3:
		if l.Delete(at) != (i < len(model)) {
			t.Fatalf("Delete at %q", at)
		}
		if i < len(model) {
			return slices.Delete(model, i, i+1)
		}
	case 4:
		if _, ok := l.Move(at, before); ok != (i < len(model)) {
			t.Fatalf("Move of %q", at)
		}
		if i < len(model) && i != j {
			moved := model[i]
			model = slices.Delete(model, i, i+1)
			if j > i {
				j--
			}
			return slices.Insert(model, j, moved)
		}
	}
	return model
}

// placeAt returns the place of the i-th item, "" behind the last.
func placeAt[V any](l *List[V], i int) Place {
	for p := range l.All("") {
		if i == 0 {
			return p
		}
		i--
	}
	return ""
}

func mustBeList(t fataler, l *List[string], model []string) {
	t.Helper()
	var got, back []string
	last := Place("")
	for p, v := range l.All("") {
		if p <= last {
			t.Fatalf("%q comes after %q", p, last)
		}
		if w, found := l.Get(p); !found || w != v {
			t.Fatalf("Get(%q) is %q, want %q", p, w, v)
		}
		got, last = append(got, v), p
	}
	for _, v := range l.Backward("") {
		back = append(back, v)
	}
	slices.Reverse(back)
	if !slices.Equal(got, model) || !slices.Equal(back, model) || l.Len() != len(model) {
		t.Fatalf("the list is %q, backwards %q, of %d items; want %q", got, back, l.Len(), model)
	}
}

// Inserts at one spot use the room between two items up; others make room then, and the list stays what it is.
func TestTrackedListMakesRoomAtOneSpot(t *testing.T) {
	schema := schemaOf[office](t)
	for name, spot := range map[string]func(n int) int{
		"ahead of one":    func(n int) int { return n - 5 },
		"behind one":      func(int) int { return 5 },
		"on either side":  func(n int) int { return n / 2 },
		"at the front":    func(int) int { return 0 },
		"behind the last": func(n int) int { return n },
	} {
		s := &store{rows: NewRows()}
		model, edits := []string{}, 0
		for i := range 300 {
			edits += len(turn(t, schema, s, func(o *office) {
				at := min(max(spot(len(model)), 0), len(model))
				o.Log.Insert(placeAt(&o.Log, at), fmt.Sprint(i))
				model = slices.Insert(model, at, fmt.Sprint(i))
			}))
		}
		turn(t, schema, s, func(o *office) { mustBeList(t, &o.Log, model) })
		t.Logf("%s: %.1f edits an insert", name, float64(edits)/300)
		if edits > 12*300 {
			t.Errorf("%s: %d edits for 300 inserts", name, edits)
		}
	}
}

// What a message costs does not depend on how much is there.
func TestTrackedCostFollowsWhatIsTouched(t *testing.T) {
	schema := schemaOf[office](t)
	for _, n := range []int{100, 20_000} {
		s := &store{rows: NewRows()}
		turn(t, schema, s, func(o *office) {
			for i := range n {
				o.Desks.Set(fmt.Sprintf("desk-%06d", i), desk{Owner: "x"})
				o.Log.Append("line")
			}
		})
		for _, c := range []struct {
			name        string
			edits, rows int
			fn          func(o *office)
		}{
			{"get and set of one", 1, 1, func(o *office) {
				d, _ := o.Desks.Get("desk-000042")
				d.Owner += "y"
				o.Desks.Set("desk-000042", d)
			}},
			{"a new one", 2, 1, func(o *office) { o.Desks.Set("new", desk{}) }},
			{"delete", 2, 2, func(o *office) { o.Desks.Delete("desk-000007") }},
			{"length", 0, 2, func(o *office) { _ = o.Desks.Len() + o.Log.Len() }},
			{"append", 2, firstPageRows + 2, func(o *office) { o.Log.Append("more") }},
			{"the last item", 0, firstPageRows, func(o *office) {
				for range o.Log.Backward("") {
					break
				}
			}},
			{"nothing", 0, 0, func(*office) {}},
		} {
			s.read = 0
			edits := turn(t, schema, s, c.fn)
			if len(edits) != c.edits || s.read > c.rows {
				t.Errorf("%s of %d: %d edits, want %d; %d rows read, at most %d\n%s",
					c.name, n, len(edits), c.edits, s.read, c.rows, textOfEdits(edits))
			}
		}
	}
}

func TestTrackedNeedsNoStoreInTests(t *testing.T) {
	var o office
	o.Desks.Set("a", desk{Owner: "x"})
	o.Log.Append("one")
	o.Log.Append("two")
	if d, found := o.Desks.Get("a"); !found || d.Owner != "x" || o.Desks.Len() != 1 || o.Log.Len() != 2 {
		t.Fatalf("%v %v", d, found)
	}
	if _, found := o.Desks.Get("b"); found || o.Desks.Delete("b") || !o.Desks.Delete("a") || o.Desks.Len() != 0 {
		t.Fatal("an entry that is not there")
	}
	mustBeList(t, &o.Log, []string{"one", "two"})
}

// A value that was never bound is stored whole, and comes back from rows that were loaded with the state.
func TestTrackedComesBackWithoutALoader(t *testing.T) {
	schema := schemaOf[office](t)
	o := schema.New().Interface().(*office)
	o.Name = "n"
	o.Desks.Set("a", desk{"x", map[string]int{"pen": 1}})
	o.Log.Append("one")
	o.Archive.ByYear.Set(7, &folder{[]string{"p"}})
	s := &store{rows: NewRows()}
	s.write(diff(t, schema, NewRows(), o))
	again := decode[office](t, schema, s.rows)
	mustBeList(t, &again.Log, []string{"one"})
	if d, _ := again.Desks.Get("a"); d.Items["pen"] != 1 || again.Desks.Len() != 1 {
		t.Errorf("%+v", d)
	}
	if edits := diff(t, schema, s.rows, again); len(edits) != 0 {
		t.Errorf("edits of an unchanged value:\n%s", textOfEdits(edits))
	}
	turn(t, schema, s, func(o *office) { mustBeList(t, &o.Log, []string{"one"}) })
}

// Without a Loader all rows are in Rows, and a Map is stored and cleared as a plain one.
func TestTrackedThatIsNotBoundIsStoredLikeAPlainMap(t *testing.T) {
	schema := schemaOf[office](t)
	o, r := schema.New().Interface().(*office), NewRows()
	o.Desks.Set("a", desk{Owner: "x", Items: map[string]int{"pen": 1}})
	o.Desks.Set("b", desk{})
	mustCount(t, commit(t, schema, r, o), 4)
	o.Desks.Delete("a")
	mustCount(t, commit(t, schema, r, o), 2)
	mustCount(t, commit(t, schema, r, o), 0)
	again := decode[office](t, schema, r)
	if _, found := again.Desks.Get("a"); found || again.Desks.Len() != 1 {
		t.Fatalf("the rows are\n%s", r)
	}
	again.Desks.Delete("b")
	commit(t, schema, r, again)
	if r.Len() != 0 {
		t.Fatalf("left:\n%s", r)
	}
}

func TestLargeTrackedEntriesAreReadWhole(t *testing.T) {
	schema := schemaOf[office](t)
	s, many := &store{rows: NewRows()}, map[string]int{}
	for i := range 3 * pageRows {
		many[fmt.Sprint(i)] = i
	}
	long := strings.Repeat("x", 3*chunk.Bytes)
	turn(t, schema, s, func(o *office) {
		o.Desks.Set("0", desk{"0", nil})
		o.Desks.Set("1", desk{"1", map[string]int{"pen": 1}})
		for _, k := range []string{"a", "b", "c"} {
			o.Desks.Set(k, desk{k, many})
		}
		o.Log.Append(long)
		o.Log.Append("short")
	})
	turn(t, schema, s, func(o *office) {
		mustBeList(t, &o.Log, []string{long, "short"})
		n := 0
		for k, d := range o.Desks.All() {
			if d.Owner != k || len(d.Items) != len(many) && k > "1" {
				t.Fatalf("%q has %d items", k, len(d.Items))
			}
			n++
		}
		if n != 5 {
			t.Fatalf("%d desks", n)
		}
		for p := range o.Log.All("") {
			o.Log.Set(p, "short now")
			break
		}
		o.Desks.Delete("b")
	})
	turn(t, schema, s, func(o *office) {
		mustBeList(t, &o.Log, []string{"short now", "short"})
		if _, found := o.Desks.Get("b"); found || o.Desks.Len() != 4 {
			t.Fatal("the desk is still there")
		}
	})
}

func TestGenericShowsTracked(t *testing.T) {
	var o office
	o.Desks.Set("a", desk{Owner: "x"})
	got, err := Generic(rowsOf(t, schemaOf[office](t), &o))
	want := map[string]any{"Desks": map[string]any{"a": map[string]any{"Owner": "x"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, %v; want %v", got, err, want)
	}
}

// A plain map that has grown too large becomes a tracked one without a conversion, and back.
func TestPlainMapBecomesTracked(t *testing.T) {
	type plain struct{ Desks map[string]desk }
	p := &plain{map[string]desk{"a": {Owner: "x"}, "b": {Owner: "y", Items: map[string]int{"pen": 1}}}}
	s := &store{rows: rowsOf(t, schemaOf[plain](t), p)}
	schema := schemaOf[office](t)
	turn(t, schema, s, func(o *office) {
		if d, found := o.Desks.Get("b"); !found || d.Items["pen"] != 1 || o.Desks.Len() != 2 {
			t.Fatalf("%+v, %v, %d", d, found, o.Desks.Len())
		}
		o.Desks.Set("c", desk{})
	})
	p.Desks["c"] = desk{}
	mustBeSame(t, decode[plain](t, schemaOf[plain](t), s.rows), p)
	r := NewRows()
	for k, v := range s.rows.All() {
		r.Set(k, v)
	}
	mustCount(t, commit(t, schemaOf[plain](t), r, p), 1) // the number of entries goes
}

// A fault of the store is not an absent entry: the turn fails.
func TestLoadErrorFailsDiff(t *testing.T) {
	schema := schemaOf[office](t)
	broken := errors.New("broken")
	for name, fn := range map[string]func(o *office){
		"get":    func(o *office) { o.Desks.Get("a") },
		"set":    func(o *office) { o.Desks.Set("a", desk{}) },
		"delete": func(o *office) { o.Desks.Delete("a") },
		"length": func(o *office) { o.Log.Len() },
		"append": func(o *office) { o.Log.Append("x") },
		"loop": func(o *office) {
			for range o.Desks.All() {
			}
		},
	} {
		o := schema.New().Interface().(*office)
		if err := schema.Bind(o, &store{rows: NewRows(), err: broken}); err != nil {
			t.Fatal(err)
		}
		fn(o)
		if _, err := schema.Diff(NewRows(), o); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An edit that clears much must not reach the rows of a tracked collection, which it does not see.
func TestClearsSpareTracked(t *testing.T) {
	type state struct {
		A, B  int
		Inner struct {
			C, D int
			M    Map[string, int]
		}
	}
	schema := schemaOf[state](t)
	v := schema.New().Interface().(*state)
	v.A, v.B, v.Inner.C, v.Inner.D = 1, 2, 3, 4
	v.Inner.M.Set("k", 5)
	s, committed := &store{rows: NewRows()}, NewRows()
	s.write(diff(t, schema, committed, v))
	for _, r := range schema.Ranges() {
		rows, _ := s.Scan(r.Begin, r.End, 0, false)
		for _, row := range rows {
			committed.Set(row.Key, row.Value)
		}
	}
	if committed.Len() != 4 {
		t.Fatalf("loaded:\n%s", committed)
	}
	v = schema.New().Interface().(*state)
	if err := schema.Bind(v, s); err != nil {
		t.Fatal(err)
	}
	s.write(diff(t, schema, committed, v))
	if n, _ := v.Inner.M.Get("k"); n != 5 || s.rows.Len() != 2 {
		t.Fatalf("left:\n%s", s.rows)
	}
}

func TestTrackedIsRefusedWhereItCannotBe(t *testing.T) {
	type inEntry struct {
		M map[string]struct{ L List[int] }
	}
	type behind struct{ P *struct{ M Map[string, int] } }
	type inSlice struct{ S []Map[string, int] }
	type whole struct {
		S struct{ M Map[string, int] } `dserver:",whole"`
	}
	type badKey struct{ M Map[float64, int] }
	type badValue struct{ M Map[string, any] }
	type nested struct{ M Map[string, Map[string, int]] }
	for _, v := range []any{inEntry{}, behind{}, inSlice{}, whole{}, badKey{}, badValue{}, nested{}} {
		if _, err := For(reflect.TypeOf(v)); err == nil {
			t.Errorf("%T is accepted", v)
		} else {
			t.Log(err)
		}
	}
}

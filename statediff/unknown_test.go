package statediff

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Two versions of one program: the newer one has more fields everywhere. The fields that both have are named alike.
type (
	leafOld  struct{ A string }
	leafNew  struct{ A, B string }
	splitOld struct {
		A string
		G map[string]leafOld
	}
	splitNew struct {
		A, B string
		G    map[string]leafNew
		More map[string]string
	}
	entryOld struct {
		A string
		L []leafOld
		P *leafOld
		F map[float64]leafOld
	}
	entryNew struct {
		A string
		B string
		L []leafNew
		P *leafNew
		F map[float64]leafNew
		X map[string]string // which makes rows below the entry
	}
	itemOld struct {
		ID string `dserver:"id"`
		A  string
	}
	itemNew struct {
		ID   string `dserver:"id"`
		A, B string
	}
	treeOld struct {
		A    string
		Kids []treeOld
		By   map[string]*treeOld
	}
	treeNew struct {
		A, B string
		Kids []treeNew
		By   map[string]*treeNew
	}
	programOld struct {
		A     string
		M     map[string]entryOld
		Split map[string]*splitOld
		Items []itemOld
		S     []leafOld
		W     leafOld `dserver:",whole"`
		In    struct{ A string }
		Ptr   *leafOld
		T     Map[string, entryOld]
		TL    List[entryOld]
		Deep  map[float64]leafOld
		Tree  treeOld
		Trees map[string]treeOld
	}
	programNew struct {
		A, B  string
		M     map[string]entryNew
		Split map[string]*splitNew
		Items []itemNew
		S     []leafNew
		W     leafNew `dserver:",whole"`
		In    struct{ A, B string }
		Ptr   *leafNew
		T     Map[string, entryNew]
		TL    List[entryNew]
		Deep  map[float64]leafNew
		Tree  treeNew
		Trees map[string]treeNew
		Added map[string]leafNew
	}
)

// act is one thing that a handler of either version does, to what both know.
type act struct {
	what, i int
	key     string
	text    string
}

const (
	setField = iota
	setEntry
	deleteEntry
	setSplit
	setBelowSplit
	deleteSplit
	setItem
	deleteItem
	rotateItems
	setWhole
	zeroWhole
	setNested
	setPointer
	clearPointer
	setTracked
	deleteTracked
	appendToList
	setInList
	deleteInList
	moveInList
	readTracked
	setDeep
	deleteDeep
	setInSlice
	setTree
	setTrees
	lastAct // those below change the places of a slice: one in a turn
	appendToSlice
	deleteInSlice
	swapInSlice
)

func fieldOf(v reflect.Value, name string) reflect.Value { return v.FieldByName(name) }

func setA(v reflect.Value, text string) { fieldOf(v, "A").SetString(text) }

// entry changes the parts of an entry.
func (x act) entry(e reflect.Value) {
	setA(e, x.text)
	if l := fieldOf(e, "L"); l.Len() > x.i%3 {
		setA(l.Index(x.i%3), x.text+"l")
	} else {
		added := reflect.New(l.Type().Elem()).Elem()
		setA(added, x.text+"new")
		l.Set(reflect.Append(l, added))
	}
	if p := fieldOf(e, "P"); p.IsNil() {
		p.Set(reflect.New(p.Type().Elem()))
	} else {
		setA(p.Elem(), x.text+"p")
	}
	f := fieldOf(e, "F")
	if f.IsNil() {
		f.Set(reflect.MakeMap(f.Type()))
	}
	changeKey(f, reflect.ValueOf(float64(x.i%2)), func(v reflect.Value) { setA(v, x.text+"f") })
}

// changeKey changes an entry of a map, or adds one.
func changeKey(m, key reflect.Value, fn func(v reflect.Value)) {
	v := reflect.New(m.Type().Elem()).Elem()
	if old := m.MapIndex(key); old.IsValid() {
		v.Set(old)
	}
	fn(v)
	m.SetMapIndex(key, v)
}

func (x act) on(s reflect.Value) {
	key := reflect.ValueOf(x.key)
	switch x.what {
	case setField:
		setA(s, x.text)
	case setEntry:
		changeKey(fieldOf(s, "M"), key, x.entry)
	case deleteEntry:
		fieldOf(s, "M").SetMapIndex(key, reflect.Value{})
	case setSplit, setBelowSplit:
		x.split(fieldOf(s, "Split"), key)
	case deleteSplit:
		fieldOf(s, "Split").SetMapIndex(key, reflect.Value{})
	case setItem, deleteItem, rotateItems:
		x.items(fieldOf(s, "Items"))
	case setWhole:
		setA(fieldOf(s, "W"), x.text)
	case zeroWhole:
		setA(fieldOf(s, "W"), "")
	case setNested:
		setA(fieldOf(s, "In"), x.text)
	case setPointer:
		if p := fieldOf(s, "Ptr"); p.IsNil() {
			p.Set(reflect.New(p.Type().Elem()))
		}
		setA(fieldOf(s, "Ptr").Elem(), x.text)
	case clearPointer:
		fieldOf(s, "Ptr").SetZero()
	case setDeep:
		changeKey(fieldOf(s, "Deep"), reflect.ValueOf(float64(x.i)), func(v reflect.Value) { setA(v, x.text) })
	case deleteDeep:
		fieldOf(s, "Deep").SetMapIndex(reflect.ValueOf(float64(x.i)), reflect.Value{})
	case setTree:
		x.tree(fieldOf(s, "Tree"))
	case setTrees:
		changeKey(fieldOf(s, "Trees"), key, x.tree)
	case setInSlice, appendToSlice, deleteInSlice, swapInSlice:
		x.slice(fieldOf(s, "S"))
	default:
		x.tracked(s.Addr().Interface())
	}
}

// tree changes a part of a value that contains its own type.
func (x act) tree(v reflect.Value) {
	for range x.i {
		kids := fieldOf(v, "Kids")
		if kids.Len() == 0 {
			kids.Set(reflect.Append(kids, reflect.Zero(kids.Type().Elem())))
		}
		v = kids.Index(0)
	}
	setA(v, x.text)
	by := fieldOf(v, "By")
	if by.IsNil() {
		by.Set(reflect.MakeMap(by.Type()))
	}
	changeKey(by, reflect.ValueOf(x.key), func(p reflect.Value) {
		if p.IsNil() {
			p.Set(reflect.New(p.Type().Elem()))
		}
		setA(p.Elem(), x.text+"by")
	})
}

func (x act) split(m, key reflect.Value) {
	changeKey(m, key, func(p reflect.Value) {
		if p.IsNil() {
			p.Set(reflect.New(p.Type().Elem()))
			fieldOf(p.Elem(), "G").Set(reflect.MakeMap(fieldOf(p.Elem(), "G").Type()))
		}
		if x.what == setSplit {
			setA(p.Elem(), x.text)
			return
		}
		changeKey(fieldOf(p.Elem(), "G"), reflect.ValueOf(fmt.Sprint(x.i)), func(v reflect.Value) { setA(v, x.text) })
	})
}

func (x act) items(list reflect.Value) {
	at := -1
	for i := range list.Len() {
		if fieldOf(list.Index(i), "ID").String() == x.key {
			at = i
		}
	}
	switch {
	case x.what == rotateItems && list.Len() > 1:
		list.Set(reflect.AppendSlice(list.Slice3(1, list.Len(), list.Len()), list.Slice(0, 1)))
	case x.what == deleteItem && at >= 0:
		list.Set(reflect.AppendSlice(list.Slice3(0, at, at), list.Slice(at+1, list.Len())))
	case x.what == setItem && at >= 0:
		setA(list.Index(at), x.text)
	case x.what == setItem:
		item := reflect.New(list.Type().Elem()).Elem()
		fieldOf(item, "ID").SetString(x.key)
		setA(item, x.text)
		list.Set(reflect.Append(list, item))
	}
}

func (x act) slice(s reflect.Value) {
	n := s.Len()
	switch {
	case x.what == appendToSlice || n == 0:
		added := reflect.New(s.Type().Elem()).Elem()
		setA(added, x.text)
		s.Set(reflect.Append(s, added))
	case x.what == setInSlice:
		setA(s.Index(x.i%n), x.text)
	case x.what == deleteInSlice:
		s.Set(reflect.AppendSlice(s.Slice3(0, x.i%n, x.i%n), s.Slice(x.i%n+1, n)))
	default:
		reflect.Swapper(s.Interface())(0, n-1)
	}
}

func (x act) tracked(s any) {
	switch s := s.(type) {
	case *programOld:
		changeTracked(x, &s.T, &s.TL)
	case *programNew:
		changeTracked(x, &s.T, &s.TL)
	}
}

func changeTracked[E any](x act, m *Map[string, E], l *List[E]) {
	var places []Place
	for p := range l.All("") {
		places = append(places, p)
	}
	at := Place("")
	if len(places) > 0 {
		at = places[x.i%len(places)]
	}
	change := func(e E) E {
		x.entry(reflect.ValueOf(&e).Elem())
		return e
	}
	switch x.what {
	case setTracked:
		e, _ := m.Get(x.key)
		m.Set(x.key, change(e))
	case deleteTracked:
		m.Delete(x.key)
	case appendToList:
		l.Append(change(*new(E)))
	case setInList:
		if e, found := l.Get(at); found {
			l.Set(at, change(e))
		}
	case deleteInList:
		l.Delete(at)
	case moveInList:
		if len(places) > 1 {
			l.Move(at, places[(x.i/2)%len(places)])
		}
	case readTracked:
		_, _ = m.Get(x.key)
		_, _ = l.Get(at)
		for range m.All() {
		}
	}
}

// fill gives all that only the newer version knows, and has no value yet, one of its own.
func fill(v reflect.Value, text func() string) {
	switch v.Kind() {
	case reflect.Struct:
		if s, ok := v.Addr().Interface().(*Map[string, entryNew]); ok {
			for k, e := range s.All() {
				fill(reflect.ValueOf(&e).Elem(), text)
				s.Set(k, e)
			}
			return
		}
		if s, ok := v.Addr().Interface().(*List[entryNew]); ok {
			for p, e := range s.All("") {
				fill(reflect.ValueOf(&e).Elem(), text)
				s.Set(p, e)
			}
			return
		}
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if (name == "More" || name == "X") && v.Field(i).Len() == 0 {
				v.Field(i).Set(reflect.ValueOf(map[string]string{"m": text()}))
			}
			if name == "B" && v.Field(i).Len() == 0 {
				v.Field(i).SetString(text())
			} else {
				fill(v.Field(i), text)
			}
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		for _, k := range keys {
			changeKey(v, k, func(e reflect.Value) { fill(e, text) })
		}
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), text)
		}
	}
}

// dump is a value as text; nil and empty are the same.
func dump(v reflect.Value) string {
	var parts []string
	switch v.Kind() {
	case reflect.Struct:
		if s, ok := v.Addr().Interface().(*Map[string, entryNew]); ok {
			for k, e := range s.All() {
				parts = append(parts, k+":"+dump(reflect.ValueOf(&e).Elem()))
			}
			break
		}
		if s, ok := v.Addr().Interface().(*List[entryNew]); ok {
			for _, e := range s.All("") {
				parts = append(parts, dump(reflect.ValueOf(&e).Elem()))
			}
			break
		}
		for i := range v.NumField() {
			parts = append(parts, v.Type().Field(i).Name+":"+dump(v.Field(i)))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(v.MapIndex(k))
			parts = append(parts, fmt.Sprint(k)+":"+dump(e))
		}
		sort.Strings(parts)
	case reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, dump(v.Index(i)))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return "nil"
		}
		return "&" + dump(v.Elem())
	default:
		return fmt.Sprint(v)
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// turnOf is a turn of one of the versions.
func turnOf[S any](t fataler, schema *Schema, s *store, fn func(v *S)) []Edit {
	t.Helper()
	committed := NewRows()
	for _, r := range schema.Ranges() {
		rows, _ := s.Scan(r.Begin, r.End, 0, false)
		for _, row := range rows {
			committed.Set(row.Key, row.Value)
		}
	}
	v := decode[S](t, schema, committed)
	if err := schema.Bind(v, s); err != nil {
		t.Fatalf("%v", err)
	}
	fn(v)
	edits := diff(t, schema, committed, v)
	committed.Apply(slices.Clone(edits))
	s.write(slices.Clone(edits))
	for _, r := range schema.Ranges() { // what is remembered is what is stored
		rows, _ := s.Scan(r.Begin, r.End, 0, false)
		for _, row := range rows {
			if value, found := committed.Get(row.Key); !found || string(value) != string(row.Value) {
				t.Fatalf("%s is remembered as %x, stored as %x", Path(row.Key), value, row.Value)
			}
		}
	}
	return edits
}

func kindsOfActs() [][]int {
	var all []int
	for what := range lastAct {
		all = append(all, what)
	}
	return [][]int{
		all,
		{setTracked, deleteTracked, readTracked},
		{appendToList, setInList, deleteInList, moveInList},
		{appendToList, setInList, deleteInList, moveInList},
		{setTree, setTrees},
		{setEntry, deleteEntry, setSplit, setBelowSplit, deleteSplit, setItem, deleteItem, rotateItems},
	}
}

// acts are some of one kind, so that they meet, or of all kinds.
func acts(t *rapid.T, kinds []int, count *int) []act {
	var list []act
	for range rapid.IntRange(0, 5).Draw(t, "acts") {
		list = append(list, act{what: rapid.SampledFrom(kinds).Draw(t, "what")})
	}
	if rapid.IntRange(0, 3).Draw(t, "places of the slice") == 0 {
		list = slices.DeleteFunc(list, func(x act) bool { return x.what == setInSlice })
		list = append(list, act{what: rapid.IntRange(lastAct+1, swapInSlice).Draw(t, "what")})
	}
	list = withoutReplacements(list)
	for i := range list {
		*count++
		list[i].i = rapid.IntRange(0, 3).Draw(t, "i")
		list[i].key = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
		list[i].text = fmt.Sprint(*count)
	}
	return list
}

// withoutReplacements leaves out what puts something new where it took something away: for the program it is a change.
func withoutReplacements(list []act) []act {
	for _, pair := range [][]int{
		{deleteEntry, setEntry}, {deleteSplit, setSplit, setBelowSplit}, {deleteItem, setItem}, {clearPointer, setPointer}, {deleteDeep, setDeep},
	} {
		removes := func(x act) bool { return x.what == pair[0] }
		if slices.ContainsFunc(list, removes) {
			list = slices.DeleteFunc(list, func(x act) bool { return slices.Contains(pair[1:], x.what) })
		}
	}
	return list
}

// Whatever turns of an older and of a newer program follow each other: what the newer one wrote is there until somebody
// removes it, and nobody writes what was not changed.
func TestWhatAnOlderProgramDoesNotKnowItKeeps(t *testing.T) {
	older, newer := schemaOf[programOld](t), schemaOf[programNew](t)
	rapid.Check(t, func(t *rapid.T) {
		s, truth, count := &store{rows: NewRows()}, newer.New().Interface().(*programNew), 0
		text := func() string { count++; return fmt.Sprint("b", count) }
		kinds := rapid.SampledFrom(kindsOfActs()).Draw(t, "kinds")
		for range rapid.IntRange(1, 8).Draw(t, "turns") {
			list := acts(t, kinds, &count)
			for _, x := range list {
				x.on(reflect.ValueOf(truth).Elem())
			}
			var edits []Edit
			isOld := rapid.Bool().Draw(t, "is old")
			if isOld {
				edits = turnOf(t, older, s, func(v *programOld) {
					for _, x := range list {
						x.on(reflect.ValueOf(v).Elem())
					}
				})
			} else {
				before := count
				fill(reflect.ValueOf(truth).Elem(), text)
				count = before
				edits = turnOf(t, newer, s, func(v *programNew) {
					for _, x := range list {
						x.on(reflect.ValueOf(v).Elem())
					}
					fill(reflect.ValueOf(v).Elem(), text)
				})
			}
			if isOld && len(list) == 0 && len(edits) > 0 {
				t.Fatalf("nothing was changed, and written was\n%s", textOfEdits(edits))
			}
			want := dump(reflect.ValueOf(truth).Elem())
			turnOf(t, newer, s, func(v *programNew) {
				if got := dump(reflect.ValueOf(v).Elem()); got != want {
					t.Fatalf("by the older program: %v\n%+v\ngot  %s\nwant %s\nedits\n%s", isOld, list, got, want, textOfEdits(edits))
				}
			})
		}
	})
}

// A field that was added to the entries of a large map is written with the entries that change, and not with the first
// message into all of them.
func TestFieldThatWasAddedIsNotWrittenIntoAllEntries(t *testing.T) {
	type before struct {
		Articles map[string]struct{ Article string }
	}
	type articleNow struct {
		Article string
		Price   int
	}
	type now struct{ Articles map[string]articleNow }
	const n = 80_000
	v := &before{make(map[string]struct{ Article string }, n)}
	for i := range n {
		v.Articles[fmt.Sprint("article ", i)] = struct{ Article string }{"a thing"}
	}
	old, schema := schemaOf[before](t), schemaOf[now](t)
	r := rowsOf(t, old, v)
	again := decode[now](t, schema, r)
	mustCount(t, diff(t, schema, r, again), 0)
	again.Articles["article 7"] = articleNow{"a thing", 5}
	mustCount(t, commit(t, schema, r, again), 1)
	mustBeSame(t, decode[now](t, schema, r), again)
	mustCount(t, commit(t, schema, r, again), 0)
}

// What is remembered of a large value, of which each row may change alone, is not that of an earlier one.
func TestLargeValueWithUnknownFieldsIsCompared(t *testing.T) {
	type part struct{ A, Z string }
	type older struct {
		Parts []part
	}
	type newer struct{ Parts []struct{ A, B, Z string } }
	schema, old := schemaOf[newer](t), schemaOf[older](t)
	v := &newer{make([]struct{ A, B, Z string }, 5)}
	for i := range v.Parts {
		v.Parts[i].A, v.Parts[i].B, v.Parts[i].Z = strings.Repeat("a", 30_000), fmt.Sprint(i), "z"
	}
	r := rowsOf(t, schema, v)
	o := decode[older](t, old, r)
	mustCount(t, diff(t, old, r, o), 0)
	for _, z := range []string{"y", "z", "y"} {
		v.Parts[4].Z, o.Parts[4].Z = z, z
		mustCount(t, commit(t, old, r, o), 1)
		mustBeSame(t, decode[newer](t, schema, r), v)
		mustCount(t, diff(t, old, r, o), 0)
	}
	o.Parts, v.Parts = o.Parts[:1], v.Parts[:1]
	commit(t, old, r, o)
	mustBeSame(t, decode[newer](t, schema, r), v)
	mustBeLoadable(t, r)
}

// What an Upgrade's older type had, and this one has not, goes; what neither knows stays.
func TestRewriteKeepsWhatNeitherVersionKnows(t *testing.T) {
	type entry struct{ A, B, C int }
	type stored struct {
		M       map[string]entry
		D, E, F int
	}
	type older struct {
		M    map[string]struct{ A, B int }
		D, E int
	}
	type now struct {
		M map[string]struct{ A int }
		D int
	}
	schema, old, all := schemaOf[now](t), schemaOf[older](t), schemaOf[stored](t)
	r := rowsOf(t, all, &stored{map[string]entry{"x": {1, 2, 3}, "y": {4, 5, 6}}, 7, 8, 9})
	v := &now{M: map[string]struct{ A int }{"x": {10}}, D: 11}
	edits, err := schema.Rewrite(r, old, v)
	if err != nil {
		t.Fatal(err)
	}
	r.Apply(edits)
	mustBeSame(t, decode[stored](t, all, r), &stored{map[string]entry{"x": {10, 0, 3}}, 11, 0, 9})
}

// Elements of a slice have no names: these are the rules by which they are found again.
func TestElementsOfASliceAreFoundAgain(t *testing.T) {
	for _, c := range []struct {
		base, next string
		want       []int
	}{
		{"abc", "abc", []int{0, 1, 2}},
		{"abc", "aXc", []int{0, 1, 2}},             // changed in place
		{"abc", "XYZ", []int{0, 1, 2}},             // all changed
		{"abc", "ac", []int{0, 2}},                 // removed
		{"abc", "bcX", []int{1, 2, -1}},            // removed and added
		{"abc", "abcX", []int{0, 1, 2, -1}},        // added
		{"abc", "Xabc", []int{-1, 0, 1, 2}},        // added in front
		{"abc", "abXY", []int{0, 1, 2, -1}},        // the last one changed, one added behind
		{"abc", "cab", []int{2, 0, 1}},             // moved
		{"abcd", "aXYZd", []int{0, -1, -1, -1, 3}}, // changed and inserted: nothing tells which
		{"abcd", "aXd", []int{0, -1, 3}},           // changed and removed
		{"aaa", "Xaa", []int{0, 1, 2}},             // equal ones stay at their index
		{"aaaa", "XaYa", []int{0, 1, 2, 3}},
		{"aab", "ab", []int{0, 2}},
		{"", "X", []int{-1}},
		{"a", "", []int{}},
	} {
		got := origins(letters(c.base), letters(c.next))
		if !slices.Equal(got, c.want) {
			t.Errorf("%q from %q: %v, want %v", c.next, c.base, got, c.want)
		}
	}
}

func letters(s string) (list [][]byte) {
	for _, c := range s {
		list = append(list, []byte(string(c)))
	}
	return list
}

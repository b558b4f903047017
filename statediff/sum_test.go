package statediff

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/internal/tuple"
)

// many rows are indexed.
const many = 200

// stamped is an entry with a field of each kind that has a sum.
type stamped struct {
	Flag    bool
	Int     int16
	Uint    uint64
	Float   float64
	Text    string
	Bytes   []byte
	At      time.Time
	Maybe   *int
	Inner   struct{ A, B string }
	Pair    [2]int8
	Words   []string
	Inners  []*struct{ N int }
	Omitted string `cbor:"omitted,omitempty"`
	cache   int    `dserver:"-"`
}

type item struct {
	ID string `dserver:"id"`
	stamped
}

// crowd has so many rows that they are indexed.
type crowd struct {
	Map  map[string]stamped
	Ints map[int]*stamped
	List []item
	One  stamped `dserver:",whole"`
	Sum  big.Int // has no sum itself
}

func stampeds() *rapid.Generator[stamped] {
	return rapid.Custom(func(t *rapid.T) (v stamped) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		switch pick(14) { // one field differs from the usual value
		case 0:
			v.Flag = true
		case 1:
			v.Int = int16(pick(3) - 1)
		case 2:
			v.Uint = uint64(pick(2))
		case 3:
			v.Float = []float64{0, math.Copysign(0, -1), 1, math.Inf(1)}[pick(4)]
		case 4:
			v.Text = []string{"", "a", "b", "ab"}[pick(4)]
		case 5:
			v.Bytes = [][]byte{nil, {}, {0}, {1}, {0, 0}}[pick(5)]
		case 6:
			v.At = time.Unix(int64(pick(2)), int64(pick(2))).In([]*time.Location{time.UTC, time.FixedZone("x", 3600)}[pick(2)])
		case 7:
			n := pick(2)
			v.Maybe = &n
		case 8:
			v.Inner = struct{ A, B string }{[]string{"", "a"}[pick(2)], []string{"", "a"}[pick(2)]}
		case 9:
			v.Pair[pick(2)] = int8(pick(3))
		case 10:
			v.Words = [][]string{{}, {""}, {"", ""}, {"a", ""}, {"", "a"}}[pick(5)]
		case 11:
			v.Inners = []*struct{ N int }{{pick(2)}, {pick(2)}}[:pick(3)]
		case 12:
			v.Omitted = []string{"", "a"}[pick(2)]
		}
		v.cache = pick(2)
		return v
	})
}

// Whatever happens to a value, rows of which sums are known give the edits that rows give of which none are, also after edits that
// were not committed, and after a state was read again.
func TestSumsHideNoChange(t *testing.T) {
	t.Parallel()
	schema := schemaOf[crowd](t)
	rapid.Check(t, func(t *rapid.T) {
		v := &crowd{Map: map[string]stamped{}, Ints: map[int]*stamped{}}
		for i := range many {
			v.Map["filler-"+strconv.Itoa(i)] = stamped{}
			if i%2 == 0 {
				v.Ints[-i] = &stamped{}
				v.List = append(v.List, item{ID: "filler-" + strconv.Itoa(i)})
			}
		}
		rows, small := rowsOf(t, schema, v), &crowd{Map: map[string]stamped{"a": {}}}
		few := rowsOf(t, schema, small)
		for range rapid.IntRange(1, 12).Draw(t, "turns") {
			if edits := diff(t, schema, few, small); len(edits) > 0 { // with what the other has left
				t.Fatalf("a state that was not changed has\n%s", textOfEdits(edits))
			}
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				n := rapid.IntRange(0, 9).Draw(t, "which")
				name, one := "filler-"+strconv.Itoa(n), stampeds().Draw(t, "value")
				switch rapid.IntRange(0, 10).Draw(t, "change") {
				case 10:
					v.Sum.SetInt64(int64(n))
				case 0, 1, 2:
					v.Map[name] = one
				case 3:
					delete(v.Map, name)
				case 4:
					v.Ints[n] = &one
				case 5:
					v.Ints[-n] = nil
				case 6:
					delete(v.Ints, -n)
				case 7:
					v.List[n].stamped = one
				case 8:
					v.List = append(v.List[:n:n], v.List[n+1:]...)
				case 9:
					v.One = one
				}
			}
			fresh := NewRows()
			for k, value := range rows.All() {
				fresh.Set(k, value)
			}
			want, got := diff(t, schema, fresh, v), diff(t, schema, rows, v)
			if textOfEdits(got) != textOfEdits(want) {
				t.Fatalf("with sums\n%s\nwithout\n%s", textOfEdits(got), textOfEdits(want))
			}
			if rapid.IntRange(0, 3).Draw(t, "fails") == 0 {
				v = decode[crowd](t, schema, rows)
				continue
			}
			rows.Apply(got)
			mustBeSame(t, decode[crowd](t, schema, rows), v)
		}
	})
}

// After a Diff that changed nothing all is known, and stays so when rows come and go.
func TestSumsStayWhenRowsComeAndGo(t *testing.T) {
	t.Parallel()
	schema, v := schemaOf[bank](t), bankOf(many)
	rows := rowsOf(t, schema, v)
	mustKnow := func(want int) {
		t.Helper()
		diff(t, schema, rows, v)
		known := 0
		for _, sum := range rows.index.sums {
			if sum != 0 {
				known++
			}
		}
		if known != want || rows.Len() != want {
			t.Fatalf("%d of %d rows are known, want %d", known, rows.Len(), want)
		}
	}
	mustKnow(many)
	delete(v.Accounts, "account-7")
	v.Accounts["account-70000"] = account{Owner: "new"}
	v.Accounts["account-8"] = account{Owner: "changed"}
	edits := diff(t, schema, rows, v)
	rows.Apply(edits)
	known := 0
	for _, sum := range rows.index.sums {
		if sum != 0 {
			known++
		}
	}
	if known != many {
		t.Fatalf("%d rows are known after %s", known, textOfEdits(edits))
	}
	for i := range 10 { // together
		v.Accounts["more-"+strconv.Itoa(i)] = account{}
		delete(v.Accounts, fmt.Sprintf("account-%d", 100+2*i))
	}
	commit(t, schema, rows, v)
	mustKnow(many)
}

// level is one byte with a method of its own.
type level uint8

func (l level) MarshalText() ([]byte, error)     { return []byte{'0' + byte(l)}, nil }
func (l *level) UnmarshalText(text []byte) error { *l = level(text[0] - '0'); return nil }

// What may be encoded as something else without a change in memory has no sum.
func TestWhatHasNoSum(t *testing.T) {
	t.Parallel()
	type tree struct{ Below []tree }
	type levels []level
	for _, of := range []any{map[string]int{}, []any{}, big.Int{}, struct{ M map[string]bool }{}, tree{}, struct{ F func() }{}, levels{}} {
		if typ := reflect.TypeOf(of); summerFor(typ) != nil {
			t.Errorf("%v has a sum", typ)
		}
	}
	if summerFor(reflect.TypeFor[stamped]()) == nil || summerFor(reflect.TypeFor[time.Time]()) == nil {
		t.Error("no sum of what has one")
	}
}

// Values whose parts have the same bytes, cut at other places, have other sums.
func TestSumsTellPartsApart(t *testing.T) {
	t.Parallel()
	type pair struct{ A, B []string }
	type texts struct{ A, B string }
	first, second, none := 1, 2, 0
	start := maphash.String(sumSeed, "start")
	for _, c := range [][2]any{
		{pair{A: []string{"x"}}, pair{B: []string{"x"}}},
		{texts{"ab", ""}, texts{"a", "b"}},
		{[]*int{nil}, []*int{&none}},
		{[]*int{&first}, []*int{&second}},
		{[]string{}, []string{""}},
		{[]float64{0}, []float64{math.Copysign(0, -1)}},
	} {
		sum := summerFor(reflect.TypeOf(c[0]))
		one, other := sum(start, reflect.ValueOf(c[0])), sum(start, reflect.ValueOf(c[1]))
		if one == other {
			t.Errorf("%v and %v have the same sum", c[0], c[1])
		}
		if again := sum(start, reflect.ValueOf(c[0])); again != one || sum(^start, reflect.ValueOf(c[0])) == one {
			t.Errorf("the sum of %v", c[0])
		}
	}
}

// Rewrite clears a row that says zero, which Diff leaves as it is, also when Diff has seen it.
func TestRewriteAsksNoSums(t *testing.T) {
	t.Parallel()
	schema, v := schemaOf[crowd](t), &crowd{Map: map[string]stamped{}}
	for i := range many {
		v.Map[strconv.Itoa(i)] = stamped{}
	}
	v.One.Int = 1
	rows := rowsOf(t, schema, v)
	v.One.Int = 0
	zero, err := schema.codec.encoded(reflect.ValueOf(v).Elem().FieldByName("One"))
	if err != nil {
		t.Fatal(err)
	}
	rows.Set(string(tuple.AppendString(nil, "One")), zero)
	for range 2 {
		mustCount(t, diff(t, schema, rows, v), 0)
	}
	edits, err := schema.Rewrite(rows, nil, v)
	if err != nil {
		t.Fatal(err)
	}
	mustCount(t, edits, 1)
}

// A value that became several rows and is one row again is written.
func TestSumsOfWhatWasLargeAreForgotten(t *testing.T) {
	t.Parallel()
	type notes struct{ Of map[string]string }
	schema, v := schemaOf[notes](t), &notes{map[string]string{}}
	for i := range many {
		v.Of[strconv.Itoa(i)] = "short"
	}
	rows := rowsOf(t, schema, v)
	mustCount(t, diff(t, schema, rows, v), 0)
	for _, text := range []string{strings.Repeat("x", 2*chunk.Bytes), "short", strings.Repeat("y", 2*chunk.Bytes)} {
		v.Of["7"] = text
		if len(commit(t, schema, rows, v)) == 0 {
			t.Fatalf("a text of %d bytes was not written", len(text))
		}
		mustBeSame(t, decode[notes](t, schema, rows), v)
	}
}

// attacked has a value without a sum in front of the entries of a map, which have one.
type attacked struct {
	A big.Int
	M map[string]string
}

// The sum of an entry is nobody else's: not that of what is compared next, nor of the next state that is.
func TestSumsAreOfOneValue(t *testing.T) {
	t.Parallel()
	schema := schemaOf[attacked](t)
	large := func(name string) (*attacked, *Rows) {
		v := &attacked{M: map[string]string{}}
		v.A.SetInt64(5)
		for i := range many {
			v.M[name+strconv.Itoa(i)] = "v"
		}
		rows := rowsOf(t, schema, v)
		diff(t, schema, rows, v)
		return v, rows
	}
	one, ones := large("one")
	small := &attacked{M: map[string]string{"a": "v"}}
	smalls := rowsOf(t, schema, small)
	for round := range 20 {
		diff(t, schema, ones, one)
		if edits := diff(t, schema, smalls, small); len(edits) > 0 {
			t.Errorf("a small state that was not changed has %s", textOfEdits(edits))
		}
		one.M["new"+strconv.Itoa(round)] = "v"
		delete(one.M, "new"+strconv.Itoa(round-2))
		ones.Apply(diff(t, schema, ones, one))
		mustBeSame(t, decode[attacked](t, schema, ones), one)
	}
	for i := range 20 {
		key := "one" + strconv.Itoa(i)
		two, twos := large("two")
		diff(t, schema, ones, one)
		two.M[key] = "v"
		twos.Apply(diff(t, schema, twos, two))
		mustBeSame(t, decode[attacked](t, schema, twos), two)
	}
}

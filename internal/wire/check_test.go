package wire

import (
	"encoding"
	"errors"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

type (
	hidden    struct{ n int }
	tree      struct{ Kids []tree }
	writes    struct{ n int }
	reads     string
	readsCBOR struct{ N int }
	mixed     struct{ N int }
	word      string

	Left    struct{ A, Same int }
	Right   struct{ B, Same int }
	quiet   struct{ Said int }
	Word    string
	day     struct{ time.Time }
	onlyURL struct{ *url.URL }
	anyText struct{ encoding.TextMarshaler }
)

func (writes) MarshalText() ([]byte, error)     { return nil, nil }
func (*reads) UnmarshalText([]byte) error       { return nil }
func (*readsCBOR) UnmarshalCBOR([]byte) error   { return nil }
func (mixed) MarshalBinary() ([]byte, error)    { return nil, nil }
func (*mixed) UnmarshalBinary([]byte) error     { return nil }
func (*mixed) UnmarshalCBOR([]byte) error       { return nil }
func (w word) MarshalText() ([]byte, error)     { return []byte(w), nil }
func (w *word) UnmarshalText(text []byte) error { *w = word(text); return nil }
func typeOf[T any]() reflect.Type               { return reflect.TypeFor[T]() }
func checkOf(t reflect.Type) (Traits, error) {
	return Check(t, Rules{Recursive: true, Field: checkTag})
}
func mustTake(t *testing.T, types ...reflect.Type) {
	t.Helper()
	for _, typ := range types {
		if _, err := checkOf(typ); err != nil {
			t.Errorf("%v: %v", typ, err)
		}
	}
}

// What would be lost is refused, with the path to it and what to do.
func TestWhatWouldBeLostIsRefused(t *testing.T) {
	for _, c := range []struct {
		typ  reflect.Type
		path string
		why  string
	}{
		{typeOf[struct{ A any }](), ".A", "interface"},
		{typeOf[struct{ A cbor.Tag }](), ".A.Content", "interface"},
		{typeOf[struct{ A []func() }](), ".A[]", "func"},
		{typeOf[struct{ A map[string]chan int }](), ".A[]", "chan"},
		{typeOf[struct{ A hidden }](), ".A.n", "not exported"},
		{typeOf[struct{ A sync.Mutex }](), ".A", "lock"},
		{typeOf[struct{ A **int }](), ".A", "pointer to a pointer"},
		{typeOf[struct{ A map[*int]int }](), ".A", "pointers"},
		{typeOf[struct{ A map[struct{ P *int }]int }](), ".A", "pointers"},
		{typeOf[struct {
			A int `json:"-"`
		}](), ".A", `cbor:"-"`},
		{typeOf[struct {
			A int `dserver:"-"`
		}](), ".A", `cbor:"-"`},
		{typeOf[struct {
			A int `cbor:"x"`
			B int `json:"x"`
		}](), ".B", `"x"`},
		{typeOf[struct {
			A int `cbor:"1,keyasint"`
			B int `cbor:"01,keyasint"`
		}](), ".B", `"1"`},
		{typeOf[struct {
			A int `cbor:"a,keyasint"`
		}](), ".A", "number"},
		{typeOf[struct {
			Left
			Right
		}](), ".Right.Same", ".Left.Same"},
		{typeOf[struct {
			Left
			Same string
		}](), ".Same", ".Left.Same"},
		{typeOf[struct {
			Left
			quiet
			Word
			Said int
		}](), ".Said", ".quiet.Said"},
		{typeOf[struct{ *Left }](), ".Left", "embedded pointer"},
		{typeOf[struct {
			time.Time
			N int
		}](), "", "give the field a name"},
		{typeOf[struct {
			netip.Addr
			N int
		}](), "", "give the field a name"},
		{typeOf[struct {
			time.Time
			netip.Addr
		}](), ".Time", "give the field a name"},
		{typeOf[onlyURL](), "", "give the field a name"},
		{typeOf[anyText](), "", "cannot decode itself"},
		{typeOf[writes](), "", "cannot decode itself"},
		{typeOf[reads](), "", "does not encode itself"},
		{typeOf[readsCBOR](), "", "does not encode itself"},
		{typeOf[mixed](), "", "MarshalCBOR"},
		{typeOf[struct{ A *big.Float }](), ".A", "text"},
	} {
		_, err := checkOf(c.typ)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Path != c.path || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%v: %v; want it at %q with %q", c.typ, err, c.path, c.why)
		}
	}
}

// What comes back is taken.
func TestWhatComesBackIsTaken(t *testing.T) {
	mustTake(t,
		typeOf[tree](), typeOf[day](), typeOf[big.Int](), typeOf[*big.Int](), typeOf[big.Rat](), typeOf[url.URL](),
		typeOf[netip.Prefix](), typeOf[cbor.RawMessage](), typeOf[cbor.RawTag](), typeOf[[4]byte](), typeOf[map[[2]int]string](),
		typeOf[map[word]int](), typeOf[struct{ Word }](), typeOf[struct{ quiet }](), typeOf[struct{ word }](),
		typeOf[struct {
			Left
			B int `cbor:"b"`
			n int `dserver:"-"`
			C int `json:"-" cbor:"-"`
			_ struct{}
		}](),
	)
	if _, err := Check(typeOf[tree](), Rules{}); err == nil {
		t.Error("a type that contains itself was taken where it may not")
	}
}

// A value that its type tells all about is not read again: nothing is made of it.
func TestPlainValuesAreNotReadAgain(t *testing.T) {
	type plain struct {
		N    int
		Text []string
		At   []time.Time
		By   map[string]Left
	}
	w := Of(typeOf[plain]())
	long := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	data, err := w.Encode(plain{Text: []string{"a"}, At: []time.Time{long, long.Truncate(time.Second), {}}, By: map[string]Left{"x": {}}})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { err = w.Verify(data) }); n > 0 || err != nil {
		t.Errorf("%v allocations, %v", n, err)
	}
	for _, year := range []int{-1, 10_000, 36_812, 1_000_000} {
		data, err := w.Encode(plain{Text: []string{"\xc0"}, At: []time.Time{long, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}})
		if err != nil || w.Verify(data) == nil {
			t.Errorf("the year %d is taken: %v", year, err)
		}
	}
}

// A field that is left out is no part of a value, and may make it as long as it likes.
func TestLeftOutFieldsMayPointBack(t *testing.T) {
	type node struct {
		Parent *node `cbor:"-"`
		Kids   []*node
	}
	root := &node{}
	root.Kids = []*node{{Parent: root}}
	if _, err := Of(typeOf[node]()).Encode(root); err != nil {
		t.Error(err)
	}
}

package statediff

import (
	"context"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type (
	oneWay struct{ n int }
	closer interface{ Close() error }
	tagged struct {
		Skipped int `dserver:"-"`
	}
	renamed struct {
		N int `dserver:"number"`
	}
	jsonOnly struct {
		Secret string `json:"-"`
	}
	hidden struct{ n int }
	twoIDs struct {
		A int    `dserver:"id"`
		B string `dserver:",id"`
	}
	floatID struct {
		ID float64 `dserver:"id"`
	}
	promoting struct {
		time.Time
		N int
	}
)

type embedding struct {
	hidden `cbor:"-"`
	N      int
}

// trackedTree contains itself by a tracked collection.
type trackedTree struct{ More Map[string, trackedTree] }

type otherWay struct{ N int }

func (*otherWay) UnmarshalCBOR([]byte) error { return nil }

func (oneWay) MarshalText() ([]byte, error) { return nil, nil }

// What cannot come back is refused before anything is stored, with the field's path and the reason.
func TestWhatCannotComeBackIsRefused(t *testing.T) {
	for _, c := range []struct {
		state any
		path  string
		why   string
	}{
		{struct{ A any }{}, ".A", "interface"},
		{struct{ A error }{}, ".A", "interface"},
		{struct{ A map[string]closer }{}, ".A[]", "interface"},
		{struct{ A struct{ B []func() } }{}, ".A.B[]", "func"},
		{struct{ A chan int }{}, ".A", "chan"},
		{struct{ A uintptr }{}, ".A", "uintptr"},
		{struct{ A complex128 }{}, ".A", "complex"},
		{struct{ a int }{}, ".a", "not exported"},
		{struct{ A hidden }{}, ".A.n", "not exported"},
		{struct{ A []hidden }{}, ".A[].n", "not exported"},
		{struct{ A map[string]hidden }{}, ".A[].n", "not exported"},
		{struct{ A context.Context }{}, ".A", "interface"},
		{struct{ A sync.Mutex }{}, ".A", "sync.Mutex"},
		{struct{ A []atomic.Int64 }{}, ".A[]", "atomic.Int64"},
		{struct{ A *sync.WaitGroup }{}, ".A", "sync.WaitGroup"},
		{struct{ A []trackedTree }{}, ".A[].More", "cannot be a part of one value"},
		{trackedTree{}, ".More[].More", "cannot be a part of one value"},
		{struct{ A [][]embedding }{}, ".A[][].hidden", `"hidden"`},
		{struct{ A map[string]otherWay }{}, ".A[]", "does not encode itself"},
		{struct{ A oneWay }{}, ".A", "cannot decode itself"},
		{struct{ A **int }{}, ".A", "pointer to a pointer"},
		{struct{ A map[*int]int }{}, ".A", "pointers"},
		{struct {
			A int `dserver:"x"`
			B int `dserver:"x"`
		}{}, "", `"x"`},
		{struct {
			A int `dserver:"B"`
			B int
		}{}, "", `"B"`},
		{struct{ *hidden }{}, ".hidden", "embedded pointer"},
		{struct {
			A int `dserver:",id,often"`
		}{}, ".A", "often"},
		{struct{ A []twoIDs }{}, ".A", "two fields"},
		{struct{ A []floatID }{}, ".A", "string or an integer"},
		{struct{ A [][]tagged }{}, ".A[][].Skipped", "`cbor:\"-\"`"},
		{struct{ A []renamed }{}, ".A[].N", `"number"`},
		{struct{ A []jsonOnly }{}, ".A[].Secret", `"Secret"`},
		{promoting{}, "", "embedded time.Time"},
		{struct{ A []promoting }{}, ".A[]", "embedded time.Time"},
	} {
		_, err := For(reflect.TypeOf(c.state))
		path := reflect.TypeOf(c.state).String() + c.path + ": "
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%T: %v; want %q and %q in it", c.state, err, path, c.why)
		}
	}
	if _, err := For(nil); err == nil {
		t.Error("no type was accepted")
	}
}

func TestFieldsAreNamedByTheirTags(t *testing.T) {
	type inner struct {
		A int `cbor:"a"`
		B int `json:"b,omitempty"`
		C int `json:"-" dserver:"c"`
		D int `json:"-"`
		E int `dserver:"-"`
		f int `dserver:"-"`
		_ struct{}
	}
	type state struct {
		Flat inner
		By   map[string]inner
		All  inner `dserver:",whole"`
		ID   int   `dserver:"id"`
	}
	s := schemaOf[state](t)
	one := inner{A: 1, B: 2, C: 3, D: 4, E: 5, f: 6}
	r := rowsOf(t, s, &state{one, map[string]inner{"k": one}, one, 7})
	const want = `All = a461440461610161620261630361
By.k = a46144046161016162026163 03
Flat.D = 04
Flat.a = 01
Flat.b = 02
Flat.c = 03
ID = 07
`
	if got := textOf(r); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(strings.Replace(want, "61630361", "616303", 1), " ", "") {
		t.Errorf("the rows are\n%swant\n%s", got, want)
	}
	got := decode[state](t, s, r)
	one.E, one.f = 0, 0
	if got.Flat != one || got.By["k"] != one || got.All != one {
		t.Errorf("%+v", got)
	}
}

// A type that marshals itself is one value, and comes back, wherever it stands.
func TestTypesThatMarshalThemselvesAreLeaves(t *testing.T) {
	type state struct {
		URL  url.URL
		Ptr  *url.URL
		By   map[string]*url.URL
		List []url.URL
	}
	s := schemaOf[state](t)
	u := url.URL{Scheme: "https", Host: "example.org", Path: "/a"}
	v := &state{u, &u, map[string]*url.URL{"a": &u, "b": nil}, []url.URL{u, u}}
	r := rowsOf(t, s, v)
	if r.Len() != 5 {
		t.Errorf("the rows are\n%s", textOf(r))
	}
	mustBeSame(t, decode[state](t, s, r), v)
}

func TestNewIsZeroWithMaps(t *testing.T) {
	v := schemaOf[wing](t).New().Interface().(*wing)
	if v.Floor != 0 || v.Doors == nil {
		t.Fatalf("%+v", v)
	}
}

package statediff

import (
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

// shout comes back in capitals, and not at all when it is empty of them.
type shout string

func (s shout) MarshalText() ([]byte, error) { return []byte(strings.ToUpper(string(s))), nil }
func (s *shout) UnmarshalText(b []byte) error {
	*s = shout(strings.ToLower(string(b)) + "!")
	return nil
}

// What a type's own methods make of a value is tried before it is committed; warm it works, and after a restart nobody
// could read it.
func TestWhatWouldNotComeBackIsNotCommitted(t *testing.T) {
	local := time.Date(2030, 1, 1, 0, 0, 0, 0, time.FixedZone("LMT", 1172))
	bad := &url.URL{Host: "a b<>"}
	deep := cbor.RawMessage(strings.Repeat("\x81", 255) + "\x01")
	type plan struct{ When *time.Time }
	for _, c := range []struct {
		path string
		fn   func(tb testing.TB) error
	}{
		{"U: ", refusal(struct{ U *url.URL }{bad})},
		{"M.k: Inner: ", refusal(struct {
			M map[string]struct{ Inner *url.URL }
		}{map[string]struct{ Inner *url.URL }{"k": {bad}}})},
		{"L: [1]: ", refusal(struct{ L []url.URL }{[]url.URL{{Path: "/"}, *bad}})},
		{"Raw: ", refusal(struct{ Raw [][]cbor.RawMessage }{[][]cbor.RawMessage{{deep}}})},
		{"P: ", refusal(struct{ P *time.Time }{new(time.Time)})},
		{"M.k: When: ", refusal(struct{ M map[string]plan }{map[string]plan{"k": {new(time.Time)}}})},
		{"Days", refusal(struct{ Days map[time.Time]int }{map[time.Time]int{local: 1}})},
		{"W: ", refusal(struct {
			W struct{ Days map[time.Time]int } `dserver:",whole"`
		}{struct{ Days map[time.Time]int }{map[time.Time]int{local: 1}}})},
		{"By", refusal(struct{ By map[shout]int }{map[shout]int{"a": 1}})},
		{"S: ", refusal(struct{ S shout }{"a"})},
	} {
		if err := c.fn(t); err == nil || !strings.Contains(err.Error(), ": "+c.path) {
			t.Errorf("%v, want one with the path %q", err, c.path)
		}
	}
}

// refusal is what Diff says of a value.
func refusal[T any](v T) func(tb testing.TB) error {
	return func(tb testing.TB) error {
		_, err := schemaOf[T](tb).Diff(NewRows(), &v)
		return err
	}
}

// A Map's keys are read back as well.
func TestKeyOfAMapThatDoesNotComeBackIsRefused(t *testing.T) {
	type state struct{ M Map[shout, int] }
	s := schemaOf[state](t)
	v := new(state)
	v.M.Set("a", 1)
	if _, err := s.Diff(NewRows(), v); err == nil || !strings.Contains(err.Error(), "another value") {
		t.Fatal(err)
	}
}

// calendar is full of types that have a will of their own.
type calendar struct {
	At     time.Time
	Ptr    *time.Time
	Days   map[time.Time]string
	Whole  map[time.Time][]*time.Time `dserver:",whole"`
	Link   *url.URL
	Links  map[string]url.URL
	Addr   map[netip.Addr]*netip.Prefix
	Shout  shout
	Shouts []shout
	Raw    cbor.RawMessage
	Plans  Map[string, *time.Time]
}

func calendars() *rapid.Generator[*calendar] {
	some := rapid.SampledFrom([]time.Time{
		{}, time.Unix(1, 5).UTC(), time.Unix(1, 5), time.Unix(1, 5).In(time.FixedZone("", 1800)), time.Date(12_000, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	links := rapid.SampledFrom([]url.URL{{}, {Host: "a b<>"}, {Scheme: "https", Host: "example.org", Path: "/a b"}, {Path: "//x"}, {Opaque: "x"}})
	pointers := rapid.Ptr(some, true)
	return rapid.Custom(func(t *rapid.T) *calendar {
		c := &calendar{
			At: some.Draw(t, "at"), Ptr: pointers.Draw(t, "ptr"),
			Days:  rapid.MapOfN(some, rapid.SampledFrom([]string{"", "x"}), 0, 2).Draw(t, "days"),
			Whole: rapid.MapOfN(some, rapid.SliceOfN(pointers, 0, 2), 0, 2).Draw(t, "whole"),
			Link:  rapid.Ptr(links, true).Draw(t, "link"), Links: rapid.MapOfN(rapid.SampledFrom([]string{"a", "b"}), links, 0, 2).Draw(t, "links"),
			Shout: rapid.SampledFrom([]shout{"", "a"}).Draw(t, "shout"),
			Raw:   rapid.SampledFrom([]cbor.RawMessage{nil, {0x01}, {0x18, 0x01}, {0xa0}, {0xff}, {0x81}}).Draw(t, "raw"),
			Addr:  rapid.MapOfN(addresses(), rapid.Ptr(rapid.Just(netip.Prefix{}), true), 0, 2).Draw(t, "addr"),
		}
		if p := pointers.Draw(t, "plan"); p != nil {
			c.Plans.Set("p", p)
		}
		return c
	})
}

// Whatever Diff accepts is the same after a restart: to a handler, and to the next Diff.
func TestWhatIsAcceptedIsTheSameAfterARestart(t *testing.T) {
	s, accepted := schemaOf[calendar](t), 0
	rapid.Check(t, func(t *rapid.T) {
		r := NewRows()
		for range rapid.IntRange(1, 3).Draw(t, "turns") {
			warm := calendars().Draw(t, "calendar")
			edits, err := s.Diff(r, warm)
			if err != nil {
				continue
			}
			accepted++
			r.Apply(edits)
			cold := decode[calendar](t, s, r)
			mustBeAlike(t, warm, cold)
			if again := diff(t, s, r, cold); len(again) > 0 {
				t.Fatalf("edits of an unchanged value:\n%s", textOfEdits(again))
			}
			if again := diff(t, s, r, warm); len(again) > 0 {
				t.Fatalf("edits of the warm value:\n%s", textOfEdits(again))
			}
		}
	})
	if accepted == 0 {
		t.Fatal("nothing was accepted")
	}
}

// mustBeAlike compares what a handler can see, but for the zones of times.
func mustBeAlike(t *rapid.T, warm, cold *calendar) {
	p, _ := warm.Plans.Get("p")
	q, _ := cold.Plans.Get("p")
	if !warm.At.Equal(cold.At) || (p == nil) != (q == nil) || warm.Shout != cold.Shout {
		t.Fatalf("%+v\n%+v", warm, cold)
	}
	for k, v := range warm.Links {
		if w := cold.Links[k]; v.String() != w.String() {
			t.Fatalf("%q came back as %q", v.String(), w.String())
		}
	}
	for _, pair := range [][2]any{{warm.Days, cold.Days}, {warm.Whole, cold.Whole}, {warm.Ptr, cold.Ptr}, {warm.Addr, cold.Addr}} {
		if !same(reflect.ValueOf(pair[0]), reflect.ValueOf(pair[1])) {
			t.Fatalf("%v came back as %v", pair[0], pair[1])
		}
	}
}

// A pointer to a time is checked beside a time as well.
func TestPointersToNothingAreFoundBesideTheSameType(t *testing.T) {
	type entry struct {
		A time.Time
		B *time.Time
	}
	type state struct{ M map[string]entry }
	s := schemaOf[state](t)
	if edits, err := s.Diff(NewRows(), &state{map[string]entry{"x": {B: new(time.Time)}}}); err == nil {
		t.Errorf("a pointer that comes back as nil is stored:\n%s", textOfEdits(edits))
	}
}

// What is stored already is not taken for the same value when it is only encoded like it.
func TestWhatIsEncodedAlikeButIsAnotherIsFoundInUnchangedRows(t *testing.T) {
	type entry struct {
		A int
		B *time.Time
	}
	type state struct {
		Whole map[time.Time]string `dserver:",whole"`
		Days  map[time.Time]string
		M     map[string]entry
		P     map[string]*time.Time
		E     entry
	}
	s, second := schemaOf[state](t), time.Unix(1, 5).UTC()
	utc := func() *state {
		return &state{
			Whole: map[time.Time]string{second: "x"}, Days: map[time.Time]string{second: "x"},
			M: map[string]entry{"m": {A: 1}}, P: map[string]*time.Time{"p": nil}, E: entry{A: 1},
		}
	}
	r, other, zero := NewRows(), second.In(time.FixedZone("", 0)), new(time.Time)
	edits, err := s.Diff(r, utc())
	if err != nil {
		t.Fatal(err)
	}
	r.Apply(edits)
	mustCount(t, diff(t, s, r, utc()), 0)
	for name, change := range map[string]func(s *state){
		"a key of a whole map":       func(s *state) { s.Whole = map[time.Time]string{other: "x"} },
		"a key of a map":             func(s *state) { s.Days = map[time.Time]string{other: "x"} },
		"a pointer in an entry":      func(s *state) { s.M["m"] = entry{A: 1, B: zero} },
		"a pointer that is an entry": func(s *state) { s.P["p"] = zero },
		"a pointer in a part of all": func(s *state) { s.E.B = zero },
	} {
		changed := utc()
		change(changed)
		if edits, err := s.Diff(r, changed); err == nil {
			t.Errorf("%s comes back as another, and is accepted with the edits:\n%s", name, textOfEdits(edits))
		}
	}
}

// even is a text that its type takes for nothing where it is not empty.
type even struct{ N int }

func (e even) IsZero() bool                        { return e.N%2 == 0 }
func (e even) MarshalText() ([]byte, error)        { return strconv.AppendInt(nil, int64(e.N), 10), nil }
func (e *even) UnmarshalText(b []byte) (err error) { e.N, err = strconv.Atoi(string(b)); return err }

// A pointer that is left out, as its type says that it points to nothing, comes back as nil, too.
func TestPointersThatAreLeftOutAreFound(t *testing.T) {
	type entry struct {
		A int
		B *even `cbor:"b,omitzero"`
		C *even `json:"c,omitempty,omitzero"`
	}
	type state struct {
		M     map[string]entry
		Whole []entry `dserver:",whole"`
	}
	s, two, one := schemaOf[state](t), &even{2}, &even{1}
	for _, e := range []entry{{B: two}, {C: two}} {
		for _, v := range []*state{{M: map[string]entry{"x": e}}, {Whole: []entry{e}}} {
			if edits, err := s.Diff(NewRows(), v); err == nil {
				t.Errorf("what is left out is accepted with the edits:\n%s", textOfEdits(edits))
			}
		}
	}
	e := entry{B: one, C: one}
	if _, err := s.Diff(NewRows(), &state{M: map[string]entry{"x": e}, Whole: []entry{e}}); err != nil {
		t.Error(err)
	}
}

package statediff

import (
	"reflect"
	"testing"
	"time"
)

type seat struct {
	Who   string
	Price int `json:"price"`
}
type sample struct {
	Count int64
	Name  string `dserver:"title"`
	Seats map[string]*seat
	By    map[int]seat
	Rooms map[string]room
	Nest  struct {
		A int
		M map[uint8][]string
	}
	Opt  *seat
	When time.Time
	Tags []string
	Skip func() `dserver:"-"`
	Odd  map[string]odd
}
type odd struct {
	X int    `dserver:"y"`
	F func() `dserver:"-"`
}
type room struct {
	Title string
	Users map[string]int
}

func TestQuick(t *testing.T) {
	s, err := For(reflect.TypeFor[sample]())
	if err != nil {
		t.Fatal(err)
	}
	p := s.New().Interface().(*sample)
	p.Count = 3
	p.Name = "x"
	p.Seats["a\x00"] = &seat{"me", 2}
	p.Seats["b"] = nil
	p.By[-4] = seat{}
	p.Rooms["r"] = room{"t", map[string]int{"u": 0}}
	p.Rooms["e"] = room{}
	p.Nest.A = 1
	p.Nest.M[7] = []string{"z"}
	p.Opt = &seat{}
	p.When = time.Unix(3, 5)
	p.Odd["o"] = odd{X: 3}
	r := NewRows()
	edits, err := s.Diff(r, p)
	if err != nil {
		t.Fatal(err)
	}
	r.Apply(edits)
	for k, v := range r.All() {
		t.Logf("%s = %x", Path(k), v)
	}
	q := s.New().Interface().(*sample)
	if err := s.Decode(r, q); err != nil {
		t.Fatal(err)
	}
	if !q.When.Equal(p.When) {
		t.Fatal()
	}
	q.When = p.When
	p.Rooms["e"] = room{Users: map[string]int{}}
	if !reflect.DeepEqual(p, q) {
		for i := range reflect.TypeFor[sample]().NumField() {
			a, b := reflect.ValueOf(*p).Field(i), reflect.ValueOf(*q).Field(i)
			if !reflect.DeepEqual(a.Interface(), b.Interface()) {
				t.Errorf("%#v\n%#v", a, b)
			}
		}
	}
	edits, err = s.Diff(r, q)
	if err != nil || len(edits) != 0 {
		t.Fatal(edits, err)
	}
	delete(q.Rooms, "r")
	q.Opt = nil
	edits, err = s.Diff(r, q)
	t.Log(edits, err)
}

type counter struct{ Count int64 }

func BenchmarkOneInt(b *testing.B) {
	s, _ := For(reflect.TypeFor[counter]())
	r := NewRows()
	c := &counter{}
	b.ReportAllocs()
	for b.Loop() {
		c.Count++
		e, err := s.Diff(r, c)
		if err != nil || len(e) != 1 {
			b.Fatal(err, e)
		}
		r.Apply(e)
	}
}

func BenchmarkMap100k(b *testing.B) {
	type state struct{ M map[string]seat }
	s, _ := For(reflect.TypeFor[state]())
	r := NewRows()
	c := &state{map[string]seat{}}
	for i := range 100_000 {
		c.M["key"+string(rune('a'+i%26))+time.Duration(i).String()] = seat{"who", i}
	}
	e, _ := s.Diff(r, c)
	r.Apply(e)
	b.ReportAllocs()
	for b.Loop() {
		e, err := s.Diff(r, c)
		if err != nil || len(e) != 0 {
			b.Fatal(err, len(e))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/entry")
}

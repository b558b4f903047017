package statediff

import (
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

// booth has a field of each way in which values become rows.
type booth struct {
	Name    string
	Price   float64
	Left    int
	Key     []byte
	Open    bool
	Huge    uint64
	Since   time.Time
	Debt    big.Int
	Address struct{ City, Street string }
	Owner   *owner
	Seats   map[int]string
	Low     map[int8]int
	Rooms   map[string]*room
	Queue   []guest
	Tags    map[string]string `dserver:",whole"`
	Grid    map[[2]int]string
	Plain   []string
}

type owner struct{ Name string }

type room struct {
	Floor  int
	Guests []guest
	Prices map[string]int
}

type guest struct {
	Name string `dserver:"id"`
	Age  int
}

func genericOf[T any](t *testing.T, v *T) any {
	t.Helper()
	got, err := Generic(rowsOf(t, schemaOf[T](t), v))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestGenericShowsEachKindOfValue(t *testing.T) {
	since := time.Date(2024, 2, 29, 12, 0, 0, 123456789, time.UTC)
	b := booth{
		Name: "north", Price: 2.5, Left: -3, Key: []byte{1, 2}, Open: true, Huge: 1 << 63, Since: since,
		Owner: &owner{"Ann"},
		Seats: map[int]string{-1: "a", 0: "b", 300: "c"},
		Low:   map[int8]int{-128: 1},
		Rooms: map[string]*room{
			"none": nil,
			"blue": {Floor: 2, Guests: []guest{{"Zoe", 3}, {"Bob", 4}}, Prices: map[string]int{"day": 9}},
			"red":  {Floor: 1},
		},
		Queue: []guest{{"Zoe", 1}, {"Amy", 2}, {"Kim", 0}},
		Tags:  map[string]string{"x": "y"},
		Grid:  map[[2]int]string{{1, 2}: "z"},
		Plain: []string{"p", "q"},
	}
	b.Debt.SetString("123456789012345678901234567890", 10)
	b.Address.City = "Bern"
	want := map[string]any{
		"Name": "north", "Price": 2.5, "Left": int64(-3), "Key": []byte{1, 2}, "Open": true, "Huge": uint64(1 << 63),
		"Since": since, "Debt": "123456789012345678901234567890",
		"Address": map[string]any{"City": "Bern"},
		"Owner":   map[string]any{"Name": "Ann"},
		"Seats":   map[string]any{"-1": "a", "0": "b", "300": "c"},
		"Low":     map[string]any{"-128": int64(1)},
		"Rooms": map[string]any{
			"none": nil,
			"blue": map[string]any{
				"Floor":  int64(2),
				"Guests": []any{map[string]any{"Name": "Zoe", "Age": int64(3)}, map[string]any{"Name": "Bob", "Age": int64(4)}},
				"Prices": map[string]any{"day": int64(9)},
			},
			"red": map[string]any{"Floor": int64(1)},
		},
		"Queue": []any{
			map[string]any{"Name": "Zoe", "Age": int64(1)},
			map[string]any{"Name": "Amy", "Age": int64(2)},
			map[string]any{"Name": "Kim", "Age": int64(0)},
		},
		"Tags":  map[string]any{"x": "y"},
		"Grid":  `{[1, 2]: "z"}`,
		"Plain": []any{"p", "q"},
	}
	got := genericOf(t, &b).(map[string]any)
	if !got["Since"].(time.Time).Equal(since) {
		t.Errorf("Since is %v", got["Since"])
	}
	got["Since"] = since
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s is %#v, want %#v", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d fields, want %d: %v", len(got), len(want), got)
	}
}

func TestGenericListsFollowMoves(t *testing.T) {
	type list struct{ Items []guest }
	s, rows, v := schemaOf[list](t), NewRows(), &list{}
	for _, order := range []string{"abc", "cab", "cdab", "da", "adz", ""} {
		v.Items = nil
		for _, name := range order {
			v.Items = append(v.Items, guest{Name: string(name)})
		}
		commit(t, s, rows, v)
		got, err := Generic(rows)
		if err != nil {
			t.Fatal(err)
		}
		items, _ := got.(map[string]any)["Items"].([]any)
		names := ""
		for _, item := range items {
			names += item.(map[string]any)["Name"].(string)
		}
		if names != order {
			t.Errorf("the list is %q, want %q", names, order)
		}
	}
}

func TestGenericPutsLargeValuesTogether(t *testing.T) {
	type files struct {
		Text string
		Map  map[string]string
		List []guestBook
	}
	long := strings.Repeat("0123456789", 30_000)
	v := files{Text: long, Map: map[string]string{"m": long, "n": "short"}, List: []guestBook{{"b", long}, {"a", long}}}
	want := map[string]any{
		"Text": long,
		"Map":  map[string]any{"m": long, "n": "short"},
		"List": []any{map[string]any{"ID": "b", "Text": long}, map[string]any{"ID": "a", "Text": long}},
	}
	if got := genericOf(t, &v); !reflect.DeepEqual(got, want) {
		t.Errorf("got %.200v", got)
	}
}

type guestBook struct {
	ID   string `dserver:"id"`
	Text string
}

func TestGenericOfCollectionsAtTheRoot(t *testing.T) {
	m := map[uint64]int{1<<64 - 1: 5}
	if got, want := genericOf(t, &m), any(map[string]any{"18446744073709551615": int64(5)}); !reflect.DeepEqual(got, want) {
		t.Errorf("%#v", got)
	}
	n := 7
	if got := genericOf(t, &n); got != int64(7) {
		t.Errorf("%#v", got)
	}
	if got := genericOf(t, &booth{}); !reflect.DeepEqual(got, map[string]any{}) {
		t.Errorf("%#v", got)
	}
}

func TestGenericRefusesDamagedRows(t *testing.T) {
	rows := rowsOf(t, schemaOf[booth](t), &booth{Name: "x"})
	for key := range rows.All() {
		rows.Set(key, []byte{0x62, 'x'}) // a text of two bytes that has one
	}
	if _, err := Generic(rows); err == nil || !strings.Contains(err.Error(), "Name") {
		t.Fatalf("%v", err)
	}
}

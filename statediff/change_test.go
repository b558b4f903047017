package statediff_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/statediff"
)

type wares struct {
	Name  string
	Count int64
	Share float64
	Open  bool
	Since time.Time
	Photo []byte
	Tags  []string
	Owner person
	Lines []ware
	Notes map[string]person
	Years map[int]string
	None  map[string]int64
	Extra *person
}

type person struct {
	Name  string
	Years int64
}

type ware struct {
	SKU    string `dserver:"id"`
	Amount int64
}

func someWares() wares {
	return wares{
		Name: "tea", Count: 3, Share: 0.5, Since: time.Unix(7, 0).UTC(), Photo: []byte{1}, Tags: []string{"a", "b"},
		Owner: person{"ada", 30}, Lines: []ware{{"pot", 1}, {"cup", 2}},
		Notes: map[string]person{"x/y": {"bob", 4}}, Years: map[int]string{1999: "good"}, Extra: &person{"eve", 1},
	}
}

// stored is the rows of a value, as a turn would write them.
func stored[T any](t *testing.T, v *T) (*statediff.Schema, *statediff.Rows) {
	t.Helper()
	schema, err := statediff.For(reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	rows := statediff.NewRows()
	edits, err := schema.Diff(rows, v)
	if err != nil {
		t.Fatal(err)
	}
	rows.Apply(edits)
	return schema, rows
}

// What is changed without the type is what a program with the type reads, and nothing else is changed.
func TestAChangeWithoutTheTypeIsWhatTheTypeReads(t *testing.T) {
	for path, c := range map[string]struct {
		change statediff.Change
		same   func(w *wares) // what it is to be
	}{
		"Name":           {statediff.Change{Value: "pot"}, func(w *wares) { w.Name = "pot" }},
		"Count":          {statediff.Change{Value: int64(-9)}, func(w *wares) { w.Count = -9 }},
		"Share":          {statediff.Change{Value: 0.25}, func(w *wares) { w.Share = 0.25 }},
		"Open":           {statediff.Change{Value: true, Create: true}, func(w *wares) { w.Open = true }},
		"Since":          {statediff.Change{Value: time.Unix(9, 5).UTC()}, func(w *wares) { w.Since = time.Unix(9, 5).UTC() }},
		"Photo":          {statediff.Change{Value: []byte{2, 3}}, func(w *wares) { w.Photo = []byte{2, 3} }},
		"Tags":           {statediff.Change{Value: []any{"c"}}, func(w *wares) { w.Tags = []string{"c"} }},
		"Tags|1":         {statediff.Change{Value: "z"}, func(w *wares) { w.Tags[1] = "z" }},
		"Owner|Years":    {statediff.Change{Value: int64(31)}, func(w *wares) { w.Owner.Years = 31 }},
		"Lines|1|Amount": {statediff.Change{Value: int64(5)}, func(w *wares) { w.Lines[1].Amount = 5 }},
		"Lines|0":        {statediff.Change{Value: map[string]any{"SKU": "pot", "Amount": int64(8)}}, func(w *wares) { w.Lines[0].Amount = 8 }},
		"Notes|x/y|Name": {statediff.Change{Value: "eve"}, func(w *wares) { w.Notes["x/y"] = person{"eve", 4} }},
		"Notes|x/y":      {statediff.Change{Remove: true}, func(w *wares) { w.Notes = map[string]person{} }},
		"Years|1999":     {statediff.Change{Value: "bad"}, func(w *wares) { w.Years[1999] = "bad" }},
		"Years|2000":     {statediff.Change{Value: "new", Create: true}, func(w *wares) { w.Years[2000] = "new" }},
		"Name|":          {statediff.Change{Remove: true}, func(w *wares) { w.Name = "" }},
		"Extra|Name":     {statediff.Change{Value: "ada"}, func(w *wares) { w.Extra.Name = "ada" }},
	} {
		t.Run(path, func(t *testing.T) {
			v := someWares()
			schema, rows := stored(t, &v)
			c.change.Path = strings.Split(strings.Trim(path, "| "), "|")
			edits, was, err := c.change.Of(rows)
			if err != nil || len(edits) != 1 || (was == nil) != c.change.Create {
				t.Fatalf("%v, was %v, %v", edits, was, err)
			}
			rows.Apply(edits)
			var got wares
			if err := schema.Decode(rows, &got); err != nil {
				t.Fatal(err)
			}
			want := someWares()
			c.same(&want)
			if err := schema.Fill(&want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("it is\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

// What could not be read any more with the type, or would contradict what stands beside it, is refused.
func TestAChangeWithoutTheTypeRefusesWhatTheTypeMightNotRead(t *testing.T) {
	for path, c := range map[string]struct {
		change statediff.Change
		want   error
	}{
		"Count":            {statediff.Change{Value: "many"}, statediff.ErrNotKind},
		"Name":             {statediff.Change{Value: int64(1)}, statediff.ErrNotKind},
		"Photo":            {statediff.Change{Value: "text"}, statediff.ErrNotKind},
		"Tags":             {statediff.Change{Value: []any{int64(1)}}, statediff.ErrNotKind},
		"Count ":           {statediff.Change{Value: 1.5}, statediff.ErrNotKind},
		"Lines|0":          {statediff.Change{Value: map[string]any{"SKU": "other", "Amount": int64(1)}}, statediff.ErrPath},
		"Lines|0 ":         {statediff.Change{Remove: true}, statediff.ErrPath},
		"Lines|2":          {statediff.Change{Value: map[string]any{"SKU": "x"}, Create: true}, statediff.ErrPath},
		"Lines|9|Amount":   {statediff.Change{Value: int64(1)}, statediff.ErrNoPath},
		"Lines":            {statediff.Change{Value: []any{}}, statediff.ErrPath},
		"Names":            {statediff.Change{Value: "typo"}, statediff.ErrNoPath},
		"Notes|new":        {statediff.Change{Value: map[string]any{"Name": "x"}, Create: true}, statediff.ErrPath},
		"Years|x":          {statediff.Change{Value: "no number", Create: true}, statediff.ErrNotKind},
		"Owner|Years|Deep": {statediff.Change{Value: int64(1), Create: true}, statediff.ErrNoPath},
		"Name  ":           {statediff.Change{Value: strings.Repeat("x", 100_000)}, statediff.ErrPath},
	} {
		t.Run(path, func(t *testing.T) {
			v := someWares()
			_, rows := stored(t, &v)
			c.change.Path = strings.Split(strings.TrimSpace(path), "|")
			if edits, _, err := c.change.Of(rows); !errors.Is(err, c.want) || edits != nil {
				t.Errorf("%v, %v; want %v", edits, err, c.want)
			}
		})
	}
	v := someWares()
	_, rows := stored(t, &v)
	if _, _, err := (statediff.Change{}).Of(rows); !errors.Is(err, statediff.ErrPath) {
		t.Error(err)
	}
}

// The entries of tracked collections are counted beside them: one may be changed, and none comes or goes.
func TestATrackedCollectionIsChangedOnlyInItsEntries(t *testing.T) {
	type shelf struct{ Books statediff.Map[string, int64] }
	var v shelf
	v.Books.Set("a", 1)
	schema, rows := stored(t, &v)
	edits, was, err := statediff.Change{Path: []string{"Books", "a"}, Value: int64(5)}.Of(rows)
	if err != nil || was != int64(1) {
		t.Fatal(was, err)
	}
	rows.Apply(edits)
	var got shelf
	if err := schema.Decode(rows, &got); err != nil {
		t.Fatal(err)
	}
	if n, _ := got.Books.Get("a"); n != 5 || got.Books.Len() != 1 {
		t.Errorf("%d, of %d", n, got.Books.Len())
	}
	for _, c := range []statediff.Change{{Path: []string{"Books", "a"}, Remove: true}, {Path: []string{"Books", "b"}, Value: int64(1), Create: true}} {
		if _, _, err := c.Of(rows); !errors.Is(err, statediff.ErrPath) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

package statediff

import (
	"reflect"
	"testing"
	"time"

	"github.com/dserver-go/dserver/internal/chunk"
)

// FuzzDecode reads rubbish: it must answer with an error or a value, and a value must be storable over the rubbish.
func FuzzDecode(f *testing.F) {
	s, err := For(reflect.TypeFor[world]())
	if err != nil {
		f.Fatal(err)
	}
	one := 1
	w := &world{
		Count: 1, Title: "t", Blob: make([]byte, chunk.Bytes+1), At: time.Unix(1, 2), Maybe: &one, Annex: &wing{1, map[int8]bool{1: true}},
		Accounts: map[string]account{"a": {Notes: []string{"n"}}}, Members: map[int16]*member{1: {Roles: map[string]bool{"r": true}}, 2: nil},
		Nested: map[string]map[uint8]string{"x": {1: "y"}}, Sparse: map[float64]string{1: "z"}, Lines: lines("a", "b"),
		Halls: []hall{{No: 3, Lines: []*line{{SKU: "c"}}}},
	}
	edits, err := s.Diff(NewRows(), w)
	if err != nil {
		f.Fatal(err)
	}
	for i, e := range edits {
		next := edits[(i+1)%len(edits)]
		f.Add(e.Key, e.Value[:min(len(e.Value), 40)], next.Key, next.Value[:min(len(next.Value), 40)], "", []byte(nil))
		f.Add(e.Key, next.Value[:min(len(next.Value), 40)], next.Key[:len(next.Key)-1], []byte{0xa0}, e.Key+"\x00", []byte{0x41, 0x80})
	}
	f.Add("", []byte(""), "\x15", []byte("\xda"), "\x01\x01\x00", []byte(""))
	f.Fuzz(func(t *testing.T, k1 string, v1 []byte, k2 string, v2 []byte, k3 string, v3 []byte) {
		r := NewRows()
		r.Set(k1, v1)
		r.Set(k2, v2)
		r.Set(k3, v3)
		v := new(world)
		if _, err := Generic(r); err != nil {
			_ = r.String()
		}
		if err := s.Decode(r, v); err != nil {
			_ = err.Error()
			v = w
		}
		edits, err := s.Rewrite(r, nil, v)
		if err != nil {
			return // a value that its type's own decoder accepts and its encoder refuses
		}
		r.Apply(edits)
		again := new(world)
		if err := s.Decode(r, again); err != nil {
			t.Fatalf("after %s\n%v", textOfEdits(edits), err)
		}
		mustBeLoadable(t, r)
	})
}

package statediff

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/internal/wire/wiretest"
)

// Whatever type is taken: a state of it whose rows could be made comes back from them, in all its fields.
func TestWhatIsTakenComesBack(t *testing.T) {
	taken, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		typ := wiretest.AnyType(t, 4)
		s, err := For(typ)
		if err != nil {
			refused++
			return
		}
		v := s.New()
		wiretest.AnyValue(t, v.Elem(), 6)
		edits, err := s.Diff(NewRows(), v.Interface())
		if err != nil {
			return // it was refused before it was stored
		}
		taken++
		r := NewRows()
		r.Apply(edits)
		back := s.New()
		if err := s.Decode(r, back.Interface()); err != nil {
			t.Fatalf("%v: %#v does not come back: %v", typ, v.Elem(), err)
		}
		if !wiretest.Same(v.Elem(), back.Elem()) {
			t.Fatalf("%v: %#v came back as %#v", typ, v.Elem(), back.Elem())
		}
	})
	if !t.Failed() && (taken == 0 || refused == 0) {
		t.Errorf("%d taken, %d refused: it proves nothing", taken, refused)
	}
}

package wire_test

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/internal/wire"
	"github.com/dserver-go/dserver/internal/wire/wiretest"
)

// Whatever type is taken: a value that is encoded and verified comes back, in all its fields. It is the property for
// which the checks are there, so the random types have all that they refuse.
func TestWhatIsTakenComesBack(t *testing.T) {
	taken, refused, unreadable := 0, 0, 0
	property := func(t *rapid.T) {
		typ := wiretest.AnyType(t, 4)
		w := wire.Of(typ)
		if w.Err() != nil {
			if text := w.Err().Error(); !strings.HasPrefix(text, typ.String()) {
				t.Fatalf("a refusal of %v that does not name it: %s", typ, text)
			}
			refused++
			return
		}
		v := reflect.New(typ).Elem()
		wiretest.AnyValue(t, v, 6)
		data, err := w.Encode(v.Interface())
		if err == nil {
			err = w.Verify(data)
		}
		if err != nil {
			if traits, _ := wire.Check(typ, wire.Rules{Recursive: true}); !traits.Own && !traits.Raw && !traits.Times && !traits.Keys {
				t.Fatalf("%v: %#v: %v", typ, v, err)
			}
			unreadable++
			return
		}
		taken++
		back := reflect.New(typ)
		if err := wire.Decode(data, back.Interface()); err != nil {
			t.Fatalf("%v: %#v does not come back: %v", typ, v, err)
		}
		if !wiretest.Same(v, back.Elem()) {
			t.Fatalf("%v: %#v came back as %#v", typ, v, back.Elem())
		}
	}
	for range 30 { // a hundred are few for what one check refuses
		rapid.Check(t, property)
	}
	t.Logf("%d taken, %d refused, %d that do not come back", taken, refused, unreadable)
	if !t.Failed() && (taken == 0 || refused == 0) {
		t.Error("it proves nothing")
	}
}

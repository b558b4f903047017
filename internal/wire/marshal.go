package wire

import (
	"encoding"
	"math/big"
	"net/netip"
	"reflect"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// way is a pair of interfaces by which a type writes and reads itself.
type way struct{ out, in reflect.Type }

// The ways in the order in which the CBOR library prefers them.
var (
	cborWay   = way{reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[cbor.Unmarshaler]()}
	binaryWay = way{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler]()}
	textWay   = way{reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()}
	ways      = []way{cborWay, binaryWay, textWay}
)

// wayOf is the way by which a type writes itself; false when it does not.
func wayOf(t reflect.Type) (way, bool) {
	p := reflect.PointerTo(t)
	for _, w := range ways {
		if p.Implements(w.out) {
			return w, true
		}
	}
	return way{}, false
}

// Marshals tells whether values of the type write themselves.
func Marshals(t reflect.Type) bool {
	_, ok := wayOf(t)
	return ok
}

// builtIn are types for which the CBOR library has an encoding of its own, whatever methods they have.
var builtIn = map[reflect.Type]bool{
	reflect.TypeFor[time.Time]():       true,
	reflect.TypeFor[big.Int]():         true,
	reflect.TypeFor[cbor.RawMessage](): true,
	reflect.TypeFor[cbor.ByteString](): true,
}

// trusted are types of the standard library that read whatever they have written.
var trusted = map[reflect.Type]bool{
	reflect.TypeFor[netip.Addr]():     true,
	reflect.TypeFor[netip.AddrPort](): true,
	reflect.TypeFor[netip.Prefix]():   true,
}

// OneWay says why a type does not come back that writes or reads itself; "" when it does.
func OneWay(t reflect.Type) string {
	p := reflect.PointerTo(t)
	if builtIn[t] {
		return ""
	}
	w, writes := wayOf(t)
	switch {
	case t == reflect.TypeFor[big.Float]():
		return "a big.Float comes back with other digits: store its text, of as many digits as you need"
	case writes && !p.Implements(w.in):
		return t.String() + " encodes itself but cannot decode itself: it needs the other method too"
	case writes && w != cborWay && p.Implements(cborWay.in):
		return t.String() + " decodes itself by UnmarshalCBOR but does not encode itself so: it needs MarshalCBOR too"
	case !writes && readsItself(t):
		return t.String() + " decodes itself but does not encode itself: it needs the other method too"
	}
	return ""
}

// readsItself tells whether a type that does not write itself reads what the CBOR library writes for its kind.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	isBytes := (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) && t.Elem().Kind() == reflect.Uint8
	return p.Implements(cborWay.in) || isBytes && p.Implements(binaryWay.in) ||
		t.Kind() == reflect.String && p.Implements(textWay.in)
}

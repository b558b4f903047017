// Package wiretest makes types and values of all kinds, right and wrong ones, for tests of what comes back.
package wiretest

import (
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

type (
	// Left is embedded.
	Left struct{ A, Same int }

	hidden    struct{ n int } // the field is not exported: that is the case
	writes    struct{ n int } // as above
	reads     string
	readsCBOR struct{ N int }
	mixed     struct{ N int }
	word      string
	day       struct{ time.Time }
	onlyURL   struct{ *url.URL }
)

func (writes) MarshalText() ([]byte, error)     { return nil, nil }
func (*reads) UnmarshalText([]byte) error       { return nil }
func (*readsCBOR) UnmarshalCBOR([]byte) error   { return nil }
func (mixed) MarshalBinary() ([]byte, error)    { return nil, nil }
func (*mixed) UnmarshalBinary([]byte) error     { return nil }
func (*mixed) UnmarshalCBOR([]byte) error       { return nil }
func (w word) MarshalText() ([]byte, error)     { return []byte(w), nil }
func (w *word) UnmarshalText(text []byte) error { *w = word(text); return nil }

// pile is a type with text of its own that reads only some of what it writes.
type pile struct{ Text string }

func (p pile) MarshalText() ([]byte, error) { return []byte(p.Text), nil }
func (p *pile) UnmarshalText(text []byte) error {
	if strings.HasSuffix(string(text), "!") {
		return fmt.Errorf("no shouting")
	}
	p.Text = string(text)
	return nil
}

type branch struct {
	N    int
	Kids []branch
	By   map[string]*branch
}

// parts are what random types are made of, right and wrong ones.
var parts = []reflect.Type{
	reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint64](), reflect.TypeFor[float32](), reflect.TypeFor[float64](),
	reflect.TypeFor[string](), reflect.TypeFor[[]byte](), reflect.TypeFor[[3]byte](), reflect.TypeFor[time.Time](), reflect.TypeFor[time.Duration](), reflect.TypeFor[big.Int](),
	reflect.TypeFor[big.Rat](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[url.URL](), reflect.TypeFor[cbor.RawMessage](), reflect.TypeFor[pile](), reflect.TypeFor[word](),
	reflect.TypeFor[branch](), reflect.TypeFor[struct{}](), reflect.TypeFor[Left](), reflect.TypeFor[day](), reflect.TypeFor[mixed](), reflect.TypeFor[writes](), reflect.TypeFor[reads](),
	reflect.TypeFor[readsCBOR](), reflect.TypeFor[hidden](), reflect.TypeFor[any](), reflect.TypeFor[complex64](), reflect.TypeFor[chan int](), reflect.TypeFor[big.Float](), reflect.TypeFor[onlyURL](),
}

var tags = []reflect.StructTag{
	"", "", "", `cbor:"a"`, `json:"a"`, `json:"-"`, `cbor:"-"`, `cbor:",omitempty"`, `json:"b,omitempty"`, `cbor:"F1"`,
	`dserver:"-"`, `cbor:"1,keyasint"`, `cbor:"-" json:"x"`, `json:"-" cbor:"c"`, `cbor:",omitzero"`,
}

// AnyType is a type, nested at most so deep.
func AnyType(t *rapid.T, depth int) reflect.Type {
	kinds := 7
	if depth == 0 {
		kinds = 0
	}
	switch rapid.IntRange(0, kinds).Draw(t, "kind") {
	case 1:
		return reflect.PointerTo(AnyType(t, depth-1))
	case 2:
		return reflect.SliceOf(AnyType(t, depth-1))
	case 3:
		return reflect.ArrayOf(rapid.IntRange(0, 3).Draw(t, "length"), AnyType(t, depth-1))
	case 4:
		if key := AnyType(t, depth-1); key.Comparable() {
			return reflect.MapOf(key, AnyType(t, depth-1))
		}
	case 5, 6, 7:
		return anyStruct(t, depth-1)
	}
	return rapid.SampledFrom(parts).Draw(t, "part")
}

// anyStruct makes a struct. It embeds only structs without methods, as reflect makes no others.
func anyStruct(t *rapid.T, depth int) reflect.Type {
	fields := make([]reflect.StructField, rapid.IntRange(0, 4).Draw(t, "fields"))
	for i := range fields {
		typ := AnyType(t, depth)
		mayEmbed := typ.Kind() == reflect.Struct && reflect.PointerTo(typ).NumMethod() == 0
		fields[i] = reflect.StructField{
			Name: fmt.Sprintf("F%d", i), Type: typ, Tag: rapid.SampledFrom(tags).Draw(t, "tag"),
			Anonymous: mayEmbed && rapid.Bool().Draw(t, "embedded"),
		}
	}
	return reflect.StructOf(fields)
}

// AnyValue fills v, of a type that was taken.
func AnyValue(t *rapid.T, v reflect.Value, depth int) {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		at := time.Unix(rapid.Int64Range(-1<<36, 1<<39).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		v.Set(reflect.ValueOf(at.In(time.FixedZone("", 60*rapid.IntRange(-700, 700).Draw(t, "zone")))))
		return
	case reflect.TypeFor[big.Int]():
		v.Set(reflect.ValueOf(new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "big"))).Elem())
		return
	case reflect.TypeFor[big.Rat]():
		v.Set(reflect.ValueOf(big.NewRat(rapid.Int64().Draw(t, "rat"), 7)).Elem())
		return
	case reflect.TypeFor[netip.Addr]():
		v.Set(reflect.ValueOf(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))))
		return
	case reflect.TypeFor[url.URL]():
		v.Set(reflect.ValueOf(url.URL{Host: rapid.SampledFrom([]string{"", "a", "a b<>"}).Draw(t, "host")}))
		return
	case reflect.TypeFor[cbor.RawMessage]():
		v.SetBytes(rapid.SampledFrom([][]byte{{0x01}, {0x81, 0x02}, {0x61, 0xff}, {0xc0, 0x01}, {0x9f, 0xff}}).Draw(t, "raw"))
		return
	case reflect.TypeFor[big.Float](): // none of these three would come back, so that nobody takes them unseen
		v.Set(reflect.ValueOf(big.NewFloat(0.1)).Elem())
		return
	case reflect.TypeFor[hidden]():
		v.Set(reflect.ValueOf(hidden{1}))
		return
	case reflect.TypeFor[writes]():
		v.Set(reflect.ValueOf(writes{1}))
		return
	}
	anyKind(t, v, depth)
}

func anyKind(t *rapid.T, v reflect.Value, depth int) {
	small := func() int { return rapid.IntRange(0, max(0, min(depth, 2))).Draw(t, "size") }
	switch k := v.Kind(); {
	case k == reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case v.CanInt():
		v.SetInt(rapid.Int64().Draw(t, "int"))
	case v.CanUint():
		v.SetUint(rapid.Uint64().Draw(t, "uint"))
	case v.CanFloat():
		v.SetFloat(rapid.Float64().Draw(t, "float"))
	case k == reflect.String:
		v.SetString(string(rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "text")))
	case k == reflect.Pointer && depth > 0 && rapid.Bool().Draw(t, "points"):
		v.Set(reflect.New(v.Type().Elem()))
		AnyValue(t, v.Elem(), depth-1)
	case k == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), small(), 4))
		fallthrough
	case k == reflect.Array:
		for i := range v.Len() {
			AnyValue(t, v.Index(i), depth-1)
		}
	case k == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range small() {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			AnyValue(t, key, depth-1)
			AnyValue(t, elem, depth-1)
			v.SetMapIndex(key, elem)
		}
	case k == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				AnyValue(t, v.Field(i), depth-1)
			}
		}
	}
}

// Same compares values as they were and as they came back. What is allowed to differ: a time's zone, nil and empty, a
// pointer to nil or to the zero time and no pointer, -0 and 0, the bits of NaN, and what was left out by its tag.
func Same(a, b reflect.Value) bool {
	switch a.Type() {
	case reflect.TypeFor[time.Time]():
		return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
	case reflect.TypeFor[big.Int](), reflect.TypeFor[big.Rat](), reflect.TypeFor[netip.Addr](), reflect.TypeFor[url.URL]():
		return fmt.Sprint(a.Addr().Interface()) == fmt.Sprint(b.Addr().Interface())
	case reflect.TypeFor[big.Float]():
		return a.Addr().Interface().(*big.Float).Cmp(b.Addr().Interface().(*big.Float)) == 0
	case reflect.TypeFor[hidden](), reflect.TypeFor[writes]():
		return a.Interface() == b.Interface()
	}
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return a.Float() == b.Float() || a.Float() != a.Float() && b.Float() != b.Float()
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return (a.IsNil() || isNothing(a.Elem())) && b.IsNil()
		}
		return Same(a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !Same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		return sameMaps(a, b)
	case reflect.Struct:
		for i := range a.NumField() {
			f := a.Type().Field(i)
			if f.IsExported() && !isLeftOut(f) && !Same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// isLeftOut tells whether a field may be lost. A tag for JSON says nothing of that.
func isLeftOut(f reflect.StructField) bool {
	return f.Tag.Get("dserver") == "-" || f.Tag.Get("cbor") == "-"
}

// isNothing tells whether a value is written as null.
func isNothing(v reflect.Value) bool {
	if v.Type() == reflect.TypeFor[time.Time]() {
		return v.Interface().(time.Time).IsZero()
	}
	return (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0
}

func sameMaps(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	addressable := func(v reflect.Value) reflect.Value {
		p := reflect.New(v.Type()).Elem()
		p.Set(v)
		return p
	}
	left := map[int]reflect.Value{}
	for i, k := range b.MapKeys() {
		left[i] = k
	}
	for _, k := range a.MapKeys() {
		found := false
		for i, other := range left {
			if Same(addressable(k), addressable(other)) && Same(addressable(a.MapIndex(k)), addressable(b.MapIndex(other))) {
				delete(left, i)
				found = true
				break
			}
		}
		if !found && k.CanFloat() && k.Float() != k.Float() { // entries of NaN cannot be asked for
			return true
		}
		if !found {
			return false
		}
	}
	return true
}

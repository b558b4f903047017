package tuple

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// The expected bytes are the examples of FoundationDB's design/tuple.md and what its Python binding prints.
func TestEncodingIsFoundationDBs(t *testing.T) {
	for _, c := range []struct {
		element any
		want    string
	}{
		{nil, "00"},
		{[]byte("foo\x00bar"), "01666f6f00ff62617200"},
		{"F\u00d4O\u0000bar", "0246c3944f00ff62617200"},
		{Tuple{[]byte("foo\x00bar"), nil, Tuple{}}, "0501666f6f00ff6261720000ff050000"},
		{int64(0), "14"},
		{int64(1), "1501"},
		{int64(-5551212), "11ab4b93"},
		{int64(5551212), "1754b46c"},
		{int64(-1), "13fe"},
		{int64(-256), "12feff"},
		{int64(math.MinInt64), "0c7fffffffffffffff"},
		{uint64(math.MaxUint64), "1cffffffffffffffff"},
		{float64(-42), "213fbaffffffffffff"},
		{true, "27"},
		{false, "26"},
		{Stamp{0: 1, 11: 2}, "33010000000000000000000002"},
	} {
		if got := hex.EncodeToString(Append(nil, c.element)); got != c.want {
			t.Errorf("%#v is encoded as %s, want %s", c.element, got, c.want)
		}
	}
}

func elements() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Just[any](nil),
		rapid.Int64().AsAny(),
		rapid.Uint64Range(math.MaxInt64+1, math.MaxUint64).AsAny(),
		rapid.StringOf(rapid.RuneFrom([]rune{0, 'a', 'ÿ'})).AsAny(),
		rapid.SliceOf(rapid.SampledFrom([]byte{0, 1, 0xfe, 0xff})).AsAny(),
		rapid.Float64().AsAny(),
		rapid.Bool().AsAny(),
		rapid.Custom(func(t *rapid.T) Stamp {
			return Stamp(rapid.SliceOfN(rapid.Byte(), StampSize, StampSize).Draw(t, "stamp"))
		}).AsAny(),
	)
}

func tuples() *rapid.Generator[Tuple] {
	return rapid.Custom(func(t *rapid.T) Tuple {
		flat := rapid.SliceOfN(elements(), 0, 4).Draw(t, "flat")
		if rapid.Bool().Draw(t, "nest") {
			flat = append(flat, append(Tuple{}, rapid.SliceOfN(elements(), 0, 3).Draw(t, "nested")...))
		}
		return append(Tuple{}, flat...)
	})
}

func TestDecodeInvertsAppend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := tuples().Draw(t, "tuple")
		got, err := Decode(Append(nil, want...))
		if err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 && len(got) == 0 {
			return
		}
		if !reflect.DeepEqual(got, want) && !bytes.Equal(Append(nil, got...), Append(nil, want...)) {
			t.Fatalf("%#v comes back as %#v", want, got)
		}
	})
}

func TestOrderOfIntegersAndStringsIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		if (a < b) != (bytes.Compare(AppendInt(nil, a), AppendInt(nil, b)) < 0) {
			t.Fatalf("%d and %d are out of order", a, b)
		}
		s, u := rapid.String().Draw(t, "s"), rapid.String().Draw(t, "u")
		if (s < u) != (bytes.Compare(AppendString(nil, s), AppendString(nil, u)) < 0) {
			t.Fatalf("%q and %q are out of order", s, u)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(Append(nil, "a", int64(-1), nil, Tuple{nil, "b"}, Stamp{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		decoded, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(Append(nil, decoded...))
		if err != nil || !bytes.Equal(Append(nil, again...), Append(nil, decoded...)) {
			t.Fatalf("%x decodes to %#v, which does not come back: %v", b, decoded, err)
		}
	})
}

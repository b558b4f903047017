//go:build fdb

package fdb

import (
	"bytes"
	"math"
	"testing"

	apple "github.com/apple/foundationdb/bindings/go/src/fdb/tuple"
	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
)

// pairOf draws an element as both packages have it.
func pairOf(t *rapid.T) (ours any, theirs apple.TupleElement) {
	switch rapid.IntRange(0, 8).Draw(t, "kind") {
	case 0:
		return nil, nil
	case 1:
		b := rapid.SliceOf(rapid.SampledFrom([]byte{0, 1, 0x33, 0xfe, 0xff})).Draw(t, "bytes")
		return b, b
	case 2:
		s := rapid.String().Draw(t, "string")
		return s, s
	case 3:
		i := rapid.Int64().Draw(t, "int64")
		return i, i
	case 4:
		u := rapid.Uint64().Draw(t, "uint64")
		return u, u
	case 5:
		f := rapid.Float64().Draw(t, "float64")
		return f, f
	case 6:
		b := rapid.Bool().Draw(t, "bool")
		return b, b
	case 7:
		i := rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64, -256, -255, 255, 256}).Draw(t, "border")
		return i, i
	}
	v := backend.Versionstamp(rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "stamp"))
	return v, apple.Versionstamp{TransactionVersion: [10]byte(v[:10]), UserVersion: v.Order()}
}

// Keys are read by fdbcli and other layers, and Apple's package reads ours.
func TestKeysAreEncodedAsByTheTupleLayer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ours []any
		var theirs apple.Tuple
		for range rapid.IntRange(0, 6).Draw(t, "elements") {
			a, b := pairOf(t)
			ours, theirs = append(ours, a), append(theirs, b)
		}
		key := backend.NewKey(ours...)
		if !bytes.Equal(key, theirs.Pack()) {
			t.Fatalf("%v: ours %x, theirs %x", ours, []byte(key), theirs.Pack())
		}
		if _, err := apple.Unpack([]byte(key)); err != nil {
			t.Fatalf("%v cannot be read by the tuple layer: %v", ours, err)
		}
	})
}

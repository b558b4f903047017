package wire

import (
	"bytes"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

type (
	wide struct {
		Text string `cbor:"Text,omitempty"`
		More [62]uint64
	}
	table struct {
		Counts []int
		Rows   []wide
		By     map[string][]*wide
		Left
	}
	listed struct {
		_    struct{} `cbor:",toarray"`
		Rows []wide
	}
)

// many is a list of so many items of one byte.
func many(n int, item byte) []byte {
	return slices.Concat([]byte{0x9a, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, bytes.Repeat([]byte{item}, n))
}

// A value takes memory in proportion to its bytes: one of many small rows that are large in memory is refused, whichever
// way it is written, before its memory is asked for. A long list of what is small is none.
func TestValuesThatWouldTakeTooMuchMemoryAreNotRead(t *testing.T) {
	const n = 1 << 20
	empty := many(n, 0xa0)
	for _, c := range []struct {
		name string
		into any
		data []byte
		ok   bool
	}{
		{"a list", new([]wide), empty, false},
		{"a field", new(table), slices.Concat([]byte("\xa1\x64Rows"), empty), false},
		{"a field in small letters", new(table), slices.Concat([]byte("\xa1\x64rows"), empty), false},
		{"a field with a long head", new(table), slices.Concat([]byte("\xa1\x78\x04Rows"), empty), false},
		{"a list without a number", new(table), slices.Concat([]byte("\xbf\x64Rows\x9f"), empty[5:], []byte("\xff\xff")), false},
		{"behind tags", new(table), slices.Concat([]byte("\xd9\xd9\xf7\xa1\x64Rows\xd9\xd9\xf7"), empty), false},
		{"pointers in a map", new(table), slices.Concat([]byte("\xa1\x62By\xa1\x61x"), empty), false},
		{"a struct that is a list", new(listed), slices.Concat([]byte{0x81}, empty), false},
		{"nothing in pointers", new(table), slices.Concat([]byte("\xa1\x62By\xa1\x61x"), many(n, 0xf6)), true},
		{"numbers", new(table), slices.Concat([]byte("\xa1\x66Counts"), many(n, 0x07)), true},
		{"a field that is not there", new(table), slices.Concat([]byte("\xa1\x64None"), empty), true},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := Decode(c.data, c.into)
		runtime.ReadMemStats(&after)
		if isRefused := err != nil && strings.Contains(err.Error(), "memory"); isRefused == c.ok || c.ok && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
			t.Errorf("%s of %d bytes took %d bytes", c.name, len(c.data), took)
		}
	}
}

// Whatever is well-formed can be weighed.
func FuzzWeigh(f *testing.F) {
	for _, seed := range []string{"\xa1\x64Rows\x80", "\xbf\x7f\x61x\xff\x9f\xff\xff", "\xa1\x01\x81\xf6", "\xc1\xc1\xa0", "\x9b\x00\x00\x00\x00\x00\x00\x00\x01\xf7", "\xf9\x00\x00", "\xf8\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if values.Wellformed(data) != nil {
			return
		}
		for _, into := range []any{new(table), new(listed), new([]map[string]wide)} {
			w := &weigher{data: data, wide: 1}
			if w.item(reflect.TypeOf(into).Elem()); w.off != len(data) {
				t.Errorf("%x: it ended at %d of %d", data, w.off, len(data))
			}
		}
	})
}

package chunk

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestJoinInvertsSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(
			rapid.IntRange(0, 100),
			rapid.IntRange(Bytes-20, Bytes+20),
			rapid.IntRange(2*Bytes-20, 2*Bytes+20),
			rapid.IntRange(MaxBytes-2, MaxBytes),
		).Draw(t, "size")
		value := bytes.Repeat([]byte{7}, size)
		if rapid.Bool().Draw(t, "looks like a header") {
			copy(value, magic)
		}
		rows, err := Split(value)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if len(row) > Bytes {
				t.Fatalf("a row of %d bytes", len(row))
			}
		}
		if n, err := Count(rows[0]); err != nil || n != len(rows) {
			t.Fatalf("Count is %d, %v; want %d", n, err, len(rows))
		}
		got, err := Join(rows)
		if err != nil || !bytes.Equal(got, value) {
			t.Fatalf("%d bytes come back as %d, %v", len(value), len(got), err)
		}
		if len(rows) > 1 {
			if _, err := Join(rows[:len(rows)-1]); err == nil {
				t.Fatal("a value without its last row was put together")
			}
		}
	})
}

func TestSmallValueIsStoredAsItIs(t *testing.T) {
	value := []byte("plain")
	rows, err := Split(value)
	if err != nil || len(rows) != 1 || !bytes.Equal(rows[0], value) {
		t.Fatalf("got %q, %v", rows, err)
	}
}

func TestTooLargeIsRefused(t *testing.T) {
	if _, err := Split(make([]byte, MaxBytes+1)); err == nil {
		t.Fatal("no error")
	}
}

func FuzzJoin(f *testing.F) {
	f.Add([]byte("x"), []byte("y"))
	f.Add(append(bytes.Clone(magic), 0, 0, 0, 2), []byte("y"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if v, err := Join([][]byte{a, b}); err == nil && len(v) > len(a)+len(b) {
			t.Fatalf("%d bytes of %d", len(v), len(a)+len(b))
		}
	})
}

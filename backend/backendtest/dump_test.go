package backendtest

import (
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
)

// fillForDump writes one value of each kind. The commits that nobody can see in it shift all stamps.
func fillForDump(t *testing.T, db backend.Database, invisible int) {
	x := &trial{T: t, ctx: t.Context()}
	for range invisible {
		x.set(db, "gone", "1")
	}
	x.transact(db, func(s *script) { s.tx.Clear(wholeStore()) })
	first := x.versionOf(db, func(tx backend.Tx) {
		tx.Append(backend.NewKey("q"), []byte{0xf6})
		tx.Append(backend.NewKey("q"), []byte{0x01, 0x02, 0x03})
		tx.Stamp(backend.NewKey("v"))
	})
	x.transact(db, func(s *script) {
		body, err := cbor.Marshal(struct {
			Of   backend.Versionstamp `cbor:"of"`
			Text string               `cbor:"text"`
		}{first.WithOrder(1), "größer"})
		s.keep(err)
		s.tx.Set(backend.NewKey("m", int64(-7), true, nil, []byte{0xff}, 1.5), body)
		s.tx.Set(backend.NewKey("long"), []byte(strings.Repeat("\xff", 1000)))
		s.tx.Set(backend.NewKey("empty"), nil)
		s.tx.Add(backend.NewKey("n", "a\"b"), 258)
		s.tx.Add(backend.NewKey("other"), 1)
		s.tx.Set(backend.Key("\xfe"), []byte{0x05})
		s.tx.Append(backend.NewKey("p"), []byte{0xf5})
	})
}

func TestDumpIsTheSameForEveryRun(t *testing.T) {
	want := strings.Join([]string{
		`("empty")`,
		`("long") = x` + strings.Repeat("ff", 119) + `f… (1000 bytes)`,
		`("m", -7, true, <nil>, xff, 1.5) = {"of": #1.1, "text": "gr\u00f6\u00dfer"}`,
		`("n", "a\"b") = 258`,
		`("other") = x0100000000000000`,
		`("p", #2) = true`,
		`("q", #1) = null`,
		`("q", #1.1) = x010203`,
		`("v") = #1`,
		`"\xfe" = 5`,
	}, "\n") + "\n"
	for _, invisible := range []int{0, 300} {
		db := NewModel()
		fillForDump(t, db, invisible)
		got, err := Dump(t.Context(), db, Counters(func(k backend.Key) bool {
			_, below := k.CutPrefix(backend.NewKey("n"))
			return below
		}))
		if err != nil || got != want {
			t.Fatalf("error %v, got\n%s\nwant\n%s", err, got, want)
		}
	}
}

// A long value that is cut amid a stamp shows nothing of it, as its digits differ from run to run.
func TestDumpCutsNoStampInHalf(t *testing.T) {
	for length := range 260 {
		db := NewModel()
		value, err := cbor.Marshal([]any{strings.Repeat("x", length), backend.NewVersionstamp(0xabcdef, 0), strings.Repeat("y", 300)})
		if err != nil {
			t.Fatal(err)
		}
		(&trial{T: t, ctx: t.Context()}).transact(db, func(s *script) { s.tx.Set(key("a"), value) })
		if text, err := Dump(t.Context(), db); err != nil || strings.Contains(text, "abcdef") || strings.Contains(text, "\x00") {
			t.Fatalf("after %d letters: %v %s", length, err, text)
		}
	}
}

func TestDumpOfAClosedDatabaseFails(t *testing.T) {
	db := NewModel()
	closeAll(t, db)
	if text, err := Dump(t.Context(), db); err == nil {
		t.Fatalf("got %q", text)
	}
}

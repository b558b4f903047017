package display

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// What is written is read as it was, byte by byte, of what a program sends and of what else CBOR has.
func TestNotationIsReadAsItWasWritten(t *testing.T) {
	large, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	for _, v := range []any{
		nil, true, 0, 23, 24, 255, 256, 65536, uint64(math.MaxUint64), -1, -25, int64(math.MinInt64), *large, *new(big.Int).Neg(large),
		1.5, 0.1, math.Copysign(0, -1), 1e300, 5e-324, math.NaN(), math.Inf(1), math.Inf(-1), float32(0.1), []byte{}, []byte{0, 0xff}, "", "Zürich \"\\\n\u202e\x00 😀",
		[]any{}, []any{1, []any{"a", []byte("b")}}, map[any]any{1: "a", "b": []any{nil}}, map[string]any{}, time.Unix(1, 5).UTC(),
		cbor.Tag{Number: 4711, Content: cbor.Tag{Number: 24, Content: []byte{1}}}, cbor.SimpleValue(0), cbor.SimpleValue(255),
	} {
		body, err := encoder.Marshal(v)
		must(t, err)
		text, err := Notation(body)
		must(t, err)
		if got, err := ParseNotation(text); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%v is written as %s, and read as %x, %v", v, text, got, err)
		}
	}
	for _, body := range []string{
		"5fff", "7fff", "5f4101420203ff", "7f6161626262ff", "9fff", "9f01820203ff", "bfff", "bf6161019fffa0ff", "f7", "f97bff", "f90001", "fa7f7fffff", "c11a514b67b0",
	} {
		b, err := hex.DecodeString(body)
		must(t, err)
		text, err := Notation(b)
		must(t, err)
		if got, err := ParseNotation(text); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s is written as %s, and read as %x, %v", body, text, got, err)
		}
	}
}

func TestNotationHasALineForEachElement(t *testing.T) {
	body, err := encoder.Marshal(map[string]any{"By": []any{1, []byte{0xff, 0}, "a, [b]", []any{}}})
	must(t, err)
	want := "{\n  \"By\": [\n    1,\n    h'ff00',\n    \"a, [b]\",\n    []\n  ]\n}"
	if text, err := Notation(body); err != nil || text != want {
		t.Errorf("%s, %v", text, err)
	}
}

// What is not the notation is refused, with the place.
func TestWhatIsNoNotationIsRefused(t *testing.T) {
	for text, says := range map[string]string{
		"": "a value is missing", "01": "digits", "-": "digits", "-0": "-0.0", "+1": "no value begins so", "1 2": "something follows", "1.": "behind the point",
		"1.0e": "behind the e", "1e5": "something follows", "0.1_1": "more than 16 bits", "0.1_2": "more than 32 bits", "1.0e999": "64 bits", "h'0'": "pairs", "h'00": "no end",
		"h'0 0'": "pairs", `"a`: "no end", "\"\n\"": "control character", `"\x"`: "no such escape", `"\ud800"`: "half of a letter", `"\ud800\u0041"`: "half of a letter",
		"\"\xff\"": "no UTF-8", "[1": "a comma or ]", "[1,]": "no value begins so", "{1}": "a colon", "{1: 2": "a comma or }", "{1: 2,}": "no value begins so", "tru": "no value begins so",
		"1(2": ") comes behind", "(_ )": "are missing", `(_ "a", h'00')`: "not both", "(_ 1)": "are missing", "simple(20)": "from 0 to 19", "simple(256)": "from 0 to 19", "simple(1": "from 0 to 19",
		"'a'": "no value begins so", "99999999999999999999(1)": "64 bits", strings.Repeat("[", 300): "nested more than", "{1: 2, 1: [}": "line 1, column 12",
		"[\n  1,\n  x]": "line 3, column 3",
	} {
		if body, err := ParseNotation(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s is read as %x, %v", text, body, err)
		}
	}
}

// Whatever bytes are CBOR, their notation is read, and says the same then, on one line or on many.
func FuzzNotationIsReadAsItWasWritten(f *testing.F) {
	for _, seed := range []string{"a1624279182a", "9f5f4100ff7f6161fffb3ff8000000000000ff", "c24901000000000000000000", "d9010281f97e00", "bf0102fff8ff", "c25f4100ff"} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want, err := diagnoser.Diagnose(body)
		if err != nil {
			return // no CBOR, or text that is no UTF-8
		}
		for _, text := range []string{want, indentNotation(want)} {
			read, err := ParseNotation(text)
			if err != nil {
				t.Fatalf("%x is written as %s: %v", body, text, err)
			}
			if got, err := diagnoser.Diagnose(read); err != nil || got != want {
				t.Fatalf("%x is written as %s, and %x as %s, %v", body, want, read, got, err)
			}
		}
	})
}

// Whatever text is read is CBOR, whose notation says the same.
func FuzzNotationThatIsReadIsCBOR(f *testing.F) {
	for _, seed := range []string{`{"By": h'00'}`, "[_ 1.5_1, (_ \"a\", \"b\")]", "1(-12)", "simple(0)", "\"\\ud83d\\ude00\"", "''_", "100000000000000000000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body, err := ParseNotation(text)
		if err != nil {
			return
		}
		if err := cbor.Wellformed(body); err != nil && !strings.Contains(err.Error(), "nested") {
			t.Fatalf("%q is read as %x: %v", text, body, err)
		}
		written, err := diagnoser.Diagnose(body)
		if err != nil {
			return // a tag with what it cannot have
		}
		again, err := ParseNotation(written)
		if err != nil {
			t.Fatalf("%q is written as %s: %v", text, written, err)
		}
		if rewritten, err := diagnoser.Diagnose(again); err != nil || rewritten != written {
			t.Fatalf("%q is written as %s, and then as %s, %v", text, written, rewritten, err)
		}
	})
}

package display

import (
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

func TestWhateverCBORSaysIsShown(t *testing.T) {
	huge := new(big.Int).Lsh(big.NewInt(1), 70)
	for _, c := range []struct {
		name  string
		value any
		want  string
	}{
		{"nothing", nil, `null`},
		{"the largest number", uint64(math.MaxUint64), `18446744073709551615`},
		{"a number beyond 64 bits", *huge, `1180591620717411303424`},
		{"no number", math.NaN(), `"NaN"`},
		{"infinity", math.Inf(-1), `"-Inf"`},
		{"bytes", []byte{1, 2, 3}, `"AQID"`},
		{"text with what HTML would escape", "<a&b>", `"<a&b>"`},
		{"text that is no UTF-8", "a\xffb", `{"text that is no UTF-8":"Yf9i"}`},
		{"keys that are numbers", map[int]string{-1: "a", 2: "b"}, `{"-1":"a","2":"b"}`},
		{"keys that are arrays", map[[2]int]bool{{1, 2}: true}, ``},
		{"a time", time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), `"2026-01-02T03:04:05.000000006Z"`},
		{"a tag of somebody else's", cbor.Tag{Number: 4711, Content: "x"}, `{"content":"x","tag":4711}`},
		{"nested", map[string]any{"l": []any{1, map[string]any{}, []any{}}}, `{"l":[1,{},[]]}`},
	} {
		mode, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano, TimeTag: cbor.EncTagRequired}.EncMode()
		must(t, err)
		body, err := mode.Marshal(c.value)
		must(t, err)
		v, raw := Readable(body)
		if c.want == "" {
			if raw == nil {
				t.Errorf("%s: its bytes are not shown, but %v", c.name, v)
			}
			continue
		}
		if got := Compact(v); got != c.want || raw != nil {
			t.Errorf("%s: %s and %x, want %s", c.name, got, raw, c.want)
		}
	}
}

func TestAnEditedBodyKeepsTheTypesOfTheOldOne(t *testing.T) {
	type body struct {
		Bytes  []byte
		Time   time.Time
		Text   string
		Number float64
		Huge   uint64
		List   [][]byte
		ByID   map[int64]string
	}
	old := body{
		Bytes: []byte{1}, Time: time.Unix(0, 0).UTC(), Text: "AQ==", Number: 1.5, List: [][]byte{{1}},
		ByID: map[int64]string{7: "a"},
	}
	was, err := encoder.Marshal(old)
	must(t, err)
	edited := `{"Bytes":"AgM=","Time":"2026-01-02T03:04:05.000000006Z","Text":"AgM=","Number":2,"Huge":18446744073709551615,
		"List":["AQ==","AgM="],"ByID":{"7":"b","8":"c"}}`
	now, err := Encode([]byte(edited), was)
	must(t, err)
	var got body
	must(t, cbor.Unmarshal(now, &got))
	want := body{
		Bytes: []byte{2, 3}, Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Text: "AgM=", Number: 2, Huge: math.MaxUint64,
		List: [][]byte{{1}, {2, 3}}, ByID: map[int64]string{7: "b", 8: "c"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, wrong := range []string{`{"Bytes":"not base64"}`, `{"Time":"noon"}`, `{`, `{} {}`, ``} {
		if _, err := Encode([]byte(wrong), was); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}

func TestRubbishIsShownAsItsBytes(t *testing.T) {
	for _, body := range [][]byte{{}, {0xff}, {0x82, 0x01}, []byte("hello, world")} {
		v, raw := Readable(body)
		if v != nil || raw == nil {
			t.Errorf("%x is shown as %v", body, v)
		}
	}
}

func TestALongTextIsCutBetweenCharacters(t *testing.T) {
	if got := Shorten(strings.Repeat("ä", 10), 4); got != "äää…" {
		t.Error(got)
	}
	if got := Shorten("four", 4); got != "four" {
		t.Error(got)
	}
}

// Text that is no UTF-8 keeps its bytes when what is shown is edited and sent again.
func TestTextThatIsNoUTF8ComesBack(t *testing.T) {
	body, err := encoder.Marshal(map[string]string{"text": "a\xffb", "plain": "c"})
	must(t, err)
	v, raw := Readable(body)
	if raw != nil {
		t.Fatalf("%x", raw)
	}
	again, err := Encode([]byte(Compact(v)), body)
	must(t, err)
	var back map[string]string
	if err := decoder.Unmarshal(again, &back); err != nil || back["text"] != "a\xffb" || back["plain"] != "c" {
		t.Errorf("%q, %v", back, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

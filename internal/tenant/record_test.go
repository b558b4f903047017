package tenant

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/internal/wire"
)

// A record that is written around a value is what the encoder of all others would have made of it, and it is read as it
// was, also around the deepest value.
func TestRecordsAroundValuesAreReadAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func() string {
			return rapid.SampledFrom([]string{"", "a", "\xff\x00", string(make([]byte, 300))}).Draw(t, "text")
		}
		body := rapid.SampledFrom([][]byte{
			{0x07}, {0xf6}, append(bytes.Repeat([]byte{0x81}, wire.MaxNesting-1), 0x80), {0x9f, 0xff}, {0x61, 0xff},
		}).Draw(t, "body")
		e := Envelope{
			Edit: text(), Name: text(), Body: body, From: text(), Sent: rapid.Int64().Draw(t, "sent"), Once: text(), Word: text(), Timer: text(), Set: text(),
		}
		if rapid.Bool().Draw(t, "headed") { // with one: the encoder of all others has no order of keys
			e.Head = Headers{rapid.SampledFrom([]string{"a", "ü"}).Draw(t, "key"): text()}
		}
		same(t, e, new(Envelope))
		m := Mail{Call: rapid.Uint64().Draw(t, "call")}
		if rapid.Bool().Draw(t, "answered") {
			m.Body = body
		} else {
			m.Err = &Error{Code: text(), Text: text()}
		}
		same(t, m, new(Mail))
		r := OnceRecord{
			Word: text(), Until: int64(m.Call), Waited: rapid.Bool().Draw(t, "waited"), Later: rapid.Bool().Draw(t, "later"),
			Done: rapid.Bool().Draw(t, "done"), Body: m.Body, Err: m.Err,
		}
		if rapid.Bool().Draw(t, "sum") {
			r.Sum = []byte{1, 2, 3}
		}
		same(t, r, new(OnceRecord))
	})
}

// A field that is added to one of these records has to be written, too: the values above must have all.
func TestRecordsAroundValuesAreWrittenWhole(t *testing.T) {
	for record, n := range map[appender]int{&Envelope{}: 10, &Mail{}: 3, &OnceRecord{}: 8} {
		if got := reflect.TypeOf(record).Elem().NumField(); got != n {
			t.Errorf("%T has %d fields: add the new one to its encode, to the test above, and here", record, got)
		}
	}
}

func same(t *rapid.T, record appender, into any) {
	b := record.Encode()
	if want, err := wire.EncodeRecord(record); err != nil || !bytes.Equal(b, want) {
		t.Fatalf("%+v is written as %x, not %x, %v", record, b, want, err)
	}
	if err := DecodeRecord(b, into); err != nil || !reflect.DeepEqual(reflect.ValueOf(into).Elem().Interface(), record) {
		t.Fatalf("%+v came back as %+v, %v", record, into, err)
	}
}

// Nothing that stands in a record as a value makes one that cannot be written.
func TestRecordsAreWrittenAroundWhateverIsThere(t *testing.T) {
	for _, body := range [][]byte{nil, {0xc0, 0x01}, {0x1c}, {0x81}, bytes.Repeat([]byte{0x81}, 70_000)} {
		if len(EncodeRecord(Envelope{Name: "a", Body: body})) == 0 || len(EncodeRecord(Mail{Body: body})) == 0 {
			t.Errorf("%x has no record", body)
		}
	}
}

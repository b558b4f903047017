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

// Answers to a process come as they were, in few items, none of which takes more than its share; and one by one to a process of
// before there were bundles. One that cannot be read takes no other with it.
func TestAnswersAreBundled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var letters []Mail
		for range rapid.IntRange(1, 40).Draw(t, "letters") {
			size := rapid.SampledFrom([]int{0, 1, 300, bundleBytes / 3, bundleBytes, 5 * bundleBytes}).Draw(t, "size")
			body := wire.AppendBytes(nil, make([]byte, size))
			if rapid.IntRange(0, 5).Draw(t, "damaged") == 0 {
				body = []byte{0x1c}
			}
			letters = append(letters, Mail{Call: rapid.Uint64Min(1).Draw(t, "call"), Body: body})
		}
		if items := bundled("ABC", letters); len(items) != len(letters) {
			t.Errorf("%d items for %d answers to a process that reads no bundles", len(items), len(letters))
		}
		items := bundled(NewProcessID(), letters)
		var got [][]byte
		for i, item := range items {
			in := Unbundle(item)
			if len(in) > 1 && len(item) > bundleBytes+8*len(in) {
				t.Errorf("%d bytes in an item of %d", len(item), len(in))
			}
			if i > 0 && len(items[i-1])+len(in[0]) < bundleBytes/2 {
				t.Errorf("an item of %d bytes, and behind it one of %d", len(items[i-1]), len(in[0]))
			}
			got = append(got, in...)
		}
		if len(got) != len(letters) {
			t.Fatalf("%d of %d answers", len(got), len(letters))
		}
		for i, m := range letters {
			if !bytes.Equal(got[i], m.Encode()) {
				t.Errorf("answer %d is %x", i, got[i])
			}
		}
	})
	for _, damaged := range [][]byte{nil, {0x80}, {0x82}, {0x81, 0x00}, {0x9f}} {
		if in := Unbundle(damaged); len(in) != 1 || !bytes.Equal(in[0], damaged) {
			t.Errorf("%x is %x", damaged, in)
		}
	}
}

package tenant

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/wire"
)

// Records are what the library stores around messages and replies, in CBOR. Those that hold a value of the program's
// write it as it is: a record is never the place where a value turns out to be wrong.

// appender is a record that holds a value.
type appender interface{ Encode() []byte }

// EncodeRecord encodes one of the library's own records, which cannot fail.
func EncodeRecord(record any) []byte {
	if r, ok := record.(appender); ok {
		return r.Encode()
	}
	b, err := wire.EncodeRecord(record)
	if err != nil {
		panic("dserver: encode a record: " + err.Error()) // of plain fields, so it is a mistake in this package
	}
	return b
}

// DecodeRecord reads one of the library's own records. Its error is backend.ErrCorrupt.
func DecodeRecord(value []byte, into any) error {
	if err := wire.DecodeRecord(value, into); err != nil {
		return fmt.Errorf("%w: %w", backend.ErrCorrupt, err)
	}
	return nil
}

// appendText writes a field of a record that is left out when it is empty.
func appendText(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	return wire.AppendText(wire.AppendText(b, name), text)
}

// appendIf writes a field of a record that is left out when it is false.
func appendIf(b []byte, name string, is bool) []byte {
	if !is {
		return b
	}
	return wire.AppendBool(wire.AppendText(b, name), true)
}

// appendBody and appendError are the answer of a record.
func appendBody(b, body []byte) []byte {
	if len(body) == 0 {
		return b
	}
	return append(wire.AppendText(b, "body"), body...)
}

func appendError(b []byte, e *Error) []byte {
	if e == nil {
		return b
	}
	b = wire.AppendMap(wire.AppendText(b, "error"), 1+count(e.Code != ""))
	return wire.AppendText(wire.AppendText(appendText(b, "code", e.Code), "text"), e.Text)
}

// count is how many of the fields are there.
func count(are ...bool) (n int) {
	for _, is := range are {
		if is {
			n++
		}
	}
	return n
}

package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// Copy returns a copy of CBOR that was encoded elsewhere, or why it is no value: not one item and no more, deeper than a
// value may be, or with a tag whose content is of another kind than the tag says, which no reader takes.
func Copy(data []byte) ([]byte, error) {
	if err := values.Wellformed(data); err != nil {
		return nil, err
	}
	b, err := messages.Marshal(cbor.RawMessage(data))
	if err != nil {
		return nil, fmt.Errorf("a tag and its content: %w", err)
	}
	return b, nil
}

// The functions below write records around values without looking at them: a record is written
// whatever a value is.

// AppendMap begins a map of n pairs, of fewer than 24.
func AppendMap(b []byte, n int) []byte { return append(b, 0xa0|byte(n)) }

// AppendText writes a text.
func AppendText(b []byte, s string) []byte { return append(AppendHead(b, 0x60, uint64(len(s))), s...) }

// AppendBytes writes bytes.
func AppendBytes(b, bytes []byte) []byte {
	return append(AppendHead(b, 0x40, uint64(len(bytes))), bytes...)
}

// AppendInt writes a number.
func AppendInt(b []byte, n int64) []byte {
	if n < 0 {
		return AppendHead(b, 0x20, uint64(-(n + 1)))
	}
	return AppendHead(b, 0, uint64(n))
}

// AppendUint writes a number.
func AppendUint(b []byte, n uint64) []byte { return AppendHead(b, 0, n) }

// AppendBool writes true or false.
func AppendBool(b []byte, is bool) []byte {
	if is {
		return append(b, 0xf5)
	}
	return append(b, 0xf4)
}

// AppendValue writes a value that is encoded; null when there is none.
func AppendValue(b, value []byte) []byte {
	if len(value) == 0 {
		return append(b, 0xf6)
	}
	return append(b, value...)
}

// AppendHead writes the shortest head of an item; its first three bits are those of major.
func AppendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

// Package chunk cuts values that are larger than a store takes into rows, and puts them together again. The queue, the
// replies and the state use this one mechanism.
//
// A value of up to Bytes is one row and stays as it is, so that it can be read in the store's own tools. A larger one
// begins with a header: a CBOR tag that nothing else here uses and the number of rows.
package chunk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// Bytes is the most that a row holds. It leaves room below the stores' limit of 100,000.
	Bytes = 64 << 10

	// MaxBytes is the largest value that may be cut: 4 MiB of a user's, and what the library writes around it.
	MaxBytes = 4<<20 + 128<<10

	headerBytes = 9
)

// magic is the head of CBOR tag 0x44534348 ("DSCH"), in which no value begins that our encoder wrote.
var magic = []byte{0xda, 'D', 'S', 'C', 'H'}

var errHeader = errors.New("chunk: a damaged header")

// Split returns the rows of value, at least one. They may share value's memory.
func Split(value []byte) ([][]byte, error) {
	if len(value) > MaxBytes {
		return nil, fmt.Errorf("a value of %d bytes; at most %d", len(value), MaxBytes)
	}
	if len(value) <= Bytes && !bytes.HasPrefix(value, magic) {
		return [][]byte{value}, nil
	}
	count := 1 + (len(value)-min(len(value), Bytes-headerBytes)+Bytes-1)/Bytes
	first := binary.BigEndian.AppendUint32(bytes.Clone(magic), uint32(count))
	cut := min(len(value), Bytes-headerBytes)
	rows := append(make([][]byte, 0, count), append(first, value[:cut]...))
	for rest := value[cut:]; len(rest) > 0; {
		n := min(len(rest), Bytes)
		rows, rest = append(rows, rest[:n:n]), rest[n:]
	}
	return rows, nil
}

// Count returns how many rows the value has whose first row this is.
func Count(first []byte) (int, error) {
	if !bytes.HasPrefix(first, magic) {
		return 1, nil
	}
	if len(first) < headerBytes {
		return 0, errHeader
	}
	count := binary.BigEndian.Uint32(first[len(magic):])
	if count == 0 || count > MaxBytes/Bytes+2 {
		return 0, errHeader
	}
	return int(count), nil
}

// Join is the inverse of Split. A single row is returned as it is, not copied.
func Join(rows [][]byte) ([]byte, error) {
	if len(rows) == 0 {
		return nil, errors.New("chunk: no rows")
	}
	count, err := Count(rows[0])
	if err != nil {
		return nil, err
	}
	if count != len(rows) {
		return nil, fmt.Errorf("chunk: %d rows of %d", len(rows), count)
	}
	if !bytes.HasPrefix(rows[0], magic) {
		return rows[0], nil
	}
	return append(bytes.Clone(rows[0][headerBytes:]), bytes.Join(rows[1:], nil)...), nil
}

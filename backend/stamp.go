package backend

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/dserver-go/dserver/internal/tuple"
)

// stampBytes is what a versionstamp takes as an element of a key.
const stampBytes = 1 + tuple.StampSize

// Versionstamp names a place in the commit order: ten bytes for the commit and two for the Append within it.
// Later commits have larger ones, whichever process made them. The zero value is before all of them.
type Versionstamp tuple.Stamp

// NewVersionstamp makes the stamp of the Append number order in the commit number sequence, for stores that count
// their commits.
func NewVersionstamp(sequence uint64, order uint16) Versionstamp {
	var v Versionstamp
	binary.BigEndian.PutUint64(v[:8], sequence)
	return v.WithOrder(order)
}

// ParseVersionstamp reads what String returns.
func ParseVersionstamp(s string) (Versionstamp, error) {
	var v Versionstamp
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(v) {
		return v, fmt.Errorf("backend: %q is not a versionstamp: %d hexadecimal digits are", s, 2*len(v))
	}
	return Versionstamp(b), nil
}

// Plus returns the stamp of Append number i, counted from 0, of the transaction whose Version is v.
func (v Versionstamp) Plus(i int) Versionstamp { return v.WithOrder(v.Order() + uint16(i)) }

// WithOrder returns the stamp of this order in the same commit.
func (v Versionstamp) WithOrder(order uint16) Versionstamp {
	binary.BigEndian.PutUint16(v[10:], order)
	return v
}

// Order is the place within the commit: the number of an Append, counted through all transactions that a store has
// committed as one.
func (v Versionstamp) Order() uint16 { return binary.BigEndian.Uint16(v[10:]) }

// Sequence is the number that NewVersionstamp was given.
func (v Versionstamp) Sequence() uint64 { return binary.BigEndian.Uint64(v[:8]) }

// Compare is negative when v is before u.
func (v Versionstamp) Compare(u Versionstamp) int { return bytes.Compare(v[:], u[:]) }

// IsZero reports whether v is the zero value, which no commit has.
func (v Versionstamp) IsZero() bool { return v == Versionstamp{} }

// String returns v in hexadecimal digits, whose order is that of the stamps.
func (v Versionstamp) String() string { return hex.EncodeToString(v[:]) }

// StampOf reads a value that Stamp wrote. An absent one is the zero stamp.
func StampOf(value []byte) (Versionstamp, error) {
	switch len(value) {
	case 0:
		return Versionstamp{}, nil
	case tuple.StampSize:
		return Versionstamp(value), nil
	}
	return Versionstamp{}, fmt.Errorf("%w: a versionstamp of %d bytes", ErrCorrupt, len(value))
}

// Counter reads a value that Add wrote: eight bytes, little-endian. An absent one is 0.
func Counter(value []byte) (int64, error) {
	switch len(value) {
	case 0:
		return 0, nil
	case 8:
		return int64(binary.LittleEndian.Uint64(value)), nil
	}
	return 0, fmt.Errorf("%w: a counter of %d bytes", ErrCorrupt, len(value))
}

// CounterValue is the value of a counter at n.
func CounterValue(n int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }

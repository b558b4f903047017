package statediff

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
)

// label says where an item of a list stands: a larger one stands later. It is a fraction between 0 and 1 of 128 bits.
type label struct{ hi, lo uint64 }

// labelHead is the head of an empty CBOR byte string; the length is added.
const labelHead = 0x40

// labelBytes is the most that a label takes beside its head. Those of ordinary lists take 3 or 4 bytes.
const labelBytes = 16

// append appends the CBOR of the label: its bytes without the zeros at their end.
func (l label) append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, labelHead)
	dst = binary.BigEndian.AppendUint64(dst, l.hi)
	dst = binary.BigEndian.AppendUint64(dst, l.lo)
	for dst[len(dst)-1] == 0 {
		dst = dst[:len(dst)-1]
	}
	dst[at] += byte(len(dst) - at - 1)
	return dst
}

func parseLabel(value string) (l label, ok bool) {
	n := len(value) - 1
	if n < 1 || n > labelBytes || value[0] != labelHead+byte(n) {
		return label{}, false
	}
	for i := range n {
		word := &l.hi
		if i >= 8 {
			word = &l.lo
		}
		*word |= uint64(value[1+i]) << (56 - i%8*8)
	}
	return l, true
}

func (l label) compare(m label) int {
	return cmp.Or(cmp.Compare(l.hi, m.hi), cmp.Compare(l.lo, m.lo))
}

func (l label) plus(m label) label {
	lo, carry := bits.Add64(l.lo, m.lo, 0)
	hi, _ := bits.Add64(l.hi, m.hi, carry)
	return label{hi, lo}
}

func (l label) minus(m label) label {
	lo, borrow := bits.Sub64(l.lo, m.lo, 0)
	hi, _ := bits.Sub64(l.hi, m.hi, borrow)
	return label{hi, lo}
}

func (l label) times(n uint64) label {
	high, lo := bits.Mul64(l.lo, n)
	return label{l.hi*n + high, lo}
}

func (l label) over(n uint64) label {
	hi, rest := l.hi/n, l.hi%n
	lo, _ := bits.Div64(rest, l.lo, n)
	return label{hi, lo}
}

// round cuts the label down to a power of two, which makes those that are computed from it short.
func (l label) round() label {
	if l.hi != 0 {
		return label{1 << (bits.Len64(l.hi) - 1), 0}
	}
	if l.lo != 0 {
		return label{0, 1 << (bits.Len64(l.lo) - 1)}
	}
	return l
}

func (l label) min(m label) label {
	if l.compare(m) < 0 {
		return l
	}
	return m
}

// labelEnd is larger than any label that is given.
func labelEnd() label { return label{math.MaxUint64, math.MaxUint64} }

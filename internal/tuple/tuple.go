// Package tuple is the plain part of FoundationDB's tuple layer: it turns short lists of values into bytes whose
// lexical order is the order of the values, element by element.
//
// The encoding is specified in FoundationDB's design/tuple.md. Apple's own Go package does the same but needs the
// client library to link, so a program on SQLite could not use it; under the build tag fdb a test compares the two
// byte for byte. Elements are nil, []byte, string, int64, uint64, float64, bool, Stamp (a versionstamp) and nested tuples.
package tuple

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Type codes of the encoding. An integer of n bytes has the code zero + n, a negative one zero - n.
const (
	codeNil    = 0x00
	codeBytes  = 0x01
	codeString = 0x02
	codeNested = 0x05
	codeZero   = 0x14
	codeFloat  = 0x21
	codeFalse  = 0x26
	codeTrue   = 0x27
	codeStamp  = 0x33

	escape = 0xff // follows a zero byte that belongs to the value
)

// StampSize is the length of a versionstamp: ten bytes of commit order and two within the transaction.
const StampSize = 12

// Stamp is a complete versionstamp.
type Stamp = [StampSize]byte

// Tuple is a list of elements.
type Tuple []any

// AppendString appends s as a text element.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, codeString)
	for i := 0; i < len(s); i++ {
		dst = append(dst, s[i])
		if s[i] == 0 {
			dst = append(dst, escape)
		}
	}
	return append(dst, 0)
}

// AppendBytes appends b as a byte element.
func AppendBytes(dst, b []byte) []byte {
	dst = append(dst, codeBytes)
	for _, c := range b {
		dst = append(dst, c)
		if c == 0 {
			dst = append(dst, escape)
		}
	}
	return append(dst, 0)
}

// AppendInt appends i as an integer element.
func AppendInt(dst []byte, i int64) []byte {
	if i >= 0 {
		return AppendUint(dst, uint64(i))
	}
	magnitude := -uint64(i)
	n := (bits.Len64(magnitude) + 7) / 8
	return appendBigEndian(append(dst, codeZero-byte(n)), ^magnitude, n)
}

// AppendUint appends u as an integer element. Signed and unsigned integers share one order.
func AppendUint(dst []byte, u uint64) []byte {
	n := (bits.Len64(u) + 7) / 8
	return appendBigEndian(append(dst, codeZero+byte(n)), u, n)
}

func appendBigEndian(dst []byte, u uint64, n int) []byte {
	for shift := (n - 1) * 8; shift >= 0; shift -= 8 {
		dst = append(dst, byte(u>>shift))
	}
	return dst
}

// AppendFloat appends f as a double-precision element.
func AppendFloat(dst []byte, f float64) []byte {
	u := math.Float64bits(f)
	if u>>63 == 1 {
		u = ^u
	} else {
		u ^= 1 << 63
	}
	return binary.BigEndian.AppendUint64(append(dst, codeFloat), u)
}

// AppendBool appends b.
func AppendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, codeTrue)
	}
	return append(dst, codeFalse)
}

// AppendStamp appends a complete versionstamp.
func AppendStamp(dst []byte, s Stamp) []byte {
	return append(append(dst, codeStamp), s[:]...)
}

// Append appends elements of any of the supported types; int and []any are taken too.
// It panics on another type: that is a mistake of the program.
func Append(dst []byte, elements ...any) []byte {
	for _, e := range elements {
		dst = appendElement(dst, e)
	}
	return dst
}

func appendElement(dst []byte, e any) []byte {
	switch e := e.(type) {
	case nil:
		return append(dst, codeNil)
	case []byte:
		return AppendBytes(dst, e)
	case string:
		return AppendString(dst, e)
	case int:
		return AppendInt(dst, int64(e))
	case int64:
		return AppendInt(dst, e)
	case uint64:
		return AppendUint(dst, e)
	case float64:
		return AppendFloat(dst, e)
	case bool:
		return AppendBool(dst, e)
	case Stamp:
		return AppendStamp(dst, e)
	case Tuple:
		return appendNested(dst, e)
	}
	panic(fmt.Sprintf("tuple: an element of type %T cannot be encoded", e))
}

func appendNested(dst []byte, t Tuple) []byte {
	dst = append(dst, codeNested)
	for _, e := range t {
		dst = appendElement(dst, e)
		if e == nil {
			dst = append(dst, escape)
		}
	}
	return append(dst, 0)
}

var errTruncated = errors.New("tuple: the encoding ends in the middle of an element")

// Decode returns the elements that b encodes. Integers are int64 where they fit and uint64 above.
func Decode(b []byte) (Tuple, error) {
	var t Tuple
	for len(b) > 0 {
		e, rest, err := Next(b)
		if err != nil {
			return nil, err
		}
		t, b = append(t, e), rest
	}
	return t, nil
}

// Next decodes the first element of b and returns what follows it.
func Next(b []byte) (element any, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, errTruncated
	}
	code, body := b[0], b[1:]
	switch {
	case code == codeNil:
		return nil, body, nil
	case code == codeBytes:
		return decodeBytes(body)
	case code == codeString:
		v, rest, err := decodeBytes(body)
		return string(v), rest, err
	case code == codeNested:
		return decodeNested(body)
	case code >= codeZero-8 && code <= codeZero+8:
		return decodeInt(int(code)-codeZero, body)
	case code == codeFloat && len(body) >= 8:
		return decodeFloat(body), body[8:], nil
	case code == codeFalse || code == codeTrue:
		return code == codeTrue, body, nil
	case code == codeStamp && len(body) >= StampSize:
		return Stamp(body[:StampSize]), body[StampSize:], nil
	case code == codeFloat || code == codeStamp:
		return nil, nil, errTruncated
	}
	return nil, nil, fmt.Errorf("tuple: unknown type code %#x", code)
}

func decodeBytes(b []byte) (value, rest []byte, err error) {
	value = []byte{}
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return nil, nil, errTruncated
		}
		value = append(value, b[:i]...)
		if i+1 == len(b) || b[i+1] != escape {
			return value, b[i+1:], nil
		}
		value, b = append(value, 0), b[i+2:]
	}
}

func decodeNested(b []byte) (any, []byte, error) {
	t := Tuple{}
	for len(b) > 0 {
		switch {
		case b[0] != codeNil:
			e, rest, err := Next(b)
			if err != nil {
				return nil, nil, err
			}
			t, b = append(t, e), rest
		case len(b) > 1 && b[1] == escape:
			t, b = append(t, nil), b[2:]
		default:
			return t, b[1:], nil
		}
	}
	return nil, nil, errTruncated
}

func decodeInt(n int, b []byte) (any, []byte, error) {
	negative := n < 0
	if negative {
		n = -n
	}
	if len(b) < n {
		return nil, nil, errTruncated
	}
	var u uint64
	for _, c := range b[:n] {
		u = u<<8 | uint64(c)
	}
	if !negative && u > math.MaxInt64 {
		return u, b[n:], nil
	}
	if negative {
		mask := uint64(math.MaxUint64) >> (64 - 8*n)
		magnitude := mask - u
		if magnitude > 1<<63 {
			return nil, nil, errors.New("tuple: an integer below the smallest int64")
		}
		return int64(-magnitude), b[n:], nil
	}
	return int64(u), b[n:], nil
}

func decodeFloat(b []byte) float64 {
	u := binary.BigEndian.Uint64(b)
	if u>>63 == 1 {
		u ^= 1 << 63
	} else {
		u = ^u
	}
	return math.Float64frombits(u)
}

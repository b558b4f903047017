package backend

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/dserver-go/dserver/internal/tuple"
)

// Key is a key: a tuple in the encoding of FoundationDB's tuple layer, so that its other layers and fdbcli can read it.
// Keys are compared as bytes, which is the order of their elements. Methods that extend a key copy it.
type Key []byte

// NewKey encodes elements: nil, []byte, string, int, int64, uint64, float64, bool, Versionstamp. It panics on others.
func NewKey(elements ...any) Key { return Key(nil).With(elements...) }

// With returns k with further elements.
func (k Key) With(elements ...any) Key {
	k = k.clip()
	for _, e := range elements {
		if v, ok := e.(Versionstamp); ok {
			e = tuple.Stamp(v)
		}
		k = tuple.Append(k, e)
	}
	return k
}

// Str returns k with text elements.
func (k Key) Str(elements ...string) Key {
	n := 0
	for _, s := range elements {
		n += len(s) + 2
	}
	k = k.room(n)
	for _, s := range elements {
		k = tuple.AppendString(k, s)
	}
	return k
}

// Int returns k with an integer element.
func (k Key) Int(i int64) Key { return tuple.AppendInt(k.room(9), i) }

// Stamp returns k with a versionstamp: the key that Append made of k.
func (k Key) Stamp(v Versionstamp) Key { return tuple.AppendStamp(k.room(stampBytes), tuple.Stamp(v)) }

// Join returns k followed by a key that was encoded on its own.
func (k Key) Join(suffix Key) Key { return append(k.room(len(suffix)), suffix...) }

func (k Key) clip() Key { return k[:len(k):len(k)] }

func (k Key) room(n int) Key { return append(make(Key, 0, len(k)+n), k...) }

// Elements decodes k: integers are int64, or uint64 above its range. A key that is no tuple is ErrCorrupt.
func (k Key) Elements() ([]any, error) {
	elements, err := tuple.Decode(k)
	if err != nil {
		return nil, fmt.Errorf("%w: key %x: %w", ErrCorrupt, []byte(k), err)
	}
	for i, e := range elements {
		if s, ok := e.(tuple.Stamp); ok {
			elements[i] = Versionstamp(s)
		}
	}
	return elements, nil
}

// CutPrefix returns what follows prefix in k.
func (k Key) CutPrefix(prefix Key) (Key, bool) {
	rest, ok := bytes.CutPrefix(k, prefix)
	return rest, ok
}

// CutStamp returns the stamp of a key that Append made of prefix.
func (k Key) CutStamp(prefix Key) (Versionstamp, bool) {
	rest, ok := k.CutPrefix(prefix)
	if !ok || len(rest) != stampBytes {
		return Versionstamp{}, false
	}
	e, _, err := tuple.Next(rest)
	stamp, ok := e.(tuple.Stamp)
	return Versionstamp(stamp), ok && err == nil
}

// Compare is negative when k is before o.
func (k Key) Compare(o Key) int { return bytes.Compare(k, o) }

// String shows the elements, for people: ("s", 7, #0000…).
func (k Key) String() string {
	elements, err := k.Elements()
	if err != nil {
		return fmt.Sprintf("%q", []byte(k))
	}
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = elementString(e)
	}
	return "(" + strings.Join(words, ", ") + ")"
}

func elementString(e any) string {
	switch e := e.(type) {
	case string:
		return strconv.Quote(e)
	case []byte:
		return fmt.Sprintf("x%x", e)
	case Versionstamp:
		return "#" + e.String()
	}
	return fmt.Sprint(e)
}

// Range is the keys from Begin up to and not including End.
type Range struct{ Begin, End Key }

// No element begins with 0xff, so k + 0xff is after every key that begins with the elements of k.
const afterElements = 0xff

// Only is the range of k alone.
func (k Key) Only() Range { return Range{k, append(k.clip(), 0)} }

// Below is the range of the keys that begin with the elements of k and have more.
func (k Key) Below() Range { return Range{append(k.clip(), 0), append(k.clip(), afterElements)} }

// Tree is the range of k and all keys below it.
func (k Key) Tree() Range { return Range{k, append(k.clip(), afterElements)} }

// After is the range of the keys after k and what is below k, up to the end of r.
func (r Range) After(k Key) Range { return Range{append(k.clip(), afterElements), r.End} }

// Contains reports whether k is in r.
func (r Range) Contains(k Key) bool { return r.Begin.Compare(k) <= 0 && k.Compare(r.End) < 0 }

// IsEmpty reports whether r contains no key.
func (r Range) IsEmpty() bool { return r.Begin.Compare(r.End) >= 0 }

// String shows both ends.
func (r Range) String() string { return "[" + r.Begin.String() + ", " + r.End.String() + ")" }

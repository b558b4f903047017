package statediff

import (
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/dserver-go/dserver/internal/chunk"
)

// Decode reads rows into the value that ptr points to and overwrites all of it: fields without a row are zero, maps are
// never nil, rows under names that the type does not have are ignored. It fails when a row cannot be read into its
// field, or the field's rows have another shape than it has now: such a change of type needs a conversion.
func (s *Schema) Decode(r *Rows, ptr any) error {
	v, err := s.value(ptr)
	if err != nil {
		return err
	}
	v.SetZero()
	s.fill.fill(v)
	if len(r.list) == 0 {
		return nil
	}
	d := &decoder{typ: s.typ, list: r.list, buf: make([]byte, 0, 64)}
	return s.root.decode(d, group{hi: len(r.list)}, v)
}

// decoder is the work of one Decode.
type decoder struct {
	typ  reflect.Type // for errors
	list []row
	buf  []byte
}

// group is the rows from lo up to hi, which have the first klen bytes of their keys in common: one key and all below it.
type group struct{ lo, hi, klen int }

func (d *decoder) key(g group) string { return d.list[g.lo].key()[:g.klen] }

// element returns the last tuple element of the key of a group within another one.
func (d *decoder) element(g, outer group) string { return d.key(g)[outer.klen:] }

func (d *decoder) fail(g group, err error) error {
	return placed(d.typ, d.key(g), err)
}

// own returns the value at the key of the group, put together when it is large, and the rows that remain without that
// of its place in a list. It is nil when there is none, and is valid until the next call.
func (d *decoder) own(g group) (value []byte, rest group, err error) {
	if g.lo == g.hi || d.list[g.lo].keyLen() != g.klen {
		return nil, g, nil
	}
	d.buf = append(d.buf[:0], d.list[g.lo].value()...)
	rest = group{g.lo + 1, g.hi, g.klen}
	if rest.lo < g.hi && d.list[rest.lo].key()[g.klen:] == orderElement {
		rest.lo++
	}
	if !mayBeFirstPart(d.buf) {
		return d.buf, rest, nil
	}
	value, err = d.join(g, &rest)
	if err != nil {
		return nil, rest, d.fail(g, err)
	}
	return value, rest, nil
}

// join puts the large value together whose first row is in d.buf, and takes its other rows from the rest.
func (d *decoder) join(g group, rest *group) ([]byte, error) {
	count, err := chunk.Count(d.buf)
	if err != nil {
		return nil, err
	}
	parts := [][]byte{d.buf}
	for i := 1; i < count; i++ {
		if rest.lo == rest.hi || d.list[rest.lo].key()[g.klen:] != string(appendPart(nil, i)) {
			return nil, fmt.Errorf("row %d of %d of a large value is missing", i+1, count)
		}
		parts = append(parts, []byte(d.list[rest.lo].value()))
		rest.lo++
	}
	return chunk.Join(parts)
}

// groups yields the groups of rows that share the next element. Rows whose key cannot be read come alone.
func (d *decoder) groups(g group) iter.Seq[group] {
	return func(yield func(group) bool) {
		for lo := g.lo; lo < g.hi; {
			key := d.list[lo].key()
			below := group{lo, lo + 1, g.klen + elementLen(key[g.klen:])}
			for below.klen > g.klen && below.hi < g.hi && isBelow(d.list[below.hi].key(), key[:below.klen]) {
				below.hi++
			}
			if below.klen == g.klen {
				below.klen = len(key)
			}
			if !yield(below) {
				return
			}
			lo = below.hi
		}
	}
}

// count returns the number of groups, the room that a map or list needs.
func (d *decoder) count(g group) (n int) {
	for range d.groups(g) {
		n++
	}
	return n
}

// isRubbish recognizes a key that is not a tuple.
func isRubbish(element string) bool {
	return element == "" || elementLen(element) != len(element) || strings.HasPrefix(element, "\xff")
}

package statediff

import (
	"fmt"
	"iter"
	"strings"

	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/internal/tuple"
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
	d := &decoder{schema: s, list: r.list}
	return s.root.decode(d, group{hi: len(r.list)}, v)
}

// decoder is the work of one Decode.
type decoder struct {
	schema *Schema
	list   []row
	buf    []byte
}

// group is the rows from lo up to hi, which have the first klen bytes of their keys in common: one key and all below it.
type group struct{ lo, hi, klen int }

func (d *decoder) key(g group) string { return d.list[g.lo].key()[:g.klen] }

// element returns the last tuple element of the key of a group within another one.
func (d *decoder) element(g, outer group) string { return d.key(g)[outer.klen:] }

func (d *decoder) fail(g group, err error) error {
	return fmt.Errorf("statediff: %v: %s: %w", d.schema.typ, Path(d.key(g)), err)
}

// own returns the value at the key of the group, put together when it is large, and the rows that remain. It is nil
// when there is none, and is valid until the next call.
func (d *decoder) own(g group) (value []byte, rest group, err error) {
	first := &d.list[g.lo]
	if int(first.klen) != g.klen {
		return nil, g, nil
	}
	d.buf = append(d.buf[:0], first.value()...)
	rest = group{g.lo + 1, g.hi, g.klen}
	if len(d.buf) == 0 || d.buf[0] != cborTag4 {
		return d.buf, rest, nil
	}
	count, err := chunk.Count(d.buf)
	if err != nil || count > g.hi-g.lo {
		return nil, rest, d.fail(g, fmt.Errorf("a large value without its rows"))
	}
	parts := [][]byte{d.buf}
	for i := 1; i < count; i++ {
		r := &d.list[g.lo+i]
		if r.key()[g.klen:] != string(tuple.AppendUint(nil, uint64(i))) {
			return nil, rest, d.fail(g, fmt.Errorf("a large value without row %d", i))
		}
		parts = append(parts, []byte(r.value()))
	}
	value, err = chunk.Join(parts)
	if err != nil {
		return nil, rest, d.fail(g, err)
	}
	return value, group{g.lo + count, g.hi, g.klen}, nil
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

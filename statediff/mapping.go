package statediff

import (
	"hash/maphash"
	"reflect"
)

// mapping stores a map: a key per entry, below the map's own.
type mapping struct {
	typ   reflect.Type
	key   *key
	entry node
	slot  int

	leaf *entity // the entry, where it is one row and keys have a sum; else nil
	sum  summer  // of a key
}

func (c *compiler) mapping(t reflect.Type, k *key) (node, error) {
	entry, err := c.entry(t.Elem())
	if err != nil {
		return nil, err
	}
	m := &mapping{typ: t, key: k, entry: entry, slot: c.slot()}
	if e, isEntity := entry.(*entity); isEntity && e.inner == nil && e.children == nil && !k.own {
		if m.sum = summerFor(t.Key()); m.sum != nil {
			m.leaf = e
		}
	}
	return m, nil
}

func (m *mapping) diff(d *differ, v reflect.Value) error {
	if v.Len() == 0 {
		return nil
	}
	s := &d.scratch[m.slot]
	if !s.key.IsValid() {
		s.key, s.elem = reflect.New(m.typ.Key()).Elem(), reflect.New(m.typ.Elem()).Elem()
	}
	s.iter.Reset(v)
	defer func() {
		s.iter.Reset(reflect.Value{})
		s.key.SetZero()
		s.elem.SetZero()
	}()
	knows, place := m.leaf != nil && d.knows(m.leaf), maphash.Bytes(sumSeed, d.path)
	for at := len(d.path); s.iter.Next(); d.path, d.hash = d.path[:at], 0 {
		s.key.SetIterKey(&s.iter)
		s.elem.SetIterValue(&s.iter)
		if knows {
			d.hash = m.sum(place, s.key)
			if i, known := d.isKnown(m.leaf, s.elem); known {
				d.meet(i) // without its path
				continue
			}
		}
		path, err := m.key.encode(d.path, s.key)
		if err != nil {
			return d.fail(err)
		}
		d.path = path
		if m.key.own {
			if err := m.key.comesBack(string(path[at:]), s.key, true); err != nil {
				return d.fail(err)
			}
		}
		if err := m.entry.diff(d, s.elem); err != nil {
			return err
		}
	}
	return nil
}

func (m *mapping) decode(d *decoder, g group, v reflect.Value) error {
	data, rest, err := d.own(g)
	if err != nil {
		return err
	}
	if data != nil && !isMarker(data) {
		return d.fail(g, errKind)
	}
	v.Set(reflect.MakeMapWithSize(m.typ, d.count(rest)))
	key, elem := reflect.New(m.typ.Key()).Elem(), reflect.New(m.typ.Elem()).Elem()
	for below := range d.groups(rest) {
		if d.element(below, g) == countElement {
			continue // the map was a tracked one
		}
		if err := m.key.decode(d.element(below, g), key); err != nil {
			return d.fail(below, err)
		}
		elem.SetZero()
		if err := m.entry.decode(d, below, elem); err != nil {
			return err
		}
		v.SetMapIndex(key, elem)
	}
	return nil
}

func (m *mapping) child(string) (node, bool) { return m.entry, true }
func (m *mapping) owns() bool                { return false }

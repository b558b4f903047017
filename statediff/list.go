package statediff

import (
	"errors"
	"reflect"
	"slices"
)

// list stores a slice of structs that have an id: a key per item, named by its id, and below it a key for the item's
// place in the order.
type list struct {
	typ     reflect.Type
	id      []int // the field
	key     *key
	item    node
	pointer bool // the items are pointers
}

// orderElement is the tuple element, nil, of an item's place. It sorts right behind the item itself.
const orderElement = "\x00"

// hasID tells whether the struct has a field that is tagged as its id.
func hasID(t reflect.Type) bool {
	return anyField(t, func(f reflect.StructField, g tag) bool {
		return g.id || f.Anonymous && g.name == "" && f.Type.Kind() == reflect.Struct && hasID(f.Type)
	})
}

func (c *compiler) list(t, item reflect.Type) (node, error) {
	l := &list{typ: t, pointer: t.Elem().Kind() == reflect.Pointer}
	fields, _, err := c.fields(item)
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		if !f.tag.id {
			continue
		}
		if l.key != nil {
			return nil, c.refuse("two fields of %v are tagged as its id", item)
		}
		if l.id, l.key = f.index, keyFor(f.typ); l.key == nil {
			return nil, c.refuse("the id of %v is a %v; it must be a string or an integer", item, f.typ)
		}
	}
	l.item, err = c.entry(t.Elem())
	return l, err
}

var errNilItem = errors.New("an item of the list is nil")

func (l *list) idOf(v reflect.Value) reflect.Value {
	if l.pointer {
		v = v.Elem()
	}
	return v.FieldByIndex(l.id)
}

func (l *list) diff(d *differ, v reflect.Value) error {
	n, at, base := v.Len(), len(d.path), len(d.places)
	d.places = slices.Grow(d.places, n)[:base+n]
	defer func() { d.path, d.places = d.path[:at], d.places[:base] }()
	ordered, last := true, label{}
	for i := range n {
		d.path = d.path[:at]
		if err := l.diffItem(d, v.Index(i)); err != nil {
			return err
		}
		p := d.place()
		d.places[base+i] = p // by number, as lists within the item may have moved the slice
		ordered = ordered && p.labeled && p.label.compare(last) > 0
		last = p.label
	}
	if ordered {
		return nil
	}
	places := d.places[base:]
	arrange(places)
	return l.setPlaces(d, v, places, at)
}

func (l *list) diffItem(d *differ, v reflect.Value) error {
	if l.pointer && v.IsNil() {
		return d.fail(errNilItem)
	}
	at := len(d.path)
	path, err := l.key.encode(d.path, l.idOf(v))
	if err == nil && l.key.own {
		err = l.key.comesBack(string(path[at:]), l.idOf(v), false)
	}
	if err != nil {
		return d.fail(err)
	}
	d.path = path
	return l.item.diff(d, v)
}

// place returns the committed place of the item at d.path.
func (d *differ) place() place {
	d.path = append(d.path, orderElement...)
	i, found := d.find()
	if !found {
		return place{}
	}
	d.meet(i)
	return parsePlace(d.rows.list[i].value())
}

func (l *list) setPlaces(d *differ, v reflect.Value, places []place, at int) error {
	for i, p := range places {
		if !p.changed {
			continue
		}
		path, err := l.key.encode(d.path[:at], l.idOf(v.Index(i)))
		if err != nil {
			return d.fail(err)
		}
		path = append(path, orderElement...)
		d.path = path
		d.buf.Reset()
		d.buf.Write(p.label.append(d.buf.AvailableBuffer()))
		if err := d.set(string(d.path), d.buf.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) decode(d *decoder, g group, v reflect.Value) error {
	data, rest, err := d.own(g)
	if err != nil {
		return err
	}
	if data != nil && !isMarker(data) {
		return d.fail(g, errKind)
	}
	items := d.items(rest)
	if len(items) == 0 {
		return nil
	}
	v.Set(reflect.MakeSlice(l.typ, len(items), len(items)))
	for i, it := range items {
		if err := l.decodeItem(d, it.group, d.element(it.group, g), v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

func (l *list) decodeItem(d *decoder, g group, element string, v reflect.Value) error {
	if err := l.item.decode(d, g, v); err != nil {
		return err
	}
	if l.pointer && v.IsNil() {
		return d.fail(g, errNilItem)
	}
	// The key is what the row is found by, so it is the id, whatever the item says.
	if err := l.key.decode(element, l.idOf(v)); err != nil {
		return d.fail(g, err)
	}
	return nil
}

// listed is the rows of an item of a list and its place.
type listed struct {
	group group
	place place
}

// items returns the items of a list in their order. Items without a place come last: their rows were a map's.
func (d *decoder) items(g group) []listed {
	items := make([]listed, 0, d.count(g))
	for below := range d.groups(g) {
		it := listed{group: below}
		if next := below.lo + 1; next < below.hi && d.list[next].key()[below.klen:] == orderElement {
			it.place = parsePlace(d.list[next].value())
		}
		items = append(items, it)
	}
	slices.SortStableFunc(items, func(a, b listed) int { return a.place.compare(b.place) })
	return items
}

func (l *list) child(string) (node, bool) { return l.item, true }
func (l *list) owns() bool                { return false }

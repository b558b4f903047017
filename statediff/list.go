package statediff

import (
	"errors"
	"reflect"

	"github.com/dserver-go/dserver/internal/tuple"
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

func isID(_ reflect.StructField, g tag) bool { return g.id }

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
	return errors.New("not yet")
}

func (l *list) decode(d *decoder, g group, v reflect.Value) error {
	return errors.New("not yet")
}

func (l *list) child(string) (node, bool) { return l.item, true }
func (l *list) owns() bool                { return false }

type label struct{}

var _ = tuple.AppendUint

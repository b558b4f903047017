package statediff

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// presence says when an entity has its row.
type presence uint8

const (
	nonZero presence = iota // when its value is not zero: fields
	nonNil                  // when the pointer is not nil
	always                  // entries of maps and items of lists: the row says that they exist
)

// entity stores a value in at most three parts: a row at its own key, the fields of a struct below it, or the entries
// of a map or list below it. A number has the row alone; a struct field has the fields alone; an entry of a map, a
// struct that holds lists itself, has a row for its plain fields and the lists below.
type entity struct {
	row      *whole // nil when there is no own row
	sum      summer // of what is in the row; nil: none
	presence presence
	zero     []byte // the row that is not written, when presence is nonZero
	pointer  bool   // the value is a pointer to what has the children
	open     bool   // a struct: it ignores what is below it under other names
	children []child
	inner    node     // the map or list
	fill     filler   // of what has the children
	inRow    []string // the tuple elements of the fields that are in the row
}

// child is a field with a key of its own.
type child struct {
	element string // the field's name as a tuple element
	index   []int
	node    node
}

func (c *child) of(v reflect.Value) reflect.Value {
	if len(c.index) == 1 {
		return v.Field(c.index[0])
	}
	return v.FieldByIndex(c.index)
}

func (e *entity) diff(d *differ, v reflect.Value) error {
	if e.row != nil {
		if e.presence == nonNil && v.IsNil() {
			return nil
		}
		if err := e.diffRow(d, v); err != nil {
			return err
		}
	}
	if e.pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if e.inner != nil {
		return e.inner.diff(d, v)
	}
	at := len(d.path)
	for i := range e.children {
		c := &e.children[i]
		d.path = append(d.path[:at], c.element...)
		if err := c.node.diff(d, c.of(v)); err != nil {
			return err
		}
	}
	d.path = d.path[:at]
	return nil
}

func (e *entity) decode(d *decoder, g group, v reflect.Value) error {
	data, rest, err := d.own(g)
	if err != nil {
		return err
	}
	if e.row == nil && data != nil && !isMarker(data) || e.presence == always && data == nil {
		return d.fail(g, errKind)
	}
	if e.pointer {
		if e.presence == always && isNull(data) {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	e.fill.fill(v)
	if e.row != nil && data != nil {
		if err := e.row.decode(data, v); err != nil {
			return d.fail(g, err)
		}
	}
	if e.inner != nil {
		return e.inner.decode(d, rest, v)
	}
	return e.decodeChildren(d, rest, v)
}

// errKind is reported, and nothing is dropped, when a field's rows are there in another shape.
var errKind = fmt.Errorf("stored as another kind of value than the type has now")

func (e *entity) decodeChildren(d *decoder, g group, v reflect.Value) error {
	for below := range d.groups(g) {
		element := d.element(below, g)
		n, known := e.child(element)
		switch {
		case n != nil:
			if err := n.decode(d, below, e.field(element).of(v)); err != nil {
				return err
			}
		case known:
			return d.fail(g, errKind)
		}
	}
	return nil
}

func (e *entity) field(element string) *child {
	i, found := slices.BinarySearchFunc(e.children, element, func(c child, element string) int {
		return strings.Compare(c.element, element)
	})
	if !found {
		return nil
	}
	return &e.children[i]
}

func (e *entity) child(element string) (node, bool) {
	if e.inner != nil {
		return e.inner.child(element)
	}
	if c := e.field(element); c != nil {
		return c.node, true
	}
	return nil, !e.open || element == "" || element[0] != codeString || slices.Contains(e.inRow, element)
}

// isLeaf tells whether there can be nothing below the row but rows of the same value.
func (e *entity) isLeaf() bool { return e.presence == nonZero && e.inner == nil && !e.open }

func (e *entity) owns() bool { return e.row != nil }

func isNull(data []byte) bool { return len(data) == 1 && data[0] == cborNull }

// isMarker recognizes an empty map or list, the row that only says that there is something below it.
func isMarker(data []byte) bool {
	return len(data) == 1 && (data[0] == 0xa0 || data[0] == 0x80)
}

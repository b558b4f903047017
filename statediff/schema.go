package statediff

import (
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
)

// Schema is how values of one Go type become rows. It is immutable and safe for concurrent use.
type Schema struct {
	typ      reflect.Type
	serial   uint32 // no other schema of the process has it, and it is not 0
	codec    codec
	root     node
	fill     filler
	slots    int        // of scratch space that a differ needs
	trackeds []*tracked // in the order of their keys
	differs  sync.Pool
}

// serials numbers the schemas, for what Rows remember of one. (A pointer would make the rows of small states larger.)
var serials atomic.Uint32

// node is a part of the schema: how the values at one place are stored.
type node interface {
	// diff hands the rows of v, which is addressable, to d; d.path is the key of v.
	diff(d *differ, v reflect.Value) error

	// decode reads the rows of g into v, which is addressable and zero.
	decode(d *decoder, g group, v reflect.Value) error

	// child returns the node for the rows below this one under a tuple element. With known false they belong to nothing
	// that this schema knows, with a nil node they must not be there.
	child(element string) (n node, known bool)

	// owns tells whether the node has a row at its own key, which says that all below it exists.
	owns() bool
}

// For returns the schema of a type. It refuses types whose values cannot be read back, with the path of the field and
// the reason: interfaces, channels, functions, unexported fields without the tag `dserver:"-"`, locks, names or ids that
// are not unique, a Map or List in one value.
func For(t reflect.Type) (*Schema, error) {
	if t == nil {
		return nil, fmt.Errorf("statediff: no type")
	}
	codec := newCodec()
	c := &compiler{codec: codec, path: []string{t.String()}, fixed: true}
	root, err := c.node(t, tag{})
	if err != nil {
		return nil, err
	}
	sortTracked(c.trackeds)
	s := &Schema{typ: t, serial: serials.Add(1), codec: codec, root: root, fill: fillerFor(t), slots: c.slots, trackeds: c.trackeds}
	s.differs.New = func() any { return newDiffer(s) }
	return s, nil
}

// New returns a pointer to a value that is zero, but for its maps, which are empty and not nil.
func (s *Schema) New() reflect.Value {
	v := reflect.New(s.typ)
	s.fill.fill(v.Elem())
	return v
}

// Fill makes the nil maps of what ptr points to empty, as New and Decode do, but for those in entries of maps.
func (s *Schema) Fill(ptr any) error {
	v, err := s.value(ptr)
	if err == nil {
		s.fill.fill(v)
	}
	return err
}

// value returns what ptr, a pointer to a value of the schema's type, points to.
func (s *Schema) value(ptr any) (reflect.Value, error) {
	v := reflect.ValueOf(ptr)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type().Elem() != s.typ {
		return reflect.Value{}, fmt.Errorf("statediff: a pointer to %v is needed, not %T", s.typ, ptr)
	}
	return v.Elem(), nil
}

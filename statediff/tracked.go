package statediff

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// Loader reads committed rows for the tracked collections of a state, as of one snapshot: the turn's. Keys are relative
// to the state's root. It is called while a handler runs and remembers its own errors: a collection that could not be
// read looks empty to the handler, whose outcome then means nothing, and Diff returns the error.
type Loader interface {
	// Get returns the value of a row, nil when there is none.
	Get(key string) ([]byte, error)

	// Scan returns rows with begin <= key < end in the order of keys, or with reverse the last ones first; at most limit
	// of them, with 0 all.
	Scan(begin, end string, limit int, reverse bool) ([]Row, error)
}

// Row is a row as a Loader returns it.
type Row struct {
	Key   string
	Value []byte
}

// Range is the keys from Begin up to, without, End.
type Range struct{ Begin, End string }

// collection is a Map or a List.
type collection interface {
	types() (key, value reflect.Type) // a List has no key type
	bind(b *binding)
	diff(d *differ, n *tracked) error
	fill(d *decoder, n *tracked, g group) error
}

// tracked stores a Map or a List. Its rows are like those of a plain map; beside them is the number of entries, at the
// tuple element nil.
type tracked struct {
	prefix string // the collection's key
	index  []int  // of the field, from the root
	entry  node
}

const countElement = orderElement

// binding is what a collection needs to load its entries.
type binding struct {
	schema *Schema
	node   *tracked
	loader Loader
}

func isTracked(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[collection]())
}

func (c *compiler) tracked(t reflect.Type) (node, error) {
	if !c.fixed {
		return nil, c.refuse("%v may only be a field of the state, or of structs within it, not of entries or behind pointers", t)
	}
	key, value := reflect.New(t).Interface().(collection).types()
	if key != nil && keyFor(key) == nil {
		return nil, c.refuse("the keys are %v; they must be strings or integers", key)
	}
	entry, err := c.entry(value)
	if err != nil {
		return nil, err
	}
	n := &tracked{prefix: string(c.key), index: slices.Clone(c.index), entry: entry}
	c.trackeds = append(c.trackeds, n)
	return n, nil
}

func (n *tracked) of(v reflect.Value) collection {
	return v.Addr().Interface().(collection)
}

func (n *tracked) diff(d *differ, v reflect.Value) error { return n.of(v).diff(d, n) }

func (n *tracked) decode(d *decoder, g group, v reflect.Value) error {
	return n.of(v).fill(d, n, g)
}

func (n *tracked) child(element string) (node, bool) {
	if element == countElement {
		return nil, true
	}
	return n.entry, true
}

func (n *tracked) owns() bool { return false }

// Bind makes the tracked collections of the value that ptr points to load their entries from l, and forget what they
// held. A turn binds a state after it was decoded or made, before the handlers see it. A value that was never bound has
// all entries in memory, as tests of handlers want it.
func (s *Schema) Bind(ptr any, l Loader) error {
	if len(s.trackeds) == 0 {
		return nil
	}
	v, err := s.value(ptr)
	if err != nil {
		return err
	}
	for _, n := range s.trackeds {
		n.of(v.FieldByIndex(n.index)).bind(&binding{s, n, l})
	}
	return nil
}

// Tracks tells whether the type has tracked collections, whose values need Bind.
func (s *Schema) Tracks() bool { return len(s.trackeds) > 0 }

// Ranges returns the keys that a state's rows are to be loaded from: all but those of tracked collections.
func (s *Schema) Ranges() []Range {
	var list []Range
	begin := ""
	for _, n := range s.trackeds {
		list = append(list, Range{begin, n.prefix})
		begin = n.prefix + string([]byte{below})
	}
	return append(list, Range{begin, string([]byte{below})})
}

// holdsTracked tells whether a tracked collection is at the key or below it.
func (s *Schema) holdsTracked(key string) bool {
	return slices.ContainsFunc(s.trackeds, func(n *tracked) bool { return isBelow(n.prefix, key) })
}

func sortTracked(list []*tracked) {
	slices.SortFunc(list, func(a, b *tracked) int { return cmp.Compare(a.prefix, b.prefix) })
}

// get reads one row of a collection.
func (b *binding) get(key string) ([]byte, error) {
	value, err := b.loader.Get(key)
	if err != nil {
		return nil, b.fail(key, err)
	}
	return value, nil
}

func (b *binding) scan(begin, end string, limit int, reverse bool) ([]Row, error) {
	rows, err := b.loader.Scan(begin, end, limit, reverse)
	if err != nil {
		return nil, b.fail(b.node.prefix, err)
	}
	return rows, nil
}

func (b *binding) fail(key string, err error) error {
	return placed(b.schema.typ, key, fmt.Errorf("load: %w", err))
}

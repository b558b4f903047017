package statediff

import (
	"fmt"
	"iter"
	"reflect"
)

// Map is a map for states whose entries are too many to be loaded and compared for each message: it loads an entry when
// it is asked for and stores those that changed. Its zero value is empty and ready to use. It is a field of the state, or
// of a struct within it, and must not be copied.
//
// Keys are strings, integers or types that marshal themselves to text. In the store its rows are like a plain map's, so
// that a field may be changed from one to the other.
//
// When the store cannot be read, an entry seems absent. The turn fails then, whatever the handler did.
type Map[K comparable, V any] struct {
	t   *tracker[V]
	key *key
}

func (m *Map[K, V]) tracker() *tracker[V] {
	if m.t == nil {
		m.t = newTracker[V](nil)
	}
	if m.key == nil {
		m.key = keyFor(reflect.TypeFor[K]())
	}
	return m.t
}

// element returns the tuple element of a key.
func (m *Map[K, V]) element(k K) string {
	t := m.tracker()
	if m.key == nil {
		t.fail(fmt.Errorf("statediff: a key of a Map cannot be a %T", k))
		return ""
	}
	element, err := m.key.encode(nil, reflect.ValueOf(&k).Elem())
	if err != nil {
		t.fail(fmt.Errorf("statediff: the key %v of a Map: %w", k, err))
	}
	return string(element)
}

// Get returns the value of an entry, and whether there is one. What the value points to may be changed in place; to
// change the value itself, Set it.
func (m *Map[K, V]) Get(k K) (v V, found bool) {
	if p := m.tracker().get(m.element(k)); p != nil {
		return *p, true
	}
	return v, false
}

// Set sets an entry.
func (m *Map[K, V]) Set(k K, v V) {
	element := m.element(k)
	if m.key != nil && m.key.own && m.t.err == nil {
		m.checkKey(element, k)
	}
	m.tracker().set(element, v)
}

func (m *Map[K, V]) checkKey(element string, k K) {
	if err := m.key.comesBack(element, reflect.ValueOf(&k).Elem(), false); err != nil {
		m.t.fail(fmt.Errorf("statediff: the key %v of a Map: %w", k, err))
	}
}

// Delete removes an entry and reports whether it was there.
func (m *Map[K, V]) Delete(k K) bool { return m.tracker().remove(m.element(k)) }

// Len is the number of entries. It is stored, not counted.
func (m *Map[K, V]) Len() int { return int(m.tracker().length()) }

// All yields the entries in the order of their keys: strings by their bytes, integers by value. It loads a page at a
// time. Entries may be set and deleted meanwhile: the loop sees it when they are yet to come.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.walk(lowerEnd, yield) }
}

// From is All from the first key on that is not less than k.
func (m *Map[K, V]) From(k K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.walk(m.element(k), yield) }
}

func (m *Map[K, V]) walk(from string, yield func(K, V) bool) {
	t := m.tracker()
	for element, v := range t.between(from, upperEnd, false) {
		var k K
		if err := m.key.decode(element, reflect.ValueOf(&k).Elem()); err != nil {
			t.fail(err)
			return
		}
		if !yield(k, *v) {
			return
		}
	}
}

func (m *Map[K, V]) types() (key, value reflect.Type) {
	return reflect.TypeFor[K](), reflect.TypeFor[V]()
}

func (m *Map[K, V]) bind(b *binding) { m.t = newTracker[V](b) }

func (m *Map[K, V]) diff(d *differ, n *tracked) error { return m.t.diff(d, n) }

func (m *Map[K, V]) fill(d *decoder, n *tracked, g group) error { return m.tracker().fill(d, n, g) }

package statediff

import (
	"encoding/binary"
	"encoding/hex"
	"iter"
	"reflect"
	"slices"
	"strings"

	"github.com/dserver-go/dserver/internal/tuple"
)

// List is a list for states whose items are too many to be loaded and compared for each message: it loads an item when it
// is asked for and stores those that changed. Its zero value is empty and ready to use. It is a field of the state, or of
// a struct within it, and must not be copied.
//
// An item is found by its Place. When the store cannot be read, an item seems absent. The turn fails then, whatever the
// handler did.
type List[V any] struct{ t *tracker[V] }

// Place names an item of a List: it is plain data, and larger for items that stand later. It stays the same until the item
// is moved; only when some 40 items in a row are inserted at one spot, items around them can get new places. "" is none.
type Place string

func (l *List[V]) tracker() *tracker[V] {
	if l.t == nil {
		l.t = newTracker[V](nil)
	}
	return l.t
}

func (p Place) element() string { return string(tuple.AppendString(nil, string(p))) }

// placeOf is the inverse of element for places that were given by a List: they have no zero bytes.
func placeOf(element string) Place { return Place(element[1 : len(element)-1]) }

// place returns the place of a label: its bytes in hexadecimal without the zeros at their end, which keeps the order.
func (l label) place() Place {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, l.hi), l.lo)
	return Place(strings.TrimRight(hex.EncodeToString(b), "0"))
}

func (p Place) label() (label, bool) {
	if p == "" || len(p) > 2*labelBytes {
		return label{}, false
	}
	b, err := hex.DecodeString(string(p) + strings.Repeat("0", 2*labelBytes-len(p)))
	if err != nil {
		return label{}, false
	}
	l := label{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
	return l, l.place() == p
}

// Get returns an item, and whether there is one. What it points to may be changed in place; to change it itself, Set it.
func (l *List[V]) Get(at Place) (v V, found bool) {
	if p := l.tracker().get(at.element()); p != nil {
		return *p, true
	}
	return v, false
}

// Set replaces an item and reports whether it was there.
func (l *List[V]) Set(at Place, v V) bool {
	t := l.tracker()
	if t.get(at.element()) == nil {
		return false
	}
	t.set(at.element(), v)
	return true
}

// Delete removes an item and reports whether it was there.
func (l *List[V]) Delete(at Place) bool { return l.tracker().remove(at.element()) }

// Len is the number of items. It is stored, not counted.
func (l *List[V]) Len() int { return int(l.tracker().length()) }

// All yields the items in order, from the place on, "" from the first. It loads a page at a time. Items may be changed
// meanwhile: the loop sees it when they are yet to come.
func (l *List[V]) All(from Place) iter.Seq2[Place, V] {
	return l.walk(max(lowerEnd, from.element()), upperEnd, false)
}

// Backward yields the items ahead of the place, "" all, the last one first.
func (l *List[V]) Backward(before Place) iter.Seq2[Place, V] {
	return l.walk(lowerEnd, before.end(), true)
}

// end is the element that ends what is ahead of the place.
func (p Place) end() string {
	if p == "" {
		return upperEnd
	}
	return p.element()
}

func (l *List[V]) walk(lo, hi string, reverse bool) iter.Seq2[Place, V] {
	return func(yield func(Place, V) bool) {
		for element, v := range l.tracker().between(lo, hi, reverse) {
			if !yield(placeOf(element), *v) {
				return
			}
		}
	}
}

// Append adds an item behind all others and returns its place.
func (l *List[V]) Append(v V) Place { return l.add("", v) }

// Insert adds an item ahead of another one, with "" behind all, and returns its place. It reports false when there is no
// item at the place before.
func (l *List[V]) Insert(before Place, v V) (Place, bool) {
	if before != "" && l.tracker().get(before.element()) == nil {
		return "", false
	}
	place := l.add(before, v)
	return place, place != ""
}

// Move puts an item ahead of another one, with "" behind all, and returns its new place. It reports false when one of the
// two is not there.
func (l *List[V]) Move(at, before Place) (Place, bool) {
	t := l.tracker()
	v := t.get(at.element())
	if v == nil || before != "" && t.get(before.element()) == nil {
		return "", false
	}
	if at == before {
		return at, true
	}
	from := t.committedAt(at.element())
	t.remove(at.element())
	place := l.add(before, *v)
	t.separate(place.element(), from)
	return place, place != ""
}

// add gives an item a place between two neighbours.
func (l *List[V]) add(before Place, v V) Place {
	t := l.tracker()
	for around := 1; t.err == nil; around *= 2 {
		places, at, whole := l.around(before, around)
		if old := slices.Clone(places); makeRoom(places, at, whole) {
			l.relabel(old, places, at)
			place := places[at].label.place()
			t.set(place.element(), v)
			return place
		}
	}
	return ""
}

// ends tells on which sides a window reaches the end of the list.
type ends struct{ left, right bool }

// around returns up to n labeled places on both sides of where an item is added, and its own one at index at.
func (l *List[V]) around(before Place, n int) (places []place, at int, whole ends) {
	whole.left = l.take(&places, lowerEnd, before.end(), n, true)
	slices.Reverse(places)
	at = len(places)
	places = append(places, place{})
	if before == "" {
		return places, at, ends{whole.left, true}
	}
	whole.right = l.take(&places, before.element(), upperEnd, n, false)
	return places, at, whole
}

// take appends up to n places and reports whether there are no more.
func (l *List[V]) take(places *[]place, lo, hi string, n int, reverse bool) (all bool) {
	for p := range l.walk(lo, hi, reverse) {
		if n == 0 {
			return false
		}
		label, ok := p.label()
		if !ok {
			l.t.fail(errKind)
		}
		*places = append(*places, place{label: label, labeled: true})
		n--
	}
	return true
}

// makeRoom labels the new place. It reports false when that takes a change beyond the window.
func makeRoom(places []place, at int, whole ends) bool {
	space(places, at-1, nextLabeled(places, at))
	last := len(places) - 1
	if at > 0 && places[0].changed && !whole.left || at < last && places[last].changed && !whole.right {
		return false
	}
	return (whole.left || at > 0) && (whole.right || at < last)
}

// relabel gives items that had to make room their new places. All leave their old ones first, as these may be among the new.
func (l *List[V]) relabel(old, places []place, at int) {
	type moved struct {
		to    Place
		from  string // where it was committed
		value V
	}
	var items []moved
	for i, p := range places {
		from := old[i].label.place().element()
		if v := l.t.get(from); i != at && p.changed && v != nil {
			items = append(items, moved{p.label.place(), l.t.committedAt(from), *v})
			l.t.remove(from)
		}
	}
	for _, m := range items {
		l.t.set(m.to.element(), m.value)
		l.t.separate(m.to.element(), m.from)
	}
}

func (l *List[V]) types() (key, value reflect.Type) { return nil, reflect.TypeFor[V]() }

func (l *List[V]) bind(b *binding) { l.t = newTracker[V](b) }

func (l *List[V]) diff(d *differ, n *tracked) error { return l.t.diff(d, n) }

func (l *List[V]) fill(d *decoder, n *tracked, g group) error { return l.tracker().fill(d, n, g) }

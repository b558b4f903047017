package statediff

import (
	"iter"
	"reflect"
	"slices"
	"time"
)

// tracker is what Map and List have in common. It holds the entries that were touched, by the tuple element of their
// key, with the rows that they had; Diff compares just these. Entries that were not touched stay in the store.
type tracker[V any] struct {
	bound   *binding          // nil when all entries are in memory
	touched map[string]*V     // nil pointers are entries that are not there
	order   []string          // the keys of touched, sorted
	rows    *Rows             // the committed rows of what was touched
	apart   map[string]string // entries that are others than the rows at their key; from where they were moved, or ""
	count   int64
	counted bool // count is known
	err     error

	shares bool // a copy of a value shares something with it that can be changed
}

func newTracker[V any](b *binding) *tracker[V] {
	return &tracker[V]{
		bound: b, touched: map[string]*V{}, rows: NewRows(), counted: b == nil,
		shares: hasReferences(reflect.TypeFor[V]()),
	}
}

func (t *tracker[V]) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// get returns the entry, nil when there is none. A change of what it points to is a change of the entry.
func (t *tracker[V]) get(element string) *V {
	if v, found := t.touched[element]; found || t.bound == nil {
		return v
	}
	e, err := t.bound.fetch(element)
	if err != nil {
		t.fail(err)
		return nil
	}
	return t.adopt(e)
}

// adopt touches an entry that was fetched.
func (t *tracker[V]) adopt(e fetched) *V {
	v, err := t.decode(e)
	if err != nil {
		t.fail(err)
		return nil
	}
	for _, r := range e.rows {
		t.rows.set(r)
	}
	t.touch(e.element, v)
	return v
}

func (t *tracker[V]) decode(e fetched) (*V, error) {
	if len(e.rows) == 0 {
		return nil, nil
	}
	v, n := new(V), t.bound.node
	d := &decoder{typ: t.bound.schema.typ, list: e.rows, buf: make([]byte, 0, 64)}
	return v, n.entry.decode(d, group{0, len(e.rows), len(n.prefix) + len(e.element)}, reflect.ValueOf(v).Elem())
}

func (t *tracker[V]) touch(element string, v *V) {
	if _, found := t.touched[element]; !found {
		i, _ := slices.BinarySearch(t.order, element)
		t.order = slices.Insert(t.order, i, element)
	}
	t.touched[element] = v
}

func (t *tracker[V]) set(element string, v V) {
	if t.get(element) == nil {
		t.length()
		t.count++
	}
	t.touch(element, &v)
}

// remove reports whether the entry was there.
func (t *tracker[V]) remove(element string) bool {
	if t.get(element) == nil {
		return false
	}
	t.length()
	t.count--
	t.touch(element, nil)
	t.separate(element, "")
	return true
}

// separate notes that what is at a key from now on is another entry than the committed one: a new one, or one that was
// committed elsewhere. What this program does not know of an entry goes with it, and nowhere else.
func (t *tracker[V]) separate(element, from string) {
	if from == element {
		delete(t.apart, element)
		return
	}
	if t.apart == nil {
		t.apart = map[string]string{}
	}
	t.apart[element] = from
}

// committedAt is where the entry was committed that is at a key now; "" for a new one.
func (t *tracker[V]) committedAt(element string) string {
	if from, isApart := t.apart[element]; isApart {
		return from
	}
	return element
}

// length returns the number of entries. It is stored; the entries are counted only when they were a plain map's before.
func (t *tracker[V]) length() int64 {
	if t.counted || t.err != nil {
		return t.count
	}
	b := t.bound
	key := b.node.prefix + countElement
	data, err := b.get(key)
	switch {
	case err != nil:
		t.fail(err)
	case data != nil:
		t.rows.Set(key, data)
		if err := b.schema.codec.dec.Unmarshal(data, &t.count); err != nil {
			t.fail(placed(b.schema.typ, key, err))
		}
	default:
		for p := b.pages("", upperEnd, false); p.next(); {
			t.count++
		}
	}
	t.counted = true
	return t.count
}

// upperEnd is greater than any tuple element, lowerEnd not greater than that of any entry.
const (
	upperEnd = "\xff"
	lowerEnd = "\x01"
)

// between yields the entries with lo <= element < hi, in order or backwards, the touched ones as they are now.
func (t *tracker[V]) between(lo, hi string, reverse bool) iter.Seq2[string, *V] {
	return func(yield func(string, *V) bool) {
		var stored pages
		if t.bound != nil {
			stored = t.bound.pages(lo, hi, reverse)
		}
		more := stored.next()
		for {
			element, found := t.nextTouched(lo, hi, reverse)
			switch {
			case more && (!found || ahead(stored.entry.element, element, reverse)):
				element = stored.entry.element
				if !t.yieldStored(stored.entry, yield) {
					t.fail(stored.err)
					return
				}
				more = stored.next()
			case found:
				if more && stored.entry.element == element {
					more = stored.next()
				}
				if v := t.touched[element]; v != nil && !yield(element, v) {
					t.fail(stored.err)
					return
				}
			default:
				t.fail(stored.err)
				return
			}
			lo, hi = beyond(element, lo, hi, reverse)
		}
	}
}

func ahead(a, b string, reverse bool) bool {
	if reverse {
		return a > b
	}
	return a < b
}

// beyond narrows the bounds to what comes after an element.
func beyond(element, lo, hi string, reverse bool) (string, string) {
	if reverse {
		return lo, element
	}
	return element + "\x00", hi
}

func (t *tracker[V]) nextTouched(lo, hi string, reverse bool) (string, bool) {
	if reverse {
		i, _ := slices.BinarySearch(t.order, hi)
		if i--; i < 0 || t.order[i] < lo {
			return "", false
		}
		return t.order[i], true
	}
	i, _ := slices.BinarySearch(t.order, lo)
	if i == len(t.order) || t.order[i] >= hi {
		return "", false
	}
	return t.order[i], true
}

// yieldStored yields an entry without keeping it, unless the loop's body changes it in place.
func (t *tracker[V]) yieldStored(e fetched, yield func(string, *V) bool) bool {
	v, err := t.decode(e)
	if err != nil {
		t.fail(err)
		return false
	}
	goOn := yield(e.element, v)
	if _, found := t.touched[e.element]; found || !t.shares {
		return goOn
	}
	if t.isChanged(e, v) {
		for _, r := range e.rows {
			t.rows.set(r)
		}
		t.touch(e.element, v)
	}
	return goOn
}

func (t *tracker[V]) isChanged(e fetched, v *V) bool {
	d := t.bound.schema.differs.Get().(*differ)
	defer d.release()
	d.begin(&Rows{list: e.rows})
	d.path = append(append(d.path, t.bound.node.prefix...), e.element...)
	if err := t.bound.node.entry.diff(d, reflect.ValueOf(v).Elem()); err != nil {
		t.fail(err)
	}
	return len(d.sets) > 0 || d.met < len(e.rows)
}

// hasReferences tells whether a copy of a value shares something with it that can be changed.
func hasReferences(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return true
	case reflect.Array:
		return hasReferences(t.Elem())
	case reflect.Struct:
		return t != reflect.TypeFor[time.Time]() &&
			anyField(t, func(f reflect.StructField, g tag) bool { return !g.skip && hasReferences(f.Type) })
	}
	return false
}

// diff hands what changed to d. Of a value that was never bound everything is new, or was loaded with the state.
func (t *tracker[V]) diff(d *differ, n *tracked) error {
	if t == nil {
		return nil
	}
	if t.err != nil {
		return t.err
	}
	if t.bound == nil {
		d.path = append(d.path[:0], n.prefix...)
		return t.diffEntries(d, n)
	}
	d.meetTree(n.prefix)
	if len(t.order) == 0 {
		return nil
	}
	part := d.schema.differs.Get().(*differ)
	defer part.release()
	part.begin(t.rows)
	part.path = append(part.path, n.prefix...)
	if err := t.diffEntries(part, n); err != nil {
		return err
	}
	if err := part.finish(); err != nil {
		return err
	}
	d.cleared, d.sets = appendAside(d.cleared, part.cleared), appendAside(d.sets, part.sets)
	return nil
}

func appendAside(edits, more []Edit) []Edit {
	for _, e := range more {
		e.aside = true
		edits = append(edits, e)
	}
	return edits
}

func (t *tracker[V]) diffEntries(d *differ, n *tracked) error {
	at := len(d.path)
	if t.counted && t.count != 0 {
		d.path = append(d.path, countElement...)
		d.buf.Reset()
		if err := d.schema.codec.enc.MarshalToBuffer(t.count, &d.buf); err != nil {
			return d.fail(err)
		}
		if err := d.emitRow(d.buf.Bytes()); err != nil {
			return err
		}
	}
	for _, element := range t.order {
		v := t.touched[element]
		if v == nil {
			continue
		}
		d.path = append(d.path[:at], element...)
		if from, isApart := t.apart[element]; isApart {
			d.part(n.prefix, from)
		}
		if err := n.entry.diff(d, reflect.ValueOf(v).Elem()); err != nil {
			return err
		}
		if err := d.rejoin(len(n.prefix) + len(element)); err != nil {
			return err
		}
	}
	d.path = d.path[:at]
	return nil
}

// fill takes the entries from rows that were loaded with the state.
func (t *tracker[V]) fill(d *decoder, n *tracked, g group) error {
	for below := range d.groups(g) {
		element := d.element(below, g)
		if element == countElement {
			continue
		}
		v := new(V)
		if err := n.entry.decode(d, below, reflect.ValueOf(v).Elem()); err != nil {
			return err
		}
		t.touch(element, v)
		t.count++
	}
	return nil
}

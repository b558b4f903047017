package statediff

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/dserver-go/dserver/internal/tuple"
)

// compiler builds the nodes of a schema. It keeps the path to where it is, for errors.
type compiler struct {
	codec codec
	path  []string
	types []reflect.Type // that contain the place
	slots int

	// Where tracked collections may be: at keys that are the same for all values.
	fixed    bool
	key      []byte
	index    []int
	trackeds []*tracked
}

// enter adds to the path and returns what takes it back. After an error the path stays: it is in the error already.
func (c *compiler) enter(step string) (leave func()) {
	depth := len(c.path)
	c.path = append(c.path, step)
	return func() { c.path = c.path[:depth] }
}

func (c *compiler) refuse(format string, args ...any) error {
	return fmt.Errorf("statediff: %s: %w", strings.Join(c.path, ""), fmt.Errorf(format, args...))
}

// within runs fn inside of t.
func (c *compiler) within(t reflect.Type, fn func() error) error {
	c.types = append(c.types, t)
	defer func() { c.types = c.types[:len(c.types)-1] }()
	return fn()
}

// recurs reports whether values of a type hold values of a struct that contains the place, or of a map or list that does
// so without a struct in between. Rows below it would be nested as deep as the values are, so it is one value.
func (c *compiler) recurs(t reflect.Type) bool {
	seen := map[reflect.Type]bool{}
	for part := t; !seen[part] && !marshals(part); part = part.Elem() {
		if slices.Contains(c.types, part) {
			return true
		}
		seen[part] = true
		switch part.Kind() {
		case reflect.Map, reflect.Slice, reflect.Array, reflect.Pointer:
			continue
		}
		return holds(part, func(s reflect.Type) bool { return s.Kind() == reflect.Struct && slices.Contains(c.types, s) })
	}
	return false
}

// node returns how a field of a struct, or the root, is stored.
func (c *compiler) node(t reflect.Type, g tag) (n node, err error) {
	if isTracked(t) {
		return c.tracked(t)
	}
	if marshals(t) || g.whole || c.recurs(t) {
		return c.leaf(t, nonZero)
	}
	if n, err = c.collection(t); n != nil || err != nil {
		return n, err
	}
	switch {
	case t.Kind() == reflect.Struct:
		err = c.within(t, func() error {
			e := &entity{}
			n = e
			return c.children(e, t, func(field) bool { return true })
		})
		return n, err
	case isStructPointer(t):
		return c.optional(t)
	}
	return c.leaf(t, nonZero)
}

func isStructPointer(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && !marshals(t.Elem())
}

// collection returns the node of a map or list whose entries have rows of their own; nil for other types.
func (c *compiler) collection(t reflect.Type) (n node, err error) {
	switch {
	case marshals(t):
		return nil, nil
	case t.Kind() == reflect.Map:
		if k := keyFor(t.Key()); k != nil {
			err = c.within(t, func() error { n, err = c.mapping(t, k); return err })
			return n, err
		}
	case t.Kind() == reflect.Slice:
		if item := structOf(t.Elem()); item != nil && hasID(item) {
			err = c.within(t, func() error { n, err = c.list(t, item); return err })
			return n, err
		}
	}
	return nil, nil
}

// structOf returns the struct type that t is or points to, nil when there is none.
func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || marshals(t) {
		return nil
	}
	return t
}

// splits tells whether values of the type have rows of their own below an entry: it holds a map or list with entries.
func splits(t reflect.Type, g tag) bool { return splitsIn(t, g, map[reflect.Type]bool{}) }

func splitsIn(t reflect.Type, g tag, seen map[reflect.Type]bool) bool {
	switch {
	case g.whole || g.skip || marshals(t):
		return false
	case t.Kind() == reflect.Map:
		return keyFor(t.Key()) != nil
	case t.Kind() == reflect.Slice:
		item := structOf(t.Elem())
		return item != nil && hasID(item)
	}
	s := structOf(t)
	if s == nil || seen[s] {
		return false
	}
	seen[s] = true
	return anyField(s, func(f reflect.StructField, g tag) bool { return splitsIn(f.Type, g, seen) })
}

func anyField(t reflect.Type, is func(reflect.StructField, tag) bool) bool {
	for i := range t.NumField() {
		f := t.Field(i)
		if g, err := parseTag(f); err == nil && is(f, g) {
			return true
		}
	}
	return false
}

// entry returns how an entry of a map, or an item of a list, is stored: a row that says that it exists, with all that
// has no rows of its own; maps and lists within have theirs below it.
func (c *compiler) entry(t reflect.Type) (n node, err error) {
	defer c.enter("[]")()
	defer c.vary()()
	if isTracked(t) {
		return c.tracked(t)
	}
	if c.recurs(t) {
		return c.plain(t, structOf(t))
	}
	inner, err := c.collection(t)
	if err != nil {
		return nil, err
	}
	if inner != nil {
		n, err = c.marked(inner)
		return n, err
	}
	s := structOf(t)
	if s == nil || !splits(s, tag{}) {
		return c.plain(t, s)
	}
	err = c.within(s, func() error { n, err = c.record(t, s); return err })
	return n, err
}

// plain is an entry or item all of which is in its row. A newer program may have added maps or lists to a struct, which
// have rows of their own below it.
func (c *compiler) plain(t, s reflect.Type) (node, error) {
	n, err := c.leaf(t, always)
	if err != nil || s == nil {
		return n, err
	}
	list, _, err := c.fields(s)
	if err != nil {
		return nil, err
	}
	e := n.(*entity)
	e.open, e.inRow = true, elementsOfFields(list)
	return e, nil
}

func elementsOfFields(list []field) (elements []string) {
	for _, f := range list {
		elements = append(elements, string(tuple.AppendString(nil, f.name)))
	}
	return elements
}

// marked puts a row that says that an inner collection exists in front of its entries.
func (c *compiler) marked(inner node) (node, error) {
	marker, err := c.marker()
	if err != nil {
		return nil, err
	}
	return &entity{row: marker, presence: always, inner: inner}, nil
}

// record stores the plain fields of s in one row and the others below it.
func (c *compiler) record(t, s reflect.Type) (node, error) {
	list, _, err := c.fields(s)
	if err != nil {
		return nil, err
	}
	e := &entity{presence: always, pointer: t.Kind() == reflect.Pointer}
	plain, below := []field(nil), []string(nil)
	for _, f := range list {
		if splits(f.typ, f.tag) {
			below = append(below, f.name)
		} else {
			plain = append(plain, f)
		}
	}
	if e.row, err = c.copied(plain, below...); err != nil {
		return nil, err
	}
	e.inRow = elementsOfFields(plain)
	if err := c.children(e, s, func(f field) bool { return splits(f.typ, f.tag) }); err != nil {
		return nil, err
	}
	e.fill = fillerFor(s)
	return e, nil
}

// optional stores a pointer to a struct: an empty row says that it is not nil, the fields are below it.
func (c *compiler) optional(t reflect.Type) (n node, err error) {
	defer c.vary()()
	err = c.within(t.Elem(), func() error {
		e := &entity{presence: nonNil, pointer: true}
		if e.row, err = c.marker(); err != nil {
			return err
		}
		n = e
		if err := c.children(e, t.Elem(), func(field) bool { return true }); err != nil {
			return err
		}
		e.fill = fillerFor(t.Elem())
		return nil
	})
	return n, err
}

func (c *compiler) leaf(t reflect.Type, p presence) (node, error) {
	w, err := c.whole(t)
	if err != nil {
		return nil, err
	}
	e := &entity{row: w, presence: p, sum: summerFor(t)}
	if p == nonZero {
		e.zero, err = w.encodeZero(t)
	}
	return e, err
}

// children adds the nodes of some fields of a struct to e, in the order of their keys.
func (c *compiler) children(e *entity, t reflect.Type, take func(field) bool) error {
	if err := c.checkPackage(t); err != nil {
		return err
	}
	list, _, err := c.fields(t)
	if err != nil {
		return err
	}
	e.open = true
	for _, f := range list {
		if !take(f) {
			continue
		}
		child, err := c.child(f)
		if err != nil {
			return err
		}
		e.children = append(e.children, child)
	}
	slices.SortFunc(e.children, func(a, b child) int { return strings.Compare(a.element, b.element) })
	return nil
}

func (c *compiler) child(f field) (child, error) {
	defer c.enter("." + f.name)()
	key, index := c.key, c.index
	defer func() { c.key, c.index = key, index }()
	element := string(tuple.AppendString(nil, f.name))
	c.key, c.index = slices.Concat(key, []byte(element)), slices.Concat(index, f.index)
	n, err := c.node(f.typ, f.tag)
	return child{element, f.index, n}, err
}

// vary enters what not all values have. The result leaves it.
func (c *compiler) vary() (leave func()) {
	fixed := c.fixed
	c.fixed = false
	return func() { c.fixed = fixed }
}

func (c *compiler) slot() int {
	c.slots++
	return c.slots - 1
}

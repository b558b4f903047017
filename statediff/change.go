package statediff

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/internal/tuple"
	"github.com/dserver-go/dserver/internal/wire"
)

// Change changes a value without its Go type, for people and tools: one place of what Generic shows. As the type is not
// known, it takes what leaves the value as readable as it was: another value of the same kind, where there was one.
type Change struct {
	Path   []string // names of fields, keys of maps as Generic shows them, and the places of a list's items from 0
	Value  any      // of the kinds that Generic returns
	Create bool     // there is nothing at the path yet, as of a field that is zero, or a key that a map does not have
	Remove bool     // what is there, instead: a field becomes zero
}

// Errors of a Change; their texts say where.
var (
	ErrNoPath  = errors.New("statediff: nothing is there")
	ErrPath    = errors.New("statediff: it cannot be changed there without its type")
	ErrNotKind = errors.New("statediff: it is of another kind")
)

// Of returns what has to be written, and what was at the path; nil when there was nothing. What it returns is tried first:
// rows of which Generic would show more than the change are an error.
func (c Change) Of(r *Rows) (edits []Edit, was any, err error) {
	g := generic{&decoder{list: r.list, buf: make([]byte, 0, 64)}, wire.Untyped()}
	edit, was, err := g.change(c, group{hi: len(r.list)})
	if err != nil {
		return nil, was, fmt.Errorf("%w: %s", err, strings.Join(c.Path, "/"))
	}
	after := r.Clone()
	after.Apply([]Edit{edit})
	if _, err := Generic(after); err != nil {
		return nil, was, err
	}
	return []Edit{edit}, was, nil
}

// change goes down to the path.
func (d generic) change(c Change, g group) (edit Edit, was any, err error) {
	if len(c.Path) == 0 {
		return edit, nil, ErrPath
	}
	for depth, name := range c.Path {
		data, rest, err := d.own(g)
		if err != nil {
			return edit, nil, err
		}
		inList := d.isList(rest)
		if below, found := d.child(rest, name, inList); found {
			if last := depth == len(c.Path)-1; last || inList {
				if err := d.mayChange(c, rest, below, inList, last); err != nil {
					return edit, nil, err
				}
			}
			g = below
			continue
		}
		if data != nil {
			return d.within(c, g, data, c.Path[depth:])
		}
		if depth < len(c.Path)-1 || !c.Create || c.Remove {
			return edit, nil, ErrNoPath
		}
		return d.create(c, rest, name, inList)
	}
	return d.replace(c, g)
}

// child finds what is named below a group.
func (d generic) child(g group, name string, inList bool) (group, bool) {
	if inList {
		i, err := strconv.Atoi(name)
		if items := d.items(g); err == nil && i >= 0 && i < len(items) {
			return items[i].group, true
		}
		return group{}, false
	}
	for below := range d.groups(g) {
		if element := d.element(below, g); element != countElement && elementText(element) == name {
			return below, true
		}
	}
	return group{}, false
}

// mayChange refuses what would contradict the rows beside it: the number of a collection's entries, or an item's id.
func (d generic) mayChange(c Change, outer, below group, inList, last bool) error {
	if !last {
		return nil
	}
	if c.Remove && (inList || d.isCounted(outer)) {
		return ErrPath
	}
	if !inList || c.Remove {
		return nil
	}
	data, _, err := d.own(below)
	if err != nil || data == nil {
		return err
	}
	old, err := d.decode(data)
	if err != nil {
		return err
	}
	return keepsID(old, c.Value, elementText(d.element(below, outer)))
}

// keepsID refuses an item whose id would be another one.
func keepsID(old, value any, id string) error {
	was, isMap := old.(map[string]any)
	is, stays := value.(map[string]any)
	if !isMap || !stays {
		return nil
	}
	for name, v := range was {
		if keyText(v) == id && (is[name] == nil || keyText(is[name]) != id) {
			return fmt.Errorf("%w: the id of an item of a list is its place, and %s is it", ErrPath, name)
		}
	}
	return nil
}

// isCounted reports whether a collection has a row that says how many entries it has.
func (d generic) isCounted(g group) bool {
	for below := range d.groups(g) {
		if d.element(below, g) == countElement {
			return true
		}
	}
	return false
}

// create makes a row that is not there: a field that is zero, or an entry of a map.
func (d generic) create(c Change, siblings group, name string, inList bool) (edit Edit, was any, err error) {
	if inList || d.isCounted(siblings) {
		return edit, nil, ErrPath
	}
	if _, isMap := c.Value.(map[string]any); isMap { // which of its fields have rows of their own is not known
		return edit, nil, ErrPath
	}
	element := tuple.AppendString(nil, name)
	for below := range d.groups(siblings) {
		e, _, err := tuple.Next([]byte(d.element(below, siblings)))
		if _, isNumber := e.(int64); err == nil && isNumber && siblings.klen > 0 {
			n, err := strconv.ParseInt(name, 10, 64)
			if err != nil {
				return edit, nil, fmt.Errorf("%w: the other keys are numbers", ErrNotKind)
			}
			element = tuple.AppendInt(nil, n)
		}
		break
	}
	prefix := ""
	if siblings.klen > 0 {
		prefix = d.list[siblings.lo].key()[:siblings.klen]
	}
	return setRow(prefix+string(element), c.Value, nil)
}

// replace changes what has a row of its own, or removes it with all below it.
func (d generic) replace(c Change, g group) (edit Edit, was any, err error) {
	if was, err = d.value(g); err != nil {
		return edit, nil, err
	}
	if c.Remove {
		return Edit{Key: d.key(g), Clear: Tree}, was, nil
	}
	data, rest, err := d.own(g)
	if err != nil || data == nil || rest.lo != rest.hi {
		return edit, was, errors.Join(err, ErrPath)
	}
	if mayBeFirstPart([]byte(d.list[g.lo].value())) {
		return edit, was, ErrPath
	}
	var raw any
	if err := d.dec.Unmarshal(data, &raw); err != nil {
		return edit, was, err
	}
	if err := sameKind(raw, was, c.Value); err != nil {
		return edit, was, err
	}
	return setRow(d.key(g), c.Value, was)
}

// within changes a value that stands within that of a row.
func (d generic) within(c Change, g group, data []byte, path []string) (edit Edit, was any, err error) {
	if mayBeFirstPart([]byte(d.list[g.lo].value())) {
		return edit, nil, ErrPath
	}
	key := d.key(g)
	var all any
	if err := d.dec.Unmarshal(data, &all); err != nil {
		return edit, nil, err
	}
	changed, was, err := changeIn(all, c, path)
	if err != nil {
		return edit, was, err
	}
	return setRow(key, changed, was)
}

// changeIn is a value as CBOR has it, with one place changed.
func changeIn(v any, c Change, path []string) (changed, was any, err error) {
	if len(path) == 0 {
		was = plain(v)
		return c.Value, was, sameKind(v, was, c.Value)
	}
	switch v := v.(type) {
	case map[any]any:
		for key, entry := range v {
			if keyText(plain(key)) != path[0] {
				continue
			}
			if len(path) == 1 && c.Remove {
				delete(v, key)
				return v, plain(entry), nil
			}
			v[key], was, err = changeIn(entry, c, path[1:])
			return v, was, err
		}
		if len(path) == 1 && c.Create && !c.Remove {
			v[path[0]] = c.Value
			return v, nil, nil
		}
	case []any:
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(v) && (len(path) > 1 || !c.Remove) {
			v[i], was, err = changeIn(v[i], c, path[1:])
			return v, was, err
		}
	}
	return nil, nil, ErrNoPath
}

func setRow(key string, value, was any) (Edit, any, error) {
	b, err := wire.States().Marshal(value)
	if err == nil && (len(b) > chunk.Bytes || mayBeFirstPart(b)) {
		err = fmt.Errorf("%w: a value of %d bytes; at most %d", ErrPath, len(b), chunk.Bytes)
	}
	return Edit{Key: key, Value: b}, was, err
}

// sameKind refuses a value that a type would not take which took the one before: text for a number, or a field of another
// kind in a struct. raw is what was as CBOR has it: what Generic shows as something else is left alone. Where nothing was, or
// nil, nothing is known.
func sameKind(raw, was, is any) error {
	switch raw.(type) {
	case big.Int, cbor.Tag, cbor.SimpleValue:
		return ErrPath
	}
	return likeBefore(was, is)
}

func likeBefore(was, is any) error {
	switch {
	case was == nil || is == nil && !isComposite(was):
		return nil
	case reflect.TypeOf(was) == reflect.TypeOf(is):
		return likeParts(was, is)
	case isInteger(is) && (isInteger(was) || reflect.TypeOf(was).Kind() == reflect.Float64):
		return nil
	}
	return fmt.Errorf("%w: %T, and it was %T", ErrNotKind, is, was)
}

func isComposite(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

func isInteger(v any) bool {
	switch v.(type) {
	case int64, uint64:
		return true
	}
	return false
}

func likeParts(was, is any) error {
	switch was := was.(type) {
	case map[string]any:
		for key, v := range is.(map[string]any) {
			if err := likeBefore(was[key], v); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	case []any:
		for i, v := range is.([]any) {
			if len(was) == 0 {
				return nil
			}
			if err := likeBefore(was[min(i, len(was)-1)], v); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
	}
	return nil
}

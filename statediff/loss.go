package statediff

import (
	"fmt"
	"reflect"
	"time"
)

// loss reports what of a value is another one when it is read back, though it is encoded alike: a pointer to nothing is nil
// then, and a key of a map one that is not equal. So bytes that are stored already do not tell that a value is, and it is
// looked for in what has not changed, too. A nil loss has nothing to look for.
type loss func(v reflect.Value) error

func (f loss) of(v reflect.Value) error {
	if f == nil {
		return nil
	}
	return f(v)
}

// lost reports what of the row of v would be lost.
func (e *entity) lost(v reflect.Value) error {
	w := e.row
	if w.verify == nil || w.verify.loss == nil {
		return nil
	}
	if e.pointer || w.pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	return w.verify.loss(v)
}

// losses are those of the types that are being looked at, as they may contain themselves.
type losses struct {
	codec codec
	known map[reflect.Type]*loss
}

func newLosses(c codec) losses { return losses{c, map[reflect.Type]*loss{}} }

func (m losses) of(t reflect.Type) loss {
	mayLose := func(part reflect.Type) bool {
		return !marshals(part) && (part.Kind() == reflect.Pointer && needsVerifier(part.Elem()) ||
			part.Kind() == reflect.Map && needsVerifier(part.Key()))
	}
	if !holds(t, mayLose) {
		return nil
	}
	if known := m.known[t]; known != nil {
		return func(v reflect.Value) error { return known.of(v) }
	}
	f := new(loss)
	m.known[t] = f
	*f = m.made(t)
	return *f
}

func (m losses) made(t reflect.Type) loss {
	switch t.Kind() {
	case reflect.Pointer:
		return m.ofPointer(t.Elem())
	case reflect.Struct:
		return m.ofStruct(t)
	case reflect.Slice, reflect.Array:
		return m.ofElements(t.Elem())
	case reflect.Map:
		return m.ofMap(t)
	}
	return nil
}

func (m losses) ofPointer(elem reflect.Type) loss {
	isNothing, inner := m.nothing(elem), m.of(elem)
	return func(v reflect.Value) error {
		switch {
		case v.IsNil():
			return nil
		case isNothing != nil && isNothing(v.Elem()):
			return errNothing
		}
		return inner.of(v.Elem())
	}
}

// nothing tells which values of a type are stored as nil is; nil is none.
func (m losses) nothing(t reflect.Type) func(v reflect.Value) bool {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return func(v reflect.Value) bool { return v.Addr().Interface().(*time.Time).IsZero() }
	case !needsVerifier(t), t.Kind() == reflect.Struct && !marshals(t):
		return nil
	}
	return func(v reflect.Value) bool {
		data, err := m.codec.encoded(v)
		return err == nil && isNull(data)
	}
}

func (m losses) ofStruct(t reflect.Type) loss {
	var fields []loss
	for i := range t.NumField() {
		f := t.Field(i)
		if g, err := parseTag(f); err != nil || g.skip || !f.IsExported() && !f.Anonymous || cborName(f) == "" {
			continue
		}
		if omitsZero(f) && m.of(f.Type) != nil && f.Type.Kind() == reflect.Pointer && f.Type.Implements(reflect.TypeFor[zeroer]()) {
			fields = append(fields, omitted(f.Name, i))
		}
		fields = m.appendField(fields, f.Name, []int{i}, f.Type)
	}
	return all(fields)
}

// zeroer is a type that says by itself what is left out with the option omitzero, also behind a pointer.
type zeroer interface{ IsZero() bool }

// omitted is of a field that is left out though its pointer is not nil.
func omitted(name string, index int) loss {
	return func(v reflect.Value) error {
		if f := v.Field(index); !f.IsNil() && f.Interface().(zeroer).IsZero() {
			return fmt.Errorf("%s: %w", name, errNothing)
		}
		return nil
	}
}

// appendField adds the loss of a field, which may be one of an embedded struct.
func (m losses) appendField(fields []loss, name string, index []int, t reflect.Type) []loss {
	inner := m.of(t)
	if inner == nil {
		return fields
	}
	return append(fields, func(v reflect.Value) error {
		if err := inner(v.FieldByIndex(index)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// all is nil where none of them has anything to look for.
func all(of []loss) loss {
	if of == nil {
		return nil
	}
	return func(v reflect.Value) error {
		for _, lost := range of {
			if err := lost(v); err != nil {
				return err
			}
		}
		return nil
	}
}

func (m losses) ofElements(elem reflect.Type) loss {
	inner := m.of(elem)
	return func(v reflect.Value) error {
		for i := range v.Len() {
			if err := inner.of(v.Index(i)); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return nil
	}
}

func (m losses) ofMap(t reflect.Type) loss {
	inner, hasOwnKeys := m.of(t.Elem()), needsVerifier(t.Key())
	return func(v reflect.Value) error {
		for entries := v.MapRange(); entries.Next(); {
			if hasOwnKeys && !m.comesBack(entries.Key()) {
				return errMapKey
			}
			if inner == nil {
				continue
			}
			if err := inner(entries.Value()); err != nil {
				return fmt.Errorf("[%v]: %w", entries.Key(), err)
			}
		}
		return nil
	}
}

// comesBack reports whether a key of a map is equal to what is read back of it.
func (m losses) comesBack(key reflect.Value) bool {
	if itself := key; !key.Equal(itself) { // NaN is no key that can be looked up, before or after
		return true
	}
	back := reflect.New(key.Type()).Elem()
	data, err := m.codec.encoded(key)
	return err == nil && m.codec.decode(data, back) == nil && back.Equal(key)
}

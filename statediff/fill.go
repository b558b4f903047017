package statediff

import "reflect"

// filler makes the nil maps of a value empty, so that handlers can write to them. It looks into structs, arrays,
// slices and pointers that are not nil, not into the entries of maps. A nil filler has nothing to do.
type filler func(v reflect.Value)

func (f filler) fill(v reflect.Value) {
	if f != nil {
		f(v)
	}
}

// fillerFor returns the filler of a type, nil if none is needed.
func fillerFor(t reflect.Type) filler { return fillers{}.of(t) }

// fillers are those of the types that are being looked at, as they may contain themselves.
type fillers map[reflect.Type]*filler

func (m fillers) of(t reflect.Type) filler {
	if !holds(t, func(part reflect.Type) bool { return part.Kind() == reflect.Map && !marshals(part) }) {
		return nil
	}
	if known := m[t]; known != nil {
		return func(v reflect.Value) { known.fill(v) }
	}
	f := new(filler)
	m[t] = f
	*f = m.made(t)
	return *f
}

func (m fillers) made(t reflect.Type) filler {
	switch t.Kind() {
	case reflect.Map:
		return func(v reflect.Value) {
			if v.IsNil() {
				v.Set(reflect.MakeMap(t))
			}
		}
	case reflect.Struct:
		return m.structFiller(t)
	case reflect.Slice, reflect.Array:
		return elementFiller(m.of(t.Elem()))
	case reflect.Pointer:
		return pointerFiller(m.of(t.Elem()))
	}
	return nil
}

func (m fillers) structFiller(t reflect.Type) filler {
	var fields []func(v reflect.Value)
	for i := range t.NumField() {
		f := t.Field(i)
		if g, err := parseTag(f); err != nil || g.skip || !f.IsExported() && !f.Anonymous {
			continue
		}
		if inner := m.of(f.Type); inner != nil {
			fields = append(fields, func(v reflect.Value) { inner(v.Field(i)) })
		}
	}
	if fields == nil {
		return nil
	}
	return func(v reflect.Value) {
		for _, fill := range fields {
			fill(v)
		}
	}
}

func elementFiller(inner filler) filler {
	if inner == nil {
		return nil
	}
	return func(v reflect.Value) {
		for i := range v.Len() {
			inner(v.Index(i))
		}
	}
}

func pointerFiller(inner filler) filler {
	if inner == nil {
		return nil
	}
	return func(v reflect.Value) {
		if !v.IsNil() {
			inner(v.Elem())
		}
	}
}

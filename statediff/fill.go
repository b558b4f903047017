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

// fillerFor returns the filler of a type that does not contain itself.
func fillerFor(t reflect.Type) filler {
	if marshals(t) || isTracked(t) {
		return nil
	}
	switch t.Kind() {
	case reflect.Map:
		return func(v reflect.Value) {
			if v.IsNil() {
				v.Set(reflect.MakeMap(t))
			}
		}
	case reflect.Struct:
		return structFiller(t)
	case reflect.Slice, reflect.Array:
		return elementFiller(fillerFor(t.Elem()))
	case reflect.Pointer:
		return pointerFiller(fillerFor(t.Elem()))
	}
	return nil
}

func structFiller(t reflect.Type) filler {
	var fields []func(v reflect.Value)
	for i := range t.NumField() {
		f := t.Field(i)
		if g, err := parseTag(f); err != nil || g.skip || !f.IsExported() && !f.Anonymous {
			continue
		}
		if inner := fillerFor(f.Type); inner != nil {
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

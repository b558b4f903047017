package statediff

import "reflect"

// holds reports whether is is true of a type, or of one that its values are made of, without the parts of what encodes
// itself and of tracked collections.
func holds(t reflect.Type, is func(reflect.Type) bool) bool {
	return holdsIn(t, is, map[reflect.Type]bool{})
}

func holdsIn(t reflect.Type, is func(reflect.Type) bool, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch {
	case is(t):
		return true
	case isTracked(t), marshals(t):
		return false
	}
	switch t.Kind() {
	case reflect.Struct:
		return anyField(t, func(f reflect.StructField, g tag) bool { return !g.skip && holdsIn(f.Type, is, seen) })
	case reflect.Map:
		return holdsIn(t.Key(), is, seen) || holdsIn(t.Elem(), is, seen)
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return holdsIn(t.Elem(), is, seen)
	}
	return false
}

package wire

import (
	"fmt"
	"reflect"
)

// What a value may be before it is encoded, when its type contains itself. The exact depth is that of the bytes; these
// keep a value that contains itself, or the same parts again and again, from being written for ever.
const (
	maxDepth = 4 * MaxNesting
	maxParts = 16 << 20
)

// measure refuses values that have no end.
func measure(v reflect.Value) error { return new(measured).walk(v, 0) }

type measured struct{ parts int }

func (m *measured) walk(v reflect.Value, depth int) error {
	if m.parts++; depth > maxDepth {
		return fmt.Errorf("it contains itself, or is nested deeper than %d levels", MaxNesting)
	}
	if m.parts > maxParts {
		return fmt.Errorf("it has more than %d parts", maxParts)
	}
	if !v.IsValid() || builtIn[v.Type()] || Marshals(v.Type()) {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return m.walk(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if err := m.walk(v.Field(i), depth+1); err != nil {
				return err
			}
		}
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			if err := m.walk(i.Value(), depth+1); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		if isPlain(v.Type().Elem().Kind()) {
			return nil
		}
		for i := range v.Len() {
			if err := m.walk(v.Index(i), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// isPlain tells whether values of the kind have no parts.
func isPlain(k reflect.Kind) bool { return k <= reflect.Complex128 || k == reflect.String }

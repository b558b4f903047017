package wire

import (
	"fmt"
	"reflect"
	"sync"
)

// What a value may be before it is encoded, when its type contains itself. The exact depth is that of the bytes; these
// keep a value that contains itself, or the same parts again and again, from being written for ever.
const (
	maxDepth = 4 * MaxNesting
	maxParts = 16 << 20
)

// Measure refuses values that have no end, of types that contain themselves.
func Measure(v reflect.Value) error { return new(measured).walk(v, 0) }

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
		for _, i := range writtenOf(v.Type()) {
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

// writtenFields is the fields of structs that are written, by their indexes.
var writtenFields sync.Map // reflect.Type -> []int

func writtenOf(t reflect.Type) []int {
	known, ok := writtenFields.Load(t)
	if !ok {
		var list []int
		for i := range t.NumField() {
			f := t.Field(i)
			if _, leftOut := nameOf(f); !leftOut && (f.IsExported() || f.Anonymous) {
				list = append(list, i)
			}
		}
		known, _ = writtenFields.LoadOrStore(t, list)
	}
	return known.([]int)
}

// isPlain tells whether values of the kind have no parts.
func isPlain(k reflect.Kind) bool { return k <= reflect.Complex128 || k == reflect.String }

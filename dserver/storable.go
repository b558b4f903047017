package dserver

import (
	"encoding"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// checkStorable refuses a type of message or reply of which something would be lost on the way, with the path to it.
func checkStorable(t reflect.Type) error {
	return storable(t, t.String(), map[reflect.Type]bool{})
}

func storable(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	if seen[t] || marshalsItself(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128, reflect.Uintptr:
		return fmt.Errorf("%s is of the kind %s, which does not come back: send its text, or a type of your own", path, t.Kind())
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return storable(t.Elem(), path, seen)
	case reflect.Map:
		if err := storable(t.Key(), path+" (key)", seen); err != nil {
			return err
		}
		return storable(t.Elem(), path, seen)
	case reflect.Struct:
		return storableFields(t, path, seen)
	}
	return nil
}

func storableFields(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	for i := range t.NumField() {
		f := t.Field(i)
		at := path + "." + f.Name
		skipped := f.Tag.Get("cbor") == "-" || (!f.IsExported() && f.Tag.Get("dserver") == "-")
		embedded := f.Anonymous && f.Type.Kind() == reflect.Struct
		switch {
		case skipped:
		case !f.IsExported() && !embedded:
			return fmt.Errorf("%s is not exported, so it would be lost (tag it `dserver:\"-\"` if it may be)", at)
		case f.Tag.Get("dserver") == "-":
			return fmt.Errorf("%s of a message is left out by the tag `cbor:\"-\"`", at)
		default:
			if err := storable(f.Type, at, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// marshalsItself reports whether CBOR asks the type how it is written, in both directions.
func marshalsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[cbor.Unmarshaler]()) && p.Implements(reflect.TypeFor[cbor.Marshaler]()) ||
		p.Implements(reflect.TypeFor[encoding.BinaryUnmarshaler]()) && p.Implements(reflect.TypeFor[encoding.BinaryMarshaler]())
}

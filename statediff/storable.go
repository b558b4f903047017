package statediff

import (
	"encoding"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// Marshaling interfaces in the order in which the CBOR library prefers them, each with its way back.
func marshalers() [3][2]reflect.Type {
	return [3][2]reflect.Type{
		{reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[cbor.Unmarshaler]()},
		{reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler]()},
		{reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()},
	}
}

// marshals tells whether the type encodes itself.
func marshals(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	for _, m := range marshalers() {
		if p.Implements(m[0]) {
			return true
		}
	}
	return false
}

// comesBack tells whether a type that encodes itself decodes itself in the same way.
func comesBack(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	for _, m := range marshalers() {
		if p.Implements(m[0]) {
			return p.Implements(m[1])
		}
	}
	return true
}

// checkMarshaler refuses types that encode themselves and lose something.
func (c *compiler) checkMarshaler(t reflect.Type) error {
	if !comesBack(t) {
		return c.refuse("%v encodes itself but cannot decode itself", t)
	}
	if t.Kind() != reflect.Struct || t.NumField() < 2 {
		return nil
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Anonymous && marshals(f.Type) && f.Type.Kind() != reflect.Interface {
			return c.refuse("the embedded %v would encode itself in place of all of %v; give the field a name", f.Type, t)
		}
	}
	return nil
}

// checkWhole refuses what cannot come back from one CBOR value. Inside of one value names are the CBOR library's, so a
// dserver tag that would have no effect is refused as well; top is where the tags still have effect.
func (c *compiler) checkWhole(t reflect.Type, top bool) error {
	if isTracked(t) {
		return c.refuse("%v cannot be a part of one value", t)
	}
	if marshals(t) {
		return c.checkMarshaler(t)
	}
	switch t.Kind() {
	case reflect.Struct:
		return c.within(t, func() error { return c.checkStruct(t, top) })
	case reflect.Map:
		return c.within(t, func() error { return c.checkMap(t) })
	case reflect.Slice, reflect.Array:
		defer c.enter("[]")()
		return c.within(t, func() error { return c.checkWhole(t.Elem(), false) })
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Pointer {
			return c.refuse("a pointer to a pointer cannot be told from nil when it is read back")
		}
		return c.within(t, func() error { return c.checkWhole(t.Elem(), top) })
	}
	return c.checkScalar(t)
}

func (c *compiler) checkScalar(t reflect.Type) error {
	switch t.Kind() {
	case reflect.Interface:
		return c.refuse("an interface (%v) cannot be read back", t)
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128:
		return c.refuse("a %v cannot be stored", t.Kind())
	}
	return nil
}

func (c *compiler) checkMap(t reflect.Type) error {
	if k := t.Key().Kind(); k == reflect.Pointer {
		return c.refuse("keys that are pointers (%v) cannot be read back", t.Key())
	}
	if err := c.checkWhole(t.Key(), false); err != nil {
		return err
	}
	defer c.enter("[]")()
	return c.checkWhole(t.Elem(), false)
}

func (c *compiler) checkStruct(t reflect.Type, top bool) error {
	if err := c.checkPackage(t); err != nil {
		return err
	}
	list, all, err := c.fields(t)
	if err != nil {
		return err
	}
	if !top && !all {
		return c.refuse("a tag `dserver:\"-\"` on an exported field has no effect inside of one value; add `cbor:\"-\"`")
	}
	for _, f := range list {
		leave := c.enter("." + f.name)
		if !top && !f.plain {
			return c.refuse("inside of one value the field's name comes from its cbor or json tag: make it %q there too", f.name)
		}
		if err := c.checkWhole(f.typ, false); err != nil {
			return err
		}
		leave()
	}
	return nil
}

// checkPackage gives a clearer reason than an unexported field for types that must not be copied.
func (c *compiler) checkPackage(t reflect.Type) error {
	if p := t.PkgPath(); p == "sync" || p == "sync/atomic" {
		return c.refuse("%v cannot be stored; a handler needs no lock", t)
	}
	return nil
}

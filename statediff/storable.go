package statediff

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/dserver-go/dserver/internal/wire"
)

// marshals tells whether the type encodes itself.
func marshals(t reflect.Type) bool { return wire.Marshals(t) }

// checkWhole refuses what cannot come back from one CBOR value, and reports whether the type contains itself. Inside of
// one value names are the CBOR library's, so a dserver tag that would have no effect is refused as well; top is where the
// tags still have effect.
func (c *compiler) checkWhole(t reflect.Type, top bool) (recursive bool, err error) {
	if s := structOf(t); top && s != nil && !isTracked(s) {
		if why := wire.OneWay(s); why != "" {
			return false, c.refuse("%s", why)
		}
		return c.checkFields(s)
	}
	traits, err := wire.Check(t, wire.Rules{Recursive: true, Type: checkPart, Field: checkTag})
	var refusal *wire.Refusal
	if errors.As(err, &refusal) {
		defer c.enter(refusal.Path)()
		return false, c.refuse("%w", refusal.Why)
	}
	return traits.Recursive, err
}

// checkPart refuses what may not be a part of one value.
func checkPart(t reflect.Type) error {
	if isTracked(t) {
		return fmt.Errorf("%v cannot be a part of one value", t)
	}
	return nil
}

// checkTag refuses a field whose dserver tag would have no effect.
func checkTag(f reflect.StructField) error {
	t, err := parseTag(f)
	promoted := f.Anonymous && f.Type.Kind() == reflect.Struct && t.name == "" && cborName(f) == f.Name
	switch {
	case err != nil:
		return err
	case t.skip && f.IsExported() && cborName(f) != "":
		return errors.New("a tag `dserver:\"-\"` on an exported field has no effect inside of one value; add `cbor:\"-\"`")
	case t.skip, promoted, storedName(f, t) == cborName(f):
		return nil
	}
	return fmt.Errorf("inside of one value the field's name comes from its cbor or json tag: make it %q there too", storedName(f, t))
}

// checkFields checks the fields of a struct that stands alone.
func (c *compiler) checkFields(t reflect.Type) (recursive bool, err error) {
	if err := c.checkPackage(t); err != nil {
		return false, err
	}
	list, _, err := c.fields(t)
	if err != nil {
		return false, err
	}
	return c.checkAll(list)
}

// checkAll checks fields that are each encoded as a whole.
func (c *compiler) checkAll(list []field) (recursive bool, err error) {
	for _, f := range list {
		leave := c.enter("." + f.name)
		recurs, err := c.checkWhole(f.typ, false)
		if err != nil {
			return false, err
		}
		leave()
		recursive = recursive || recurs
	}
	return recursive, nil
}

// checkPackage gives a clearer reason than an unexported field for types that must not be copied.
func (c *compiler) checkPackage(t reflect.Type) error {
	if p := t.PkgPath(); p == "sync" || p == "sync/atomic" {
		return c.refuse("%v cannot be stored; a handler needs no lock", t)
	}
	return nil
}

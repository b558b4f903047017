package wire

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Rules are what a check asks beside that values come back.
type Rules struct {
	// Recursive allows types that contain themselves, whose values are measured when they are encoded.
	Recursive bool

	// Type and Field refuse further types, and fields of structs, those that are left out among them. They may be nil.
	Type  func(t reflect.Type) error
	Field func(f reflect.StructField) error
}

// Traits say what a type does not tell about its values.
type Traits struct {
	Own       bool // methods of the type's own write a part of it, and may refuse to read it
	Times     bool // it holds times, which can be too far away to be read
	Keys      bool // two keys of a map may be written as the same
	Raw       bool // it holds CBOR that was encoded elsewhere
	Recursive bool // it contains itself
	Depth     int  // how deep it is nested, when it does not contain itself
	Wide      int  // the bytes of the largest element, in memory
}

// Refusal is why values of a type do not come back.
type Refusal struct {
	Path string // from the type: ".Field", "[]" for what a list or map holds
	Why  error
}

func (r *Refusal) Error() string { return r.Path + ": " + r.Why.Error() }
func (r *Refusal) Unwrap() error { return r.Why }

// Check refuses a type whose values would lose something when they are encoded and decoded as one CBOR value. Its error
// is a *Refusal.
func Check(t reflect.Type, r Rules) (Traits, error) {
	c := &checker{rules: r, seen: map[reflect.Type]bool{}, within: map[reflect.Type]bool{}}
	if err := c.check(t, 0); err != nil {
		return Traits{}, &Refusal{strings.Join(c.path, ""), err}
	}
	return c.traits, nil
}

// checker is the work of one Check. It keeps the path to where it is.
type checker struct {
	rules  Rules
	path   []string
	seen   map[reflect.Type]bool // structs, maps, lists and pointers that were found right
	within map[reflect.Type]bool // those that contain the place
	traits Traits
}

// at checks below a step of the path. After an error the path stays, for the refusal.
func (c *checker) at(step string, check func() error) error {
	c.path = append(c.path, step)
	if err := check(); err != nil {
		return err
	}
	c.path = c.path[:len(c.path)-1]
	return nil
}

func (c *checker) check(t reflect.Type, depth int) error {
	c.traits.Depth = max(c.traits.Depth, depth)
	if c.rules.Type != nil {
		if err := c.rules.Type(t); err != nil {
			return err
		}
	}
	if why := OneWay(t); why != "" {
		return fmt.Errorf("%s", why)
	}
	if builtIn[t] || Marshals(t) {
		return c.checkLeaf(t, depth)
	}
	switch t.Kind() {
	case reflect.Interface:
		return fmt.Errorf("an interface (%v) cannot be read back: use a type of your own", t)
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128:
		return fmt.Errorf("a %v cannot be stored", t.Kind())
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.Array, reflect.Pointer:
		return c.checkComposite(t, depth)
	}
	return nil
}

// checkLeaf is about a type that has an encoding of its own.
func (c *checker) checkLeaf(t reflect.Type, depth int) error {
	c.traits.Depth = max(c.traits.Depth, depth+1) // a time's tag
	switch {
	case t == reflect.TypeFor[time.Time]():
		c.traits.Times = true
	case t == reflect.TypeFor[cbor.RawMessage]():
		c.traits.Raw = true
	case !builtIn[t] && !trusted[t]:
		c.traits.Own = true
	}
	if t.Kind() != reflect.Struct || builtIn[t] {
		return nil
	}
	return checkPromoted(t)
}

// checkPromoted refuses a struct that has got its methods from an embedded field, which would be encoded in its place.
func checkPromoted(t reflect.Type) error {
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.Anonymous || !Marshals(f.Type) && !implementsAny(f.Type) {
			continue
		}
		if k := f.Type.Kind(); k == reflect.Pointer || k == reflect.Interface {
			return fmt.Errorf("the embedded %v cannot be read back: give the field a name", f.Type)
		}
		if t.Size() > f.Type.Size() {
			return fmt.Errorf("the embedded %v would encode itself in place of all of %v; give the field a name", f.Type, t)
		}
	}
	return nil
}

// implementsAny is Marshals for pointers and interfaces, which have the methods themselves.
func implementsAny(t reflect.Type) bool {
	for _, w := range ways {
		if t.Implements(w.out) {
			return true
		}
	}
	return false
}

func (c *checker) checkComposite(t reflect.Type, depth int) error {
	if c.within[t] {
		if !c.rules.Recursive {
			return fmt.Errorf("the type %v contains itself", t)
		}
		c.traits.Recursive = true
		return nil
	}
	if c.seen[t] && c.traits.Recursive {
		return nil // its depth says nothing any more
	}
	c.within[t] = true
	err := c.checkParts(t, depth)
	delete(c.within, t)
	c.seen[t] = err == nil
	return err
}

func (c *checker) checkParts(t reflect.Type, depth int) error {
	c.traits.Wide = max(c.traits.Wide, wideOf(t))
	switch t.Kind() {
	case reflect.Struct:
		return c.checkStruct(t, depth+1)
	case reflect.Map:
		return c.checkMap(t, depth+1)
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Pointer {
			return fmt.Errorf("a pointer to a pointer cannot be told from nil when it is read back")
		}
		return c.check(t.Elem(), depth)
	}
	return c.at("[]", func() error { return c.check(t.Elem(), depth+1) })
}

// wideOf is what an element takes in memory, of a type of which there may be any number.
func wideOf(t reflect.Type) int {
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer:
		return int(t.Elem().Size())
	case reflect.Map:
		return int(t.Key().Size() + t.Elem().Size())
	}
	return 0
}

func (c *checker) checkMap(t reflect.Type, depth int) error {
	if holdsPointer(t.Key()) {
		return fmt.Errorf("keys that are or hold pointers (%v) cannot be read back", t.Key())
	}
	if k := t.Key(); builtIn[k] || Marshals(k) || k.Kind() == reflect.Struct || k.Kind() == reflect.Array {
		c.traits.Keys = true
	}
	if err := c.check(t.Key(), depth); err != nil {
		return err
	}
	return c.at("[]", func() error { return c.check(t.Elem(), depth) })
}

// holdsPointer is about keys, of which two are equal before and not after, when they are made of pointers.
func holdsPointer(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer:
		return true
	case reflect.Array:
		return holdsPointer(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); !Marshals(t) && holdsPointer(f.Type) {
				return true
			}
		}
	}
	return false
}

// name is what the CBOR library calls a field.
type name struct {
	text  string
	isInt bool // a number
}

func (c *checker) checkStruct(t reflect.Type, depth int) error {
	if p := t.PkgPath(); p == "sync" || p == "sync/atomic" {
		return fmt.Errorf("%v cannot be stored; a handler needs no lock", t)
	}
	return c.checkFields(t, depth, map[name]string{})
}

// checkFields checks the fields of a struct, and of those embedded in it, which the CBOR library takes for its own: of
// two with one name it leaves one or both out.
func (c *checker) checkFields(t reflect.Type, depth int, names map[name]string) error {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Name == "_" {
			continue
		}
		err := c.at("."+f.Name, func() error {
			if c.rules.Field != nil {
				if err := c.rules.Field(f); err != nil {
					return err
				}
			}
			return c.checkField(f, depth, names)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkField(f reflect.StructField, depth int, names map[name]string) error {
	n, leftOut := nameOf(f)
	chosen := f.Tag.Get("dserver") == "-"
	isStruct := f.Type.Kind() == reflect.Struct
	switch {
	case chosen && !leftOut && f.Anonymous && isStruct && holdsExported(f.Type):
		return fmt.Errorf("a tag `dserver:\"-\"` on an embedded struct has no effect inside of one value; add `cbor:\"-\"`")
	case chosen && (leftOut || !f.IsExported()):
		return nil
	case leftOut && f.Tag.Get("cbor") == "":
		return fmt.Errorf("left out by its tag `json:\"-\"`, so it would be lost: give it a tag `cbor:\"name\"`, or `cbor:\"-\"` if it may be")
	case leftOut:
		return nil
	case f.Anonymous && n.text == "" && f.Type.Kind() == reflect.Pointer:
		return fmt.Errorf("an embedded pointer; give it a name, or embed the struct itself")
	case f.Anonymous && n.text == "" && isStruct && (builtIn[f.Type] || Marshals(f.Type)):
		return fmt.Errorf("the embedded %v would be taken to pieces: give the field a name", f.Type)
	case f.Anonymous && n.text == "" && isStruct:
		return c.checkFields(f.Type, depth, names)
	case !f.IsExported():
		return fmt.Errorf("the field is not exported, so it would be lost; export it or tag it `dserver:\"-\"` if it may be")
	}
	if n.text == "" {
		n.text = f.Name
	}
	if n.isInt { // "01" is 1 as well
		number, err := strconv.Atoi(n.text)
		if err != nil {
			return fmt.Errorf("its name %q is no number, as its tag says", n.text)
		}
		n.text = strconv.Itoa(number)
	}
	here := strings.Join(c.path, "")
	if other, taken := names[n]; taken {
		return fmt.Errorf("two fields are stored as %q, the other is %s: one would be lost; give one a tag `cbor:\"name\"`", n.text, other)
	}
	names[n] = here
	return c.check(f.Type, depth)
}

func holdsExported(t reflect.Type) bool {
	for i := range t.NumField() {
		if t.Field(i).IsExported() {
			return true
		}
	}
	return false
}

// nameOf is the name that a field's tag gives it for the CBOR library, which reads json tags where there is no other.
func nameOf(f reflect.StructField) (n name, leftOut bool) {
	text := f.Tag.Get("cbor")
	if text == "" {
		text = f.Tag.Get("json")
	}
	if text == "-" {
		return n, true
	}
	parts := strings.Split(text, ",")
	n.text = parts[0]
	for _, option := range parts[1:] {
		n.isInt = n.isInt || option == "keyasint"
	}
	return n, false
}

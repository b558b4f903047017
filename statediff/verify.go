package statediff

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/dserver-go/dserver/internal/wire"
)

// What a type's own methods write may not come back: they refuse it, or make something else of it. Then a state would be
// committed that nobody can read, or that is another one after a restart. So each value that was changed is read back
// first, if there is anything in its type with a will of its own.

// verifier says how values of a type are read back. It is nil for the types of which our codec decodes all that it
// encodes.
type verifier struct {
	own   bool // there are types with methods of their own: what comes back must encode to the same bytes
	alike bool // there are pointers to what may be written as nothing, or maps whose keys may come back as others
}

var (
	errAnother = errors.New("it comes back as another value than it was stored as")
	errNothing = errors.New("a pointer to a value that is stored as nothing, such as the zero time, comes back as nil: make it nil")
	errMapKey  = errors.New("a key of the map comes back as another one: use keys that are equal to what is read, such as times in UTC without a monotonic clock, t.Round(0).UTC()")
)

// comesBack reads what is in d.buf, the encoding of v, and compares.
func (e *entity) comesBack(d *differ, v reflect.Value) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a method of its type panicked when it was read back: %v", p)
		}
	}()
	verify := e.row.verify
	back, again, err := e.again(d, d.buf.Bytes(), v)
	switch {
	case err != nil:
	case verify.own && !bytes.Equal(again, d.buf.Bytes()):
		err = errAnother
	case verify.alike:
		return alike(v, back)
	default:
		return nil
	}
	if inner := e.row.culprit(v, 0); inner != nil {
		return inner
	}
	return fmt.Errorf("what was stored could not be read again: %w", err)
}

// alike reports what of a value that was read back is another, though it is encoded alike.
func alike(v, back reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		switch {
		case v.IsNil():
			return nil
		case back.IsNil():
			return errNothing
		}
		return alike(v.Elem(), back.Elem())
	case reflect.Struct:
		if marshals(v.Type()) {
			return nil
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if g, err := parseTag(f); err != nil || g.skip || cborName(f) == "" {
				continue
			}
			if err := alike(v.Field(i), back.Field(i)); err != nil {
				return fmt.Errorf("%s: %w", f.Name, err)
			}
		}
	case reflect.Slice, reflect.Array:
		if marshals(v.Type()) || !needsVerifier(v.Type().Elem()) {
			return nil
		}
		for i := range min(v.Len(), back.Len()) {
			if err := alike(v.Index(i), back.Index(i)); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
	case reflect.Map:
		return alikeMaps(v, back)
	}
	return nil
}

func alikeMaps(v, back reflect.Value) error {
	if marshals(v.Type()) {
		return nil
	}
	for entries := v.MapRange(); entries.Next(); {
		other := back.MapIndex(entries.Key())
		if !other.IsValid() {
			if k := entries.Key(); k.CanFloat() && k.Float() != k.Float() {
				continue // NaN is no key that can be looked up, before or after
			}
			return errMapKey
		}
		if err := alike(entries.Value(), other); err != nil {
			return fmt.Errorf("[%v]: %w", entries.Key(), err)
		}
	}
	return nil
}

func needsVerifier(t reflect.Type) bool { return holds(t, hasWill) }

// hasWill tells whether a type may refuse to read what was written: it has methods of its own, or is a time, of which not
// all years can be read.
func hasWill(t reflect.Type) bool { return !isTracked(t) && marshals(t) }

// verifierFor returns the verifier of a type, nil if none is needed.
func verifierFor(t reflect.Type) *verifier {
	if !needsVerifier(t) {
		return nil
	}
	v := &verifier{}
	holds(t, func(part reflect.Type) bool {
		v.own = v.own || hasWill(part) && part != reflect.TypeFor[time.Time]()
		if !marshals(part) {
			isPointer, isMap := part.Kind() == reflect.Pointer, part.Kind() == reflect.Map
			v.alike = v.alike || isPointer && needsVerifier(part.Elem()) || isMap && needsVerifier(part.Key())
		}
		return false
	})
	return v
}

// culprit finds the value within v that cannot be read back, with the path to it; nil when there is none.
func (w *whole) culprit(v reflect.Value, depth int) error {
	if depth > wire.MaxNesting || !v.IsValid() {
		return nil
	}
	if marshals(v.Type()) {
		return w.single(v)
	}
	step := func(name string, inner reflect.Value) error {
		if err := w.culprit(inner, depth+1); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		return w.culprit(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if g, err := parseTag(f); err != nil || g.skip || !f.IsExported() {
				continue
			}
			if err := step(f.Name, v.Field(i)); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := step(fmt.Sprintf("[%d]", i), v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			if err := step(fmt.Sprintf("[%v]", entries.Key()), entries.Value()); err != nil {
				return err
			}
		}
	}
	return nil
}

// single reads one value with methods of its own back.
func (w *whole) single(v reflect.Value) error {
	own, back := reflect.New(v.Type()).Elem(), reflect.New(v.Type()).Elem()
	own.Set(v)
	var first, second bytes.Buffer
	if err := w.codec.encode(&first, own); err != nil {
		return fmt.Errorf("a %v cannot be stored: %w", v.Type(), err)
	}
	if err := w.codec.decode(first.Bytes(), back); err != nil {
		return fmt.Errorf("a %v cannot be read back from what it is stored as: %w", v.Type(), err)
	}
	if err := w.codec.encode(&second, back); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		return fmt.Errorf("a %v: %w", v.Type(), errAnother)
	}
	return nil
}

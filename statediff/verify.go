package statediff

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/dserver-go/dserver/internal/wire"
)

// What a type's own methods write may not come back: they refuse it, or make something else of it. Then a state would be
// committed that nobody can read, or that is another one after a restart. So each value that was changed is read back
// first, if there is anything in its type with a will of its own.

// verifier says how values of a type are read back. It is nil for the types of which our codec decodes all that it
// encodes.
type verifier struct {
	own  bool // there are types with methods of their own: what comes back must encode to the same bytes
	loss loss // of pointers to what may be written as nothing, and of maps whose keys may come back as others
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
	again, err := e.again(d, d.buf.Bytes(), v)
	switch {
	case err != nil:
	case e.row.verify.own && !bytes.Equal(again, d.buf.Bytes()):
		err = errAnother
	default:
		return e.lost(v)
	}
	if inner := e.row.culprit(v, 0); inner != nil {
		return inner
	}
	return fmt.Errorf("what was stored could not be read again: %w", err)
}

func needsVerifier(t reflect.Type) bool { return holds(t, hasWill) }

// hasWill tells whether a type may refuse to read what was written: it has methods of its own, or is a time, of which not
// all years can be read.
func hasWill(t reflect.Type) bool { return !isTracked(t) && marshals(t) }

// verifierFor returns the verifier of values in which these types are, nil if none is needed.
func verifierFor(loss loss, types ...reflect.Type) *verifier {
	if !slices.ContainsFunc(types, needsVerifier) {
		return nil
	}
	hasMethods := func(part reflect.Type) bool { return hasWill(part) && part != reflect.TypeFor[time.Time]() }
	return &verifier{slices.ContainsFunc(types, func(t reflect.Type) bool { return holds(t, hasMethods) }), loss}
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
	first, err := w.codec.encoded(v)
	if err != nil {
		return fmt.Errorf("a %v cannot be stored: %w", v.Type(), err)
	}
	back := reflect.New(v.Type()).Elem()
	if err := w.codec.decode(first, back); err != nil {
		return fmt.Errorf("a %v cannot be read back from what it is stored as: %w", v.Type(), err)
	}
	if second, err := w.codec.encoded(back); err != nil || !bytes.Equal(first, second) {
		return fmt.Errorf("a %v: %w", v.Type(), errAnother)
	}
	return nil
}

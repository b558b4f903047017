package wire

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime/debug"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// Type is how values of one Go type are sent: encoded, and looked at as far as the type asks for it. It is immutable and
// safe for concurrent use.
type Type struct {
	typ    reflect.Type
	traits Traits
	err    error
}

var types sync.Map // reflect.Type -> *Type

// Of returns the Type of what v is.
func Of(t reflect.Type) *Type {
	if known, ok := types.Load(t); ok {
		return known.(*Type)
	}
	traits, err := Check(t, Rules{Recursive: true, Field: checkTag})
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		err = fmt.Errorf("%v%s: %w", t, refusal.Path, refusal.Why)
	}
	known, _ := types.LoadOrStore(t, &Type{t, traits, err})
	return known.(*Type)
}

// checkTag refuses a tag that has no effect in a message.
func checkTag(f reflect.StructField) error {
	if _, leftOut := nameOf(f); f.IsExported() && !leftOut && f.Tag.Get("dserver") == "-" {
		return fmt.Errorf("left out of a message by the tag `cbor:\"-\"`, not by `dserver:\"-\"`")
	}
	return nil
}

// Err is why values of the type are not sent, with the path to the field; nil when they are.
func (t *Type) Err() error { return t.err }

// Encode encodes a value of the type. A panic of a method that writes a part of it is an error, *Panic.
func (t *Type) Encode(v any) (data []byte, err error) {
	if t.err != nil {
		return nil, t.err
	}
	defer recovered(&err)
	if t.traits.Recursive {
		if err := Measure(reflect.ValueOf(v)); err != nil {
			return nil, err
		}
	}
	return messages.Marshal(v)
}

// Verify reports why a value that was encoded would not be read. It reads nothing of types that tell all by themselves.
func (t *Type) Verify(data []byte) (err error) {
	if err := t.weigh(data); err != nil {
		return err
	}
	switch {
	case t.traits.Own, t.traits.Keys, t.traits.Times && !haveFourDigits(data):
		defer recovered(&err)
		if err := strict.Unmarshal(data, reflect.New(t.typ).Interface()); err != nil {
			return fmt.Errorf("it would not be read again: %w", err)
		}
	case t.traits.Recursive || t.traits.Raw || t.traits.Depth > MaxNesting:
		if err := values.Wellformed(data); err != nil {
			return fmt.Errorf("it would not be read again: %w", err)
		}
	}
	return nil
}

// haveFourDigits reports whether the year of each time has: only those are read again. It looks for the tag of times
// wherever it may stand, so it may be wrong about bytes that look like one, and never about a time.
func haveFourDigits(data []byte) bool {
	for {
		_, after, found := bytes.Cut(data, []byte{0xc0})
		if !found {
			return true
		}
		text := 1
		if len(after) > 0 && after[0] == 0x78 { // a text of 24 bytes or more
			text = 2
		}
		if year := text + len("2006"); len(after) <= year || after[year] != '-' {
			return false
		}
		data = after
	}
}

// Decode reads a value into what the pointer points to. A panic of a method that reads a part of it is an error, *Panic.
func Decode(data []byte, into any) (err error) {
	defer recovered(&err)
	t := Of(reflect.TypeOf(into).Elem())
	if t.isLarge(data) {
		if err := cmp.Or(values.Wellformed(data), t.weigh(data)); err != nil {
			return err
		}
	}
	return values.Unmarshal(data, into)
}

// EncodeRecord encodes a record of plain fields.
func EncodeRecord(record any) ([]byte, error) { return written.Marshal(record) }

// DecodeRecord reads a record of the library, which may hold a value of the greatest depth.
func DecodeRecord(data []byte, into any) error { return records.Unmarshal(data, into) }

// RecordsIn decodes records that follow each other.
func RecordsIn(r io.Reader) *cbor.Decoder { return records.NewDecoder(r) }

// Salvage reads what it can of a record that DecodeRecord refuses for its depth.
func Salvage(data []byte, into any) error { return salvage.Unmarshal(data, into) }

// Panic is the panic of a method that a type writes or reads itself by.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprintf("a method of its type panicked: %v", p.Value) }

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &Panic{p, debug.Stack()}
	}
}

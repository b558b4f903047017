package statediff

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/internal/wire"
)

// whole is how a value becomes one CBOR value. Where a struct's tags ask for other names or fields than the CBOR
// library would take, its fields are copied into a struct that is made to measure.
type whole struct {
	codec   codec
	made    reflect.Type // nil when the value is encoded as it is
	from    [][]int      // the value's field for each of the first fields of made
	foreign int          // the number of further fields of made, which must not be there when it is read
	recurs  bool         // its parts may be nested as deep as anybody likes
	slot    int          // of the scratch space for made
	pointer bool         // to the struct whose fields are copied
	verify  *verifier    // nil when all that is written can be read back
	fill    filler
}

// whole checks the type and returns how it becomes one CBOR value.
func (c *compiler) whole(t reflect.Type) (*whole, error) {
	recurs, err := c.checkWhole(t, true)
	if err != nil {
		return nil, err
	}
	s := structOf(t)
	if s == nil {
		return c.direct(t, recurs), nil
	}
	list, all, err := c.fields(s)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		all = all && f.plain
	}
	if all {
		return c.direct(t, recurs), nil
	}
	w, err := c.copied(list)
	if err != nil {
		return nil, err
	}
	w.pointer, w.fill = t.Kind() == reflect.Pointer, fillerFor(t)
	return w, nil
}

func (c *compiler) direct(t reflect.Type, recurs bool) *whole {
	return &whole{codec: c.codec, recurs: recurs, verify: verifierFor(newLosses(c.codec).of(t), t), fill: fillerFor(t)}
}

// marker returns an empty row: a CBOR map without entries, whatever the value is.
func (c *compiler) marker() (*whole, error) { return c.copied(nil) }

// copied returns how some fields of a struct type become one CBOR value. Foreign are the names of its other fields:
// a value that has them is from a time when they were part of it, and is refused rather than read without them.
func (c *compiler) copied(list []field, foreign ...string) (*whole, error) {
	recurs, err := c.checkAll(list)
	if err != nil {
		return nil, err
	}
	w := &whole{codec: c.codec, recurs: recurs, slot: c.slot(), foreign: len(foreign)}
	fields := make([]reflect.StructField, len(list))
	var types []reflect.Type
	var lost []loss
	losses := newLosses(c.codec)
	for i, f := range list {
		fields[i] = madeField(i, f.typ, f.name)
		w.from = append(w.from, f.index)
		types = append(types, f.typ)
		lost = losses.appendField(lost, f.name, f.index, f.typ)
	}
	w.verify = verifierFor(all(lost), types...) // foreign fields are never written
	for _, name := range foreign {
		fields = append(fields, madeField(len(fields), reflect.TypeFor[cbor.RawMessage](), name+",omitempty"))
	}
	w.made = reflect.StructOf(fields)
	return w, nil
}

func madeField(i int, t reflect.Type, tag string) reflect.StructField {
	return reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: t, Tag: reflect.StructTag(fmt.Sprintf("cbor:%q", tag))}
}

// encodeZero returns the encoding of the zero value.
func (w *whole) encodeZero(t reflect.Type) ([]byte, error) {
	v := reflect.New(t).Elem()
	w.fill.fill(v)
	var buf bytes.Buffer
	if err := w.encode(&buf, v, w.scratch()); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (w *whole) scratch() reflect.Value {
	if w.made == nil {
		return reflect.Value{}
	}
	return reflect.New(w.made).Elem()
}

// encode appends v to buf. scratch is a value of the made type, left zero.
func (w *whole) encode(buf *bytes.Buffer, v, scratch reflect.Value) error {
	if w.made == nil {
		return w.write(buf, v)
	}
	if w.pointer {
		if v.IsNil() {
			return w.write(buf, v)
		}
		v = v.Elem()
	}
	for i, index := range w.from {
		scratch.Field(i).Set(v.FieldByIndex(index))
	}
	err := w.write(buf, scratch)
	scratch.SetZero()
	return err
}

// write appends what v is, all of it. What has no end, or is nested deeper than can be read, is refused.
func (w *whole) write(buf *bytes.Buffer, v reflect.Value) error {
	if !w.recurs {
		return w.codec.encode(buf, v)
	}
	if err := wire.Measure(v); err != nil {
		return err
	}
	at := buf.Len()
	if err := w.codec.encode(buf, v); err != nil {
		return err
	}
	return w.codec.dec.Wellformed(buf.Bytes()[at:])
}

// decode reads data into v.
func (w *whole) decode(data []byte, v reflect.Value) error {
	defer w.fill.fill(v)
	if w.made == nil {
		return w.codec.decode(data, v)
	}
	if w.pointer {
		if len(data) == 1 && data[0] == cborNull {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	made := reflect.New(w.made).Elem()
	if err := w.codec.decode(data, made); err != nil {
		return err
	}
	for i := range w.foreign {
		if made.Field(len(w.from)+i).Len() > 0 {
			return errKind
		}
	}
	for i, index := range w.from {
		v.FieldByIndex(index).Set(made.Field(i))
	}
	return nil
}

const cborNull = 0xf6

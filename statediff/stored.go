package statediff

import (
	"bytes"
	"reflect"

	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/internal/wire"
)

// This file compares a value with the row that is stored of it. The row may be another than that which this schema would
// write, and be unchanged all the same: a field was added to the type since, or a newer program, whose type has more
// fields, wrote it. So where the bytes differ, the stored ones are decoded and encoded again: that is their base, and only
// what differs from it was changed. What was changed is merged with what is stored (merge.go).
//
// A base costs a decoding, so Rows keep it: in most rows it is the value itself, which is known of what this schema wrote.

// diffRow compares the row of v.
func (e *entity) diffRow(d *differ, v reflect.Value) error {
	defer func() { d.sum = 0 }() // what else is set has none
	if i, known := d.isKnown(e, v); known {
		if d.rows.list[i].seen == d.epoch {
			return d.fail(errDuplicate)
		}
		d.meet(i)
		return nil
	}
	d.buf.Reset()
	if err := e.encode(&d.buf, d, v); err != nil {
		return d.fail(err)
	}
	isZero := e.presence == nonZero && bytes.Equal(d.buf.Bytes(), e.zero)
	i, found := d.find()
	switch {
	case found && d.rows.list[i].seen == d.epoch:
		return d.fail(errDuplicate)
	case found && d.isRow(i) && (!isZero || !d.rewrite):
		if err := e.lost(v); err != nil {
			return d.fail(err)
		}
		d.meet(i)
		if d.sum != 0 {
			d.index.learn(i, d.sum, len(d.rows.list))
		}
		return nil
	case !found && d.parted == 0:
		return e.write(d, v, isZero)
	}
	return e.change(d, v, isZero, i, found)
}

// isRow tells whether a row has the value in d.buf. One that may be the first of several is looked at by those who know.
func (d *differ) isRow(i int) bool {
	value := d.buf.Bytes()
	return d.rows.list[i].value() == string(value) && !mayBeFirstPart(value)
}

// encode appends the row of v to buf.
func (e *entity) encode(buf *bytes.Buffer, d *differ, v reflect.Value) error {
	if e.pointer {
		if v.IsNil() {
			buf.WriteByte(cborNull)
			return nil
		}
		v = v.Elem()
	}
	return e.row.encode(buf, v, d.made(e.row))
}

// write emits what is in d.buf, the encoding of v.
func (e *entity) write(d *differ, v reflect.Value, isZero bool) error {
	var err error
	switch verify := e.row.verify; {
	case verify == nil:
	case !isZero:
		err = e.comesBack(d, v)
	default: // there will be no row
		err = e.lost(v)
	}
	if err != nil {
		return d.fail(err)
	}
	if isZero {
		return nil
	}
	return d.emit(e)
}

// change compares d.buf, the encoding of v, with a row that has other bytes: row i, if it is found, or that from which the
// value was moved.
func (e *entity) change(d *differ, v reflect.Value, isZero bool, i int, found bool) error {
	if d.parted > 0 {
		i, found = d.searchOrigin()
	}
	if !found || e.isPlain(d, i) {
		return e.write(d, v, isZero)
	}
	stored, base, ok := e.baseOf(d, v, i)
	switch {
	case !ok:
	case d.parted == 0 && !d.rewrite && string(base) == d.buf.String():
		if err := e.lost(v); err != nil {
			return d.fail(err)
		}
		d.meetValue(i)
		return nil
	case e.carry(d, v, stored, base):
		d.merged = true
		err := d.emit(e)
		d.merged = false
		return err
	}
	return e.write(d, v, isZero)
}

// isPlain tells, at little cost, whether d.buf holds a change of row i that needs no base: what is stored is known to be
// its own base, or has nothing that d.buf does not have, and other numbers and texts in it.
func (e *entity) isPlain(d *differ, i int) bool {
	row := &d.rows.list[i]
	switch {
	case d.rewrite || d.parted > 0:
		return false
	case row.isBase():
		return true
	case e.row.verify != nil && e.row.verify.own || row.klen >= hasBase || mayBeFirstPart(row.value()):
		return false
	}
	d.spare.Reset()
	d.spare.WriteString(row.value())
	rest, _, ok := plainChange(d.spare.Bytes(), d.buf.Bytes(), wire.MaxNesting)
	return ok && len(rest) == 0
}

// forgetBase drops what is remembered of the large value at d.path, as its other rows may change and this one not.
func (d *differ) forgetBase() {
	if i, found := d.find(); found && (d.merged || !d.rows.list[i].isBase()) {
		d.rows.dropBase(i)
	}
}

// carry puts into d.buf what is stored and not known to this program, and reports whether there was anything.
func (e *entity) carry(d *differ, v reflect.Value, stored, base []byte) bool {
	next := bytes.Clone(d.buf.Bytes())
	merged := merge(stored, base, next)
	if bytes.Equal(merged, next) {
		return false
	}
	// A type's own methods may read it as something else than it was to be.
	again, err := e.again(d, merged, v)
	if err != nil || !bytes.Equal(again, next) {
		return false
	}
	if e.row.verify != nil && e.comesBack(d, v) != nil {
		return false // write says why
	}
	d.buf.Reset()
	d.buf.Write(merged)
	return true
}

// baseOf returns the value of which row i is the first, and what this schema makes of it; with Rewrite, what that of the
// older version does. It reports false when it cannot be read: then it is not what v was decoded from.
func (e *entity) baseOf(d *differ, v reflect.Value, i int) (stored, base []byte, ok bool) {
	if stored, ok = d.stored(d.rows, i); !ok {
		return nil, nil, false
	}
	if d.rewrite {
		base, ok = d.olderBase()
		return stored, base, ok
	}
	row := &d.rows.list[i]
	if row.isBase() {
		return stored, stored, true
	}
	if base, ok := row.base(); ok {
		return stored, []byte(base), true
	}
	again, err := e.again(d, stored, v)
	if err != nil {
		return nil, nil, false
	}
	if bytes.Equal(again, stored) {
		row.klen |= isBase
	} else {
		d.rows.setBase(i, again)
	}
	return stored, bytes.Clone(again), true
}

func (d *differ) olderBase() ([]byte, bool) {
	if d.older == nil {
		return nil, false
	}
	i, found := d.older.search(string(d.path))
	if !found {
		return nil, false
	}
	return d.stored(d.older, i)
}

// again decodes data as the row of a value like v, and encodes what it got. The encoding is valid until the next call.
func (e *entity) again(d *differ, data []byte, v reflect.Value) (encoded []byte, err error) {
	back := reflect.New(v.Type()).Elem()
	to := back
	if e.pointer {
		if isNull(data) {
			return data, nil
		}
		back.Set(reflect.New(v.Type().Elem()))
		to = back.Elem()
	}
	if err := e.row.decode(data, to); err != nil {
		return nil, err
	}
	d.spare.Reset()
	err = e.encode(&d.spare, d, back)
	return d.spare.Bytes(), err
}

// stored returns the value of which row i is the first, put together when it is large.
func (d *differ) stored(rows *Rows, i int) ([]byte, bool) {
	parts := [][]byte{[]byte(rows.list[i].value())}
	for _, part := range partsOf(rows, i) {
		parts = append(parts, []byte(rows.list[part].value()))
	}
	value, err := chunk.Join(parts)
	return value, err == nil
}

// partsOf returns the further rows of a large value, as far as they are there.
func partsOf(rows *Rows, i int) (parts []int) {
	first := &rows.list[i]
	if !mayBeFirstPart(first.value()) {
		return nil
	}
	count, err := chunk.Count([]byte(first.value()))
	for n := 1; n < count && err == nil; n++ {
		if part, found := rows.search(string(appendPart([]byte(first.key()), n))); found {
			parts = append(parts, part)
		}
	}
	return parts
}

// meetValue notes that the rows of a value are still there.
func (d *differ) meetValue(i int) {
	for _, part := range partsOf(d.rows, i) {
		d.meet(part)
	}
	d.meet(i)
}

// part begins an entry of a collection that is another than the rows at its key, d.path: one that was committed at the
// element from, or a new one.
func (d *differ) part(prefix, from string) {
	d.parted = len(d.path)
	d.apart = append(d.apart, string(d.path))
	if d.origin = ""; from != "" {
		d.origin = prefix + from
	}
}

// searchOrigin finds the row that d.path had where its entry was committed.
func (d *differ) searchOrigin() (int, bool) {
	if d.origin == "" {
		return 0, false
	}
	return d.rows.search(d.origin + string(d.path[d.parted:]))
}

// rejoin ends such an entry: rows below it that are not known move along.
func (d *differ) rejoin(keyLen int) error {
	origin := d.origin
	d.parted, d.origin = 0, ""
	if origin == "" {
		return nil
	}
	i, _ := d.rows.search(origin)
	for ; i < len(d.rows.list) && isBelow(d.rows.list[i].key(), origin); i++ {
		row := &d.rows.list[i]
		if d.schema.knows(row.key()) {
			continue
		}
		if err := d.set(string(d.path[:keyLen])+row.key()[len(origin):], []byte(row.value())); err != nil {
			return err
		}
	}
	return nil
}

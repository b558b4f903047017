package statediff

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/internal/tuple"
	"github.com/dserver-go/dserver/internal/wire"
)

// Generic returns the value of rows without its Go type, for people and tools: map[string]any for structs and maps,
// []any for lists in their order (a List is a map by place), and int64, uint64 (above the range of int64), float64, string, []byte, bool,
// time.Time and nil. Keys of maps that are no text become text: integers their decimal digits.
//
// What is zero has no row, so it is missing. An empty list that stands in another collection looks like an empty map.
// It fails when rows are damaged, with the path of the first.
func Generic(r *Rows) (any, error) {
	d := &decoder{list: r.list, buf: make([]byte, 0, 64)}
	if len(r.list) == 0 {
		return map[string]any{}, nil
	}
	g := generic{d, wire.Untyped()}
	return g.value(group{hi: len(r.list)})
}

// generic is the work of one Generic.
type generic struct {
	*decoder
	dec cbor.DecMode
}

// value is what the rows of a group are: a value at its key, values below it, or a value that is completed by those
// below it, as that of a struct which holds maps.
func (d generic) value(g group) (any, error) {
	data, rest, err := d.own(g)
	if err != nil {
		return nil, err
	}
	var own any
	if data != nil {
		if own, err = d.decode(data); err != nil {
			return nil, d.fail(g, err)
		}
	}
	if rest.lo == rest.hi {
		return own, nil
	}
	if d.isList(rest) {
		return d.listOf(rest)
	}
	return d.mapOf(rest, own)
}

// decode reads one CBOR value. Maps whose keys are no Go keys, as arrays are none here, are shown in CBOR's own notation.
func (d generic) decode(data []byte) (any, error) {
	var v any
	err := d.dec.Unmarshal(data, &v)
	if err == nil {
		return plain(v), nil
	}
	if text, failed := cbor.Diagnose(data); failed == nil {
		return text, nil
	}
	return nil, err
}

// isList recognizes the items of a list by their places, which follow their rows. (Without a row ahead of it, it is the
// length of a Map or List.)
func (d generic) isList(g group) bool {
	for below := range d.groups(g) {
		next := below.lo + 1
		if next < below.hi && len(d.key(below)) == d.list[below.lo].keyLen() && d.list[next].key()[below.klen:] == orderElement {
			return true
		}
	}
	return false
}

func (d generic) listOf(g group) (any, error) {
	items := d.items(g)
	values := make([]any, len(items))
	for i, it := range items {
		v, err := d.value(it.group)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

// mapOf adds what is below a key to the map at the key. A value there that is no map should not be: it is shown too.
func (d generic) mapOf(g group, own any) (any, error) {
	m, ok := own.(map[string]any)
	if !ok {
		m = map[string]any{}
		if own != nil {
			m[""] = own
		}
	}
	for below := range d.groups(g) {
		if d.element(below, g) == countElement {
			continue // the length of a Map or List
		}
		v, err := d.value(below)
		if err != nil {
			return nil, err
		}
		m[elementText(d.element(below, g))] = v
	}
	return m, nil
}

// elementText is a tuple element as the key of a map.
func elementText(element string) string {
	e, _, err := tuple.Next([]byte(element))
	if err != nil {
		return strconv.Quote(element)
	}
	return keyText(e)
}

func keyText(key any) string {
	switch k := key.(type) {
	case string:
		return strings.Clone(k)
	case cbor.ByteString:
		return string(k)
	case []byte:
		return string(k)
	}
	return fmt.Sprint(key)
}

// plain turns what the CBOR library returns into the kinds of value that Generic promises.
func plain(v any) any {
	switch v := v.(type) {
	case map[any]any:
		m := make(map[string]any, len(v))
		for key, entry := range v {
			m[keyText(plain(key))] = plain(entry)
		}
		return m
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case uint64:
		if v <= math.MaxInt64 {
			return int64(v)
		}
	case cbor.ByteString:
		return []byte(v)
	case cbor.Tag:
		return plain(v.Content)
	case big.Int:
		return v.String()
	case cbor.SimpleValue:
		return int64(v)
	}
	return v
}

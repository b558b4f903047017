package statediff

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/dserver-go/dserver/internal/tuple"
)

// key is how a map's keys, or a list's ids, become tuple elements and come back.
type key struct {
	encode func(dst []byte, v reflect.Value) ([]byte, error)
	decode func(element string, v reflect.Value) error
	own    bool // by methods of the type's own
}

// keyFor returns nil for types that cannot be part of a row's key: floats, structs and the like.
func keyFor(t reflect.Type) *key {
	if marshals(t) {
		if p := reflect.PointerTo(t); p.Implements(reflect.TypeFor[encoding.TextMarshaler]()) &&
			p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return &key{encodeText, decodeText, t.PkgPath() != "net/netip"}
		}
		return nil
	}
	switch t.Kind() {
	case reflect.String:
		return &key{encode: encodeString, decode: decodeString}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &key{encode: encodeInt, decode: decodeInt}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &key{encode: encodeUint, decode: decodeUint}
	}
	return nil
}

// comesBack reports why a key is not the same one when it is read back, which methods of its type decide (own). One of a
// plain map must be equal, or a handler would find it before a restart and not after it.
func (k *key) comesBack(element string, v reflect.Value, isEqual bool) error {
	back := reflect.New(v.Type()).Elem()
	if err := k.decode(element, back); err != nil {
		return fmt.Errorf("the key cannot be read back: %w", err)
	}
	if isEqual && !back.Equal(v) {
		return errMapKey
	}
	again, err := k.encode(nil, back)
	if err != nil || string(again) != element {
		return fmt.Errorf("the key comes back as %s: %w", Path(string(again)), errAnother)
	}
	return nil
}

func encodeString(dst []byte, v reflect.Value) ([]byte, error) {
	return tuple.AppendString(dst, v.String()), nil
}

func encodeInt(dst []byte, v reflect.Value) ([]byte, error) {
	return tuple.AppendInt(dst, v.Int()), nil
}

func encodeUint(dst []byte, v reflect.Value) ([]byte, error) {
	return tuple.AppendUint(dst, v.Uint()), nil
}

func encodeText(dst []byte, v reflect.Value) ([]byte, error) {
	text, err := v.Addr().Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return nil, err
	}
	return tuple.AppendString(dst, string(text)), nil
}

func errKey(element string, v reflect.Value) error {
	return fmt.Errorf("the key %s does not fit %v", Path(element), v.Type())
}

func text(element string, v reflect.Value) (string, error) {
	if isRubbish(element) || element[0] != codeString {
		return "", errKey(element, v)
	}
	return strings.ReplaceAll(element[1:len(element)-1], "\x00\xff", "\x00"), nil
}

func decodeString(element string, v reflect.Value) error {
	s, err := text(element, v)
	v.SetString(strings.Clone(s))
	return err
}

func decodeText(element string, v reflect.Value) error {
	s, err := text(element, v)
	if err != nil {
		return err
	}
	return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
}

func integer(element string, v reflect.Value) (any, error) {
	if isRubbish(element) {
		return nil, errKey(element, v)
	}
	i, _, err := tuple.Next([]byte(element))
	return i, err
}

func decodeInt(element string, v reflect.Value) error {
	i, err := integer(element, v)
	if err != nil {
		return err
	}
	n, ok := i.(int64)
	if !ok || v.OverflowInt(n) {
		return errKey(element, v)
	}
	v.SetInt(n)
	return nil
}

func decodeUint(element string, v reflect.Value) error {
	i, err := integer(element, v)
	if err != nil {
		return err
	}
	n, ok := i.(uint64)
	if small, isInt := i.(int64); isInt && small >= 0 {
		n, ok = uint64(small), true
	}
	if !ok || v.OverflowUint(n) {
		return errKey(element, v)
	}
	v.SetUint(n)
	return nil
}

package tenant

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/dserver-go/dserver/internal/wire"
)

// Headers are string pairs that travel with a message: beside its body, and no part of what it says. They are never
// changed once they are made, so messages share them. None of them has an empty value.
type Headers map[string]string

// What bounds the headers of one message. An item of the queue has room for them beside the largest body.
const (
	MaxHeaders     = 64
	MaxHeaderKey   = 256
	MaxHeaderValue = 4 << 10
	MaxHeaderBytes = 16 << 10 // of all keys and values
)

// CheckHeader says what is wrong with one header.
func CheckHeader(key, value string) error {
	switch {
	case key == "" || len(key) > MaxHeaderKey:
		return fmt.Errorf("dserver: a header's key has 1 to %d bytes, not %d", MaxHeaderKey, len(key))
	case !utf8.ValidString(key):
		return fmt.Errorf("dserver: the header's key %q is no UTF-8", key)
	case len(value) > MaxHeaderValue:
		return fmt.Errorf("dserver: the value of the header %q has %d bytes; at most %d", key, len(value), MaxHeaderValue)
	case !utf8.ValidString(value):
		return fmt.Errorf("dserver: the value of the header %q is no UTF-8", key)
	}
	return nil
}

// Check says what is wrong with the headers of one message.
func (h Headers) Check() error {
	if len(h) > MaxHeaders {
		return fmt.Errorf("dserver: a message with %d headers; at most %d", len(h), MaxHeaders)
	}
	bytes := 0
	for key, value := range h {
		if err := CheckHeader(key, value); err != nil {
			return err
		}
		bytes += len(key) + len(value)
	}
	if bytes > MaxHeaderBytes {
		return fmt.Errorf("dserver: the headers of a message have %d bytes; at most %d", bytes, MaxHeaderBytes)
	}
	return nil
}

// With is the headers with others put over them. An empty value takes a header away. Neither is changed.
func (h Headers) With(over Headers) Headers {
	if len(over) == 0 {
		return h
	}
	all := make(Headers, len(h)+len(over))
	maps.Copy(all, h)
	maps.Copy(all, over)
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

// appendHeaders writes the field of an envelope, in the order of the keys: the same headers are always the same bytes.
func appendHeaders(b []byte, name string, h Headers) []byte {
	if len(h) == 0 {
		return b
	}
	b = wire.AppendHead(wire.AppendText(b, name), 0xa0, uint64(len(h)))
	for _, key := range slices.Sorted(maps.Keys(h)) {
		b = wire.AppendText(wire.AppendText(b, key), h[key])
	}
	return b
}

package statediff

import (
	"bytes"
	"reflect"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/internal/wire"
)

// codec turns Go values into CBOR and back. Encoding is deterministic, so that an unchanged value gives identical bytes;
// nil and empty slices and maps are the same; decoding accepts all that encoding writes.
type codec struct {
	enc cbor.UserBufferEncMode
	dec cbor.DecMode
}

func newCodec() codec { return codec{enc: wire.States(), dec: wire.StateDecoder()} }

// encode appends the value, which is addressable, to buf.
func (c codec) encode(buf *bytes.Buffer, v reflect.Value) error {
	return c.enc.MarshalToBuffer(v.Addr().Interface(), buf)
}

// encoded encodes a value that need not be addressable.
func (c codec) encoded(v reflect.Value) ([]byte, error) {
	own := reflect.New(v.Type()).Elem()
	own.Set(v)
	var buf bytes.Buffer
	err := c.encode(&buf, own)
	return buf.Bytes(), err
}

// decode reads data into the value, which is addressable and zero.
func (c codec) decode(data []byte, v reflect.Value) error {
	return c.dec.Unmarshal(data, v.Addr().Interface())
}

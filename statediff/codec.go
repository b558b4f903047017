package statediff

import (
	"bytes"
	"fmt"
	"math"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// maxNesting is how deep one CBOR value may be nested when it is read. Go types without cycles do not come near it.
const maxNesting = 256

// codec turns Go values into CBOR and back. Encoding is deterministic, so that an unchanged value gives identical bytes;
// nil and empty slices and maps are the same; decoding accepts all that encoding writes.
type codec struct {
	enc cbor.UserBufferEncMode
	dec cbor.DecMode
}

func newCodec() (codec, error) {
	options := cbor.CoreDetEncOptions()
	// UTC, because a zone's offset is cut to minutes in this format, and dates before standard time would shift.
	options.Time = cbor.TimeRFC3339NanoUTC
	options.TimeTag = cbor.EncTagRequired
	options.NilContainers = cbor.NilContainerAsEmpty
	options.ByteArray = cbor.ByteArrayToByteSlice
	options.TextMarshaler = cbor.TextMarshalerTextString
	enc, err := options.UserBufferEncMode()
	if err != nil {
		return codec{}, fmt.Errorf("statediff: encoding options: %w", err)
	}
	dec, err := cbor.DecOptions{
		MaxNestedLevels:   maxNesting,
		MaxArrayElements:  math.MaxInt32,
		MaxMapPairs:       math.MaxInt32,
		UTF8:              cbor.UTF8DecodeInvalid, // a Go string may hold any bytes
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		TextUnmarshaler:   cbor.TextUnmarshalerTextString,
	}.DecMode()
	if err != nil {
		return codec{}, fmt.Errorf("statediff: decoding options: %w", err)
	}
	return codec{enc: enc, dec: dec}, nil
}

// encode appends the value, which is addressable, to buf.
func (c codec) encode(buf *bytes.Buffer, v reflect.Value) error {
	return c.enc.MarshalToBuffer(v.Addr().Interface(), buf)
}

// decode reads data into the value, which is addressable and zero.
func (c codec) decode(data []byte, v reflect.Value) error {
	return c.dec.Unmarshal(data, v.Addr().Interface())
}

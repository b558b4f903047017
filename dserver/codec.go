package dserver

import (
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// maxElements bounds arrays and maps of a message; its 4 MiB are the limit that is met first.
const maxElements = 8 << 20

var (
	encoder = newEncoder()
	decoder = newDecoder()
)

// newEncoder makes the encoding of messages and replies: times to the nanosecond and tagged, so that they are times
// again when they are read without a Go type.
func newEncoder() cbor.EncMode {
	mode, err := cbor.EncOptions{
		Time:          cbor.TimeRFC3339NanoUTC,
		TimeTag:       cbor.EncTagRequired,
		ByteArray:     cbor.ByteArrayToByteSlice,
		TextMarshaler: cbor.TextMarshalerTextString,
	}.EncMode()
	if err != nil {
		panic("dserver: encoding: " + err.Error())
	}
	return mode
}

// newDecoder makes the decoding. Go strings need not be UTF-8, so what could be sent is also taken back.
func newDecoder() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DefaultMapType:   reflect.TypeFor[map[string]any](),
		MaxArrayElements: maxElements,
		MaxMapPairs:      maxElements,
		MaxNestedLevels:  256,
		UTF8:             cbor.UTF8DecodeInvalid,
		TextUnmarshaler:  cbor.TextUnmarshalerTextString,
	}.DecMode()
	if err != nil {
		panic("dserver: decoding: " + err.Error())
	}
	return mode
}

package wire

import (
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// The CBOR library's modes. They are immutable and safe for concurrent use.
var (
	messages = encodingMode(cbor.EncOptions{Sort: cbor.SortBytewiseLexical}) // the same message is always the same bytes
	written  = encodingMode(cbor.EncOptions{})                               // records, in the order of their fields

	// What was sent is read with the program's types, what is read back has to be unambiguous too.
	values  = decodingMode(MaxNesting, cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any]()})
	strict  = decodingMode(MaxNesting, cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF})
	records = decodingMode(recordNesting, cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any]()})
	salvage = decodingMode(salvageNesting, cbor.DecOptions{})
)

// encodingMode completes options: times to the nanosecond and tagged, so that they are times again when they are read
// without a Go type; in UTC, because a zone's offset is cut to minutes in this format, and dates before standard time
// would shift.
func encodingMode(o cbor.EncOptions) cbor.UserBufferEncMode {
	o.Time = cbor.TimeRFC3339NanoUTC
	o.TimeTag = cbor.EncTagRequired
	o.ByteArray = cbor.ByteArrayToByteSlice
	o.TextMarshaler = cbor.TextMarshalerTextString
	mode, err := o.UserBufferEncMode()
	if err != nil {
		panic(fmt.Sprintf("wire: encoding: %v", err))
	}
	return mode
}

// decodingMode completes options. Go strings need not be UTF-8, so what could be sent is also taken back.
func decodingMode(nesting int, o cbor.DecOptions) cbor.DecMode {
	o.MaxNestedLevels = nesting
	o.MaxArrayElements = maxElements
	o.MaxMapPairs = maxElements
	o.UTF8 = cbor.UTF8DecodeInvalid
	o.TextUnmarshaler = cbor.TextUnmarshalerTextString
	mode, err := o.DecMode()
	if err != nil {
		panic(fmt.Sprintf("wire: decoding: %v", err))
	}
	return mode
}

// States is how parts of a state are encoded: the same value gives the same bytes, and nil and empty slices and maps
// are the same.
func States() cbor.UserBufferEncMode { return states }

// StateDecoder reads what States has written.
func StateDecoder() cbor.DecMode { return stateValues }

// Untyped reads a value without its Go type.
func Untyped() cbor.DecMode { return untyped }

var (
	states      = encodingMode(deterministic())
	stateValues = decodingMode(MaxNesting, cbor.DecOptions{FieldNameMatching: cbor.FieldNameMatchingCaseSensitive})
	untyped     = decodingMode(MaxNesting, cbor.DecOptions{})
)

func deterministic() cbor.EncOptions {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	return o
}

package display

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// How much a message may have.
const (
	maxElements = 8 << 20 // of an array or a map
	maxNesting  = 256
)

// decoder reads messages without their types. It takes whatever a program could send.
var decoder = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		MaxArrayElements: maxElements,
		MaxMapPairs:      maxElements,
		MaxNestedLevels:  maxNesting,
		UTF8:             cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic("dserver: " + err.Error()) // the options above are wrong
	}
	return mode
}()

// Decode turns a message's CBOR into what JSON can say.
func Decode(body []byte) (any, error) {
	var v any
	if err := decoder.Unmarshal(body, &v); err != nil {
		return nil, err
	}
	return Plain(v), nil
}

// Unmarshal reads a message's CBOR into a value, with the limits of messages.
func Unmarshal(body []byte, into any) error { return decoder.Unmarshal(body, into) }

// Plain replaces what JSON cannot say: bytes become base64, times and odd numbers text, and all keys text.
func Plain(v any) any {
	switch v := v.(type) {
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case cbor.ByteString:
		return base64.StdEncoding.EncodeToString([]byte(v))
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case big.Int:
		return json.Number(v.String())
	case string:
		return plainText(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
	case cbor.SimpleValue:
		return fmt.Sprintf("simple(%d)", v)
	case cbor.Tag:
		return map[string]any{"tag": v.Number, "content": Plain(v.Content)}
	case []any:
		all := make([]any, len(v))
		for i, e := range v {
			all[i] = Plain(e)
		}
		return all
	case map[any]any:
		return plainMap(v)
	case map[string]any:
		return plainMap(v)
	}
	return v
}

func plainMap[K comparable](m map[K]any) map[string]any {
	all := make(map[string]any, len(m))
	for k, e := range m {
		all[keyText(k)] = Plain(e)
	}
	return all
}

// notText is the only key of an object that stands for text that is no UTF-8, in base64: JSON cannot say it.
const notText = "text that is no UTF-8"

func plainText(s string) any {
	if utf8.ValidString(s) {
		return s
	}
	return map[string]any{notText: base64.StdEncoding.EncodeToString([]byte(s))}
}

// keyText is a key of an object for a key of a map.
func keyText(k any) string {
	if s, ok := k.(string); ok {
		return JSONText(s)
	}
	return fmt.Sprint(Plain(k))
}

// Compact is a value on one line.
func Compact(v any) string { return encode(v, "") }

// Indented is a value on many lines.
func Indented(v any) string { return encode(v, "  ") }

func encode(v any, indent string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return fmt.Sprintf("%v (%v)", v, err)
	}
	return escapeJSON(string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))))
}

// Shorten cuts a text for a column.
func Shorten(s string, runes int) string {
	r := []rune(s)
	if len(r) <= runes {
		return s
	}
	return string(r[:runes-1]) + "…"
}

// Readable is a body as JSON can say it, or its bytes when it is no CBOR.
func Readable(body []byte) (v any, raw []byte) {
	v, err := Decode(body)
	if err != nil {
		return nil, body
	}
	return v, nil
}

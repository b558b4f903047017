package display

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// encoder writes messages as the library does.
var encoder = func() cbor.EncMode {
	mode, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano, TimeTag: cbor.EncTagRequired}.EncMode()
	if err != nil {
		panic("dserver: " + err.Error()) // the options above are wrong
	}
	return mode
}()

// Encode turns JSON into CBOR. JSON has fewer types, so the old body tells what is meant: text is bytes or a time
// where the old body has them.
func Encode(text, old []byte) ([]byte, error) {
	edited, err := decodeJSON(text)
	if err != nil {
		return nil, err
	}
	var was any
	if err := decoder.Unmarshal(old, &was); err != nil {
		was = nil // it was damaged, and tells nothing
	}
	meant, err := like(was, edited)
	if err != nil {
		return nil, err
	}
	return encoder.Marshal(meant)
}

// like gives an edited value the types of the old one.
func like(was, edited any) (any, error) {
	switch e := edited.(type) {
	case json.Number:
		return number(e)
	case string:
		return likeText(was, e)
	case []any:
		old, _ := was.([]any)
		for i := range e {
			var before any
			if i < len(old) {
				before = old[i]
			} else if len(old) > 0 {
				before = old[0] // a new element is like the others
			}
			v, err := like(before, e[i])
			if err != nil {
				return nil, err
			}
			e[i] = v
		}
	case map[string]any:
		if raw, ok := e[notText].(string); ok && len(e) == 1 {
			b, err := base64.StdEncoding.DecodeString(raw)
			return string(b), err
		}
		return likeMap(was, e)
	}
	return edited, nil
}

func likeText(was any, s string) (any, error) {
	switch was.(type) {
	case []byte:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, fmt.Errorf("%q stands for bytes, but is not base64: %w", s, err)
		}
		return b, nil
	case time.Time:
		return time.Parse(time.RFC3339Nano, s)
	}
	return s, nil
}

func likeMap(was any, e map[string]any) (any, error) {
	old, _ := was.(map[any]any)
	keys := make(map[string]any, len(old)) // as they were, by their text
	for k := range old {
		keys[keyText(k)] = k
	}
	all := make(map[any]any, len(e))
	for text, v := range e {
		key, ok := keys[text]
		if !ok {
			key = keyLike(old, text)
		}
		meant, err := like(old[key], v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		all[key] = meant
	}
	return all, nil
}

// keyLike is a key that was not there: a number where the others are.
func keyLike(old map[any]any, text string) any {
	for k := range old {
		switch k.(type) {
		case int64, uint64:
			if n, err := number(json.Number(text)); err == nil {
				return n
			}
		}
	}
	return text
}

func number(n json.Number) (any, error) {
	if i, err := strconv.ParseInt(n.String(), 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return u, nil
	}
	if b, ok := new(big.Int).SetString(n.String(), 10); ok {
		return *b, nil
	}
	return n.Float64()
}

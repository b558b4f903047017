package display

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// StateValue reads what is to be in a place of a state, as JSON, like what was there.
func StateValue(text []byte, was any) (any, error) {
	v, err := decodeJSON(text)
	if err != nil {
		return nil, err
	}
	if v, err = like(untyped(was), v); err != nil {
		return nil, err
	}
	return typed(was, v), nil
}

// untyped is a value of a state with the maps that a message has.
func untyped(v any) any {
	switch v := v.(type) {
	case map[string]any:
		all := make(map[any]any, len(v))
		for key, e := range v {
			all[key] = untyped(e)
		}
		return all
	case []any:
		all := make([]any, len(v))
		for i, e := range v {
			all[i] = untyped(e)
		}
		return all
	}
	return v
}

// typed is a value with the maps that a state has, and floating-point numbers where there were.
func typed(was, v any) any {
	switch v := v.(type) {
	case map[any]any:
		old, _ := was.(map[string]any)
		all := make(map[string]any, len(v))
		for key, e := range v {
			name := keyText(key)
			all[name] = typed(old[name], e)
		}
		return all
	case []any:
		old, _ := was.([]any)
		for i := range v {
			var before any
			if len(old) > 0 {
				before = old[min(i, len(old)-1)]
			}
			v[i] = typed(before, v[i])
		}
		return v
	case int64:
		if _, isFloat := was.(float64); isFloat {
			return float64(v)
		}
	case time.Time:
		return v.UTC()
	}
	return v
}

// decodeJSON reads one value.
func decodeJSON(text []byte) (v any, err error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if d.More() {
		return nil, errors.New("not JSON: something follows it")
	}
	return v, nil
}

package main

import (
	"maps"
	"slices"
)

// jsonHeaders is a message's headers as JSON can say them; nil when it has none.
func jsonHeaders(headers map[string]string) map[string]string {
	if len(headers) == 0 {
		return nil
	}
	all := make(map[string]string, len(headers))
	for key, value := range headers {
		all[jsonName(key)] = jsonText(value)
	}
	return all
}

// headerFields is a line for each header, in the order of their keys.
func headerFields(headers map[string]string) (fields []field) {
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		fields = append(fields, field{"header", quoted(key) + ": " + headers[key]})
	}
	return fields
}

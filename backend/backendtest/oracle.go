package backendtest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/dserver-go/dserver/backend"
)

// oracle is what a store should hold, as a plain map: the second opinion, by which the model is tested too.
type oracle map[string]string

// apply does a transaction that had the version stamp and returns what its reads should have seen.
func (m oracle) apply(os ops, stamp backend.Versionstamp) []string {
	results, appends := make([]string, len(os)), 0
	for i, o := range os {
		switch o.verb {
		case opGet:
			results[i] = m.get(o.key)
		case opGetRange:
			results[i] = m.list(o.where, o.options)
		case opSet:
			m[string(o.key)] = o.value
		case opClear:
			maps.DeleteFunc(m, func(key, _ string) bool { return o.where.Contains(backend.Key(key)) })
		case opAdd:
			n, _ := backend.Counter([]byte(m[string(o.key)]))
			m[string(o.key)] = string(backend.CounterValue(n + o.delta))
		case opAppend:
			m[string(o.key.Stamp(stamp.Plus(appends)))] = o.value
			appends++
		case opStamp:
			m[string(o.key)] = string(stamp[:])
		}
	}
	return results
}

func (m oracle) get(key backend.Key) string {
	if value, ok := m[string(key)]; ok {
		return fmt.Sprintf("%q", value)
	}
	return absent
}

func (m oracle) list(where backend.Range, o backend.RangeOptions) string {
	keys := slices.Sorted(maps.Keys(m))
	if o.Reverse {
		slices.Reverse(keys)
	}
	var found []backend.KeyValue
	bytes := 0
	for _, key := range keys {
		full := o.Limit > 0 && len(found) == o.Limit || o.Bytes > 0 && bytes >= o.Bytes
		if where.Contains(backend.Key(key)) && !full {
			found = append(found, backend.KeyValue{Key: backend.Key(key), Value: []byte(m[key])})
			bytes += len(key) + len(m[key])
		}
	}
	return shownPairs(found)
}

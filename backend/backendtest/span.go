package backendtest

import (
	"cmp"
	"slices"
	"sort"

	"github.com/dserver-go/dserver/backend"
)

// span is the keys from begin up to and not including end.
type span struct{ begin, end string }

func spanOf(r backend.Range) span { return span{string(r.Begin), string(r.End)} }

func only(key string) span { return span{key, key + "\x00"} }

func (s span) empty() bool { return s.begin >= s.end }

func (s span) overlaps(o span) bool { return s.begin < o.end && o.begin < s.end }

// spans are ranges that were read, or changed.
type spans []span

// normal returns the same keys as ranges in order that do not overlap.
func (s spans) normal() spans {
	ordered := slices.SortedFunc(slices.Values(s), func(a, b span) int { return cmp.Compare(a.begin, b.begin) })
	merged := ordered[:0]
	for _, next := range ordered {
		switch last := len(merged) - 1; {
		case next.empty():
		case last >= 0 && next.begin <= merged[last].end:
			merged[last].end = max(merged[last].end, next.end)
		default:
			merged = append(merged, next)
		}
	}
	return merged
}

// overlap reports whether s, which is normal, has a key of o.
func (s spans) overlap(o span) bool {
	first := sort.Search(len(s), func(i int) bool { return s[i].end > o.begin })
	return first < len(s) && !o.empty() && s[first].begin < o.end
}

// overlapAny is overlap for spans that are not normal.
func (s spans) overlapAny(o span) bool {
	return !o.empty() && slices.ContainsFunc(s, o.overlaps)
}

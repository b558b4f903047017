package backendtest

import (
	"cmp"
	"slices"
	"sort"

	"github.com/tidwall/btree"

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

// spanSet is keys that grow in number one span at a time. The zero value is empty.
type spanSet struct{ ends btree.Map[string, string] } // of spans that do not overlap, by their begins

// add adds the keys of a span, which is not empty. Those that it overlaps become a part of it.
func (s *spanSet) add(o span) {
	for last, ok := s.before(o.end); ok && last.end >= o.begin; last, ok = s.before(o.end) {
		s.ends.Delete(last.begin)
		o = span{min(o.begin, last.begin), max(o.end, last.end)}
	}
	s.ends.Set(o.begin, o.end)
}

func (s *spanSet) overlap(o span) bool {
	last, ok := s.before(o.end)
	return ok && !o.empty() && last.end > o.begin
}

// before is the last span that begins before key.
func (s *spanSet) before(key string) (last span, ok bool) {
	s.ends.Descend(key, func(begin, end string) bool {
		last, ok = span{begin, end}, begin < key
		return !ok
	})
	return last, ok
}

package statediff

import "sort"

// The order of a list is kept by labels. They are far apart, so an item that is inserted or moved gets one between its
// neighbours' and nobody else's changes. Where there is no room left, a few labels around are spaced anew. So labels
// never take more than 16 bytes, however the list came about.
const (
	labelGap  = 1 << 32 // in units of 2^-64: between neighbours at the ends of a list; room for 2 billion on either side
	labelRoom = 1 << 40 // times the square of their number, in units of 2^-128: the least gap after spacing anew
)

// place is where an item stands in its list.
type place struct {
	label   label
	labeled bool
	changed bool
}

// parsePlace returns an unlabeled place for anything that is no label.
func parsePlace(value string) place {
	l, ok := parseLabel(value)
	return place{label: l, labeled: ok}
}

// compare puts unlabeled places behind the others.
func (p place) compare(q place) int {
	if p.labeled != q.labeled {
		if p.labeled {
			return -1
		}
		return 1
	}
	return p.label.compare(q.label)
}

// arrange changes as few labels as it can so that all places have one and they ascend.
func arrange(places []place) {
	keepLongest(places)
	for i := 0; i < len(places); i++ {
		if places[i].labeled {
			continue
		}
		hi := nextLabeled(places, i)
		space(places, i-1, hi)
		i = hi
	}
}

func nextLabeled(places []place, i int) int {
	for i < len(places) && !places[i].labeled {
		i++
	}
	return i
}

// space labels the places between lo and hi. When they don't fit, it widens the stretch until there is room to spare.
// The longer the stretch, the more room it must find, or else it would be as full again soon: that is what keeps the
// number of changes per insert small on average (a list-labeling structure; Bender and others, 2002).
func space(places []place, lo, hi int) {
	for least := (label{0, 1}); stepOf(places, lo, hi).compare(least) < 0 && (lo >= 0 || hi < len(places)); {
		lo = max(lo-1, -1)
		hi = nextLabeled(places, min(hi+1, len(places)))
		n := uint64(hi - lo)
		least = label{0, labelRoom}.times(n).times(n)
	}
	step := stepOf(places, lo, hi).round()
	next := firstOf(places, lo, hi, step)
	for i := lo + 1; i < hi; i++ {
		p := &places[i]
		p.changed = p.changed || !p.labeled || p.label != next
		p.label, p.labeled = next, true
		next = next.plus(step)
	}
}

// stepOf returns how far apart the places between lo and hi can be.
func stepOf(places []place, lo, hi int) label {
	count := uint64(hi - lo)
	switch {
	case lo < 0 && hi == len(places):
		return label{labelGap, 0}.min(label{1 << 63, 0}.over(count))
	case lo < 0:
		return label{labelGap, 0}.min(places[hi].label.over(count))
	case hi == len(places):
		return label{labelGap, 0}.min(labelEnd().minus(places[lo].label).over(count))
	}
	return places[hi].label.minus(places[lo].label).over(count)
}

// firstOf returns the label of the first place between lo and hi. An empty list begins in the middle.
func firstOf(places []place, lo, hi int, step label) label {
	switch {
	case lo >= 0:
		return places[lo].label.plus(step)
	case hi == len(places):
		return label{1 << 63, 0}
	}
	return places[hi].label.minus(step.times(uint64(hi)))
}

// keepLongest takes the labels of the fewest places so that the remaining ones ascend: it keeps a longest ascending
// subsequence, so that moving one item of a list changes one label.
func keepLongest(places []place) {
	if ascends(places) {
		return
	}
	best := make([]int32, 0, len(places)) // best[k]: the place with the smallest label that ends k+1 ascending ones
	before := make([]int32, len(places))  // the place before it there
	for i, p := range places {
		if !p.labeled {
			continue
		}
		k := sort.Search(len(best), func(k int) bool { return places[best[k]].label.compare(p.label) >= 0 })
		before[i] = -1
		if k > 0 {
			before[i] = best[k-1]
		}
		if k == len(best) {
			best = append(best, 0)
		}
		best[k] = int32(i)
	}
	keep := best[len(best)-1]
	for i := len(places) - 1; i >= 0; i-- {
		if int32(i) == keep {
			keep = before[i]
		} else if places[i].labeled {
			places[i].labeled, places[i].changed = false, true
		}
	}
}

func ascends(places []place) bool {
	last := label{}
	for _, p := range places {
		if p.labeled {
			if p.label.compare(last) <= 0 {
				return false
			}
			last = p.label
		}
	}
	return true
}

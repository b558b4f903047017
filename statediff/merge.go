package statediff

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"

	"github.com/dserver-go/dserver/internal/wire"
)

// A stored value may hold what this program does not know: fields that a newer one has added to a struct inside of it.
// merge carries them over into what this program writes in its place. It compares three encodings,
//
//	stored   what is there
//	base     what this program understood of it: stored, decoded and encoded again
//	next     what it is to be
//
// and takes of each part what was changed. The parts of maps, structs included, are found by their keys: one that is
// stored and not in the base was not known, and stays as long as the map that holds it. For arrays see elements.
func merge(stored, base, next []byte) []byte {
	switch {
	case bytes.Equal(base, next):
		return stored
	case bytes.Equal(stored, base):
		return next
	}
	switch major(next) {
	case cborMap:
		return mergeMaps(stored, base, next)
	case cborArray:
		return mergeArrays(stored, base, next)
	}
	return next
}

func mergeMaps(stored, base, next []byte) []byte {
	was, ok1 := pairsOf(stored)
	knew, ok2 := pairsOf(base)
	pairs, ok3 := pairsOf(next)
	if !ok1 || !ok2 || !ok3 {
		return next
	}
	known, now := byKey(knew), byKey(pairs)
	before := byKey(was)
	for i, p := range pairs {
		old, isStored := before[string(p.key)]
		knew, isKnown := known[string(p.key)]
		if isStored && isKnown {
			pairs[i].value = merge(old, knew, p.value)
		}
	}
	for _, p := range was {
		_, isKnown := known[string(p.key)]
		_, isThere := now[string(p.key)]
		if !isKnown && !isThere {
			pairs = append(pairs, p)
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	merged := wire.AppendHead(nil, cborMap<<5, uint64(len(pairs)))
	for _, p := range pairs {
		merged = append(append(merged, p.key...), p.value...)
	}
	return merged
}

func mergeArrays(stored, base, next []byte) []byte {
	was, ok1 := elementsOf(stored)
	knew, ok2 := elementsOf(base)
	elements, ok3 := elementsOf(next)
	if !ok1 || !ok2 || !ok3 || len(was) != len(knew) {
		return next
	}
	merged := wire.AppendHead(nil, cborArray<<5, uint64(len(elements)))
	for i, from := range origins(knew, elements) {
		if from < 0 {
			merged = append(merged, elements[i]...)
		} else {
			merged = append(merged, merge(was[from], knew[from], elements[i])...)
		}
	}
	return merged
}

// origins finds for each element of a changed list which one of the base it was, or -1 for a new one. Elements have no
// names, so this is a rule:
//
//  1. From both ends, elements that are equal to this program are the same ones.
//  2. Of the others, those that are equal are the same ones, wherever they stand now; of several equal ones the one at
//     the same index if the list is as long as it was, else they are taken in their order.
//  3. A stretch between two such, or an end of the list, that is as long as it was holds the same elements, changed in
//     place. So does one at the end of the list that has grown, which got its new elements behind.
//
// What is left is new: nothing tells what it was, and what another program knew of an element must not become another's.
func origins(base, next [][]byte) []int {
	from := make([]int, len(next))
	lo := 0
	for lo < min(len(base), len(next)) && bytes.Equal(base[lo], next[lo]) {
		from[lo] = lo
		lo++
	}
	baseEnd, nextEnd := len(base), len(next)
	for baseEnd > lo && nextEnd > lo && bytes.Equal(base[baseEnd-1], next[nextEnd-1]) {
		baseEnd--
		nextEnd--
		from[nextEnd] = baseEnd
	}
	taken := equalElements(base, next, from, lo, baseEnd, nextEnd)
	for i := lo; i < nextEnd; i++ {
		if from[i] < 0 {
			i = changedStretch(from, taken, i, len(base))
		}
	}
	return from
}

// equalElements is rule 2. It reports which elements of the base are found.
func equalElements(base, next [][]byte, from []int, lo, baseEnd, nextEnd int) (taken []bool) {
	taken = make([]bool, len(base))
	for i := range taken {
		taken[i] = i < lo || i >= baseEnd
	}
	for i := lo; i < nextEnd; i++ {
		from[i] = -1
		if len(base) == len(next) && bytes.Equal(base[i], next[i]) {
			from[i], taken[i] = i, true
		}
	}
	places := map[string][]int{}
	for i := lo; i < baseEnd; i++ {
		if !taken[i] {
			places[string(base[i])] = append(places[string(base[i])], i)
		}
	}
	for i := lo; i < nextEnd; i++ {
		if at := places[string(next[i])]; from[i] < 0 && len(at) > 0 {
			from[i], taken[at[0]] = at[0], true
			places[string(next[i])] = at[1:]
		}
	}
	return taken
}

// changedStretch is rule 3 for the elements from i on that are not found. It returns the last of them.
func changedStretch(from []int, taken []bool, i, baseLen int) int {
	before, after, end := -1, baseLen, i
	for end < len(from) && from[end] < 0 {
		end++
	}
	if i > 0 {
		before = from[i-1]
	}
	if end < len(from) {
		after = from[end]
	}
	if before >= after || slices.Contains(taken[before+1:after], true) {
		return end - 1
	}
	if was := after - before - 1; was == end-i || end == len(from) && was < end-i {
		for k := range was {
			from[i+k] = before + 1 + k
		}
	}
	return end - 1
}

// plainChange compares the items with which two encodings begin, and returns what follows them. It reports whether they
// have the same parts, and numbers and texts of the same kinds in them: then there is nothing to merge.
func plainChange(stored, next []byte, depth int) (restStored, restNext []byte, ok bool) {
	a, restStored, okStored := head(stored)
	b, restNext, okNext := head(next)
	kind := major(stored)
	if !okStored || !okNext || kind != major(next) || depth == 0 {
		return nil, nil, false
	}
	switch kind {
	case cborBytes, cborText:
		if a > uint64(len(restStored)) || b > uint64(len(restNext)) {
			return nil, nil, false
		}
		return restStored[a:], restNext[b:], true
	case cborSimple:
		isBool := stored[0]|1 == cborTrue && next[0]|1 == cborTrue
		return restStored, restNext, isBool || stored[0] == next[0]
	case cborArray, cborMap, cborTag:
		return plainParts(kind, a, b, restStored, restNext, depth-1)
	}
	return restStored, restNext, true
}

func plainParts(kind byte, a, b uint64, stored, next []byte, depth int) (restStored, restNext []byte, ok bool) {
	n := a
	if kind == cborTag {
		n = 1
	}
	if ok = a == b; !ok {
		return nil, nil, false
	}
	for ; n > 0 && ok; n-- {
		if kind == cborMap {
			size := itemLen(stored, depth)
			if size == 0 || !bytes.HasPrefix(next, stored[:size]) {
				return nil, nil, false
			}
			stored, next = stored[size:], next[size:]
		}
		stored, next, ok = plainChange(stored, next, depth)
	}
	return stored, next, ok
}

const cborTrue = 0xf5

// The kinds of CBOR items, as the first three bits of an item have them.
const (
	cborBytes  = 2
	cborText   = 3
	cborArray  = 4
	cborMap    = 5
	cborTag    = 6
	cborSimple = 7
)

func major(item []byte) byte {
	if len(item) == 0 {
		return cborSimple
	}
	return item[0] >> 5
}

// pair is an entry of a CBOR map.
type pair struct{ key, value []byte }

func byKey(pairs []pair) map[string][]byte {
	m := make(map[string][]byte, len(pairs))
	for _, p := range pairs {
		m[string(p.key)] = p.value
	}
	return m
}

// pairsOf cuts a CBOR map. It reports false for anything else, and for what our encoder does not write.
func pairsOf(item []byte) ([]pair, bool) {
	list, ok := cut(item, cborMap, 2)
	if !ok {
		return nil, false
	}
	pairs := make([]pair, 0, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		pairs = append(pairs, pair{list[i], list[i+1]})
	}
	return pairs, true
}

func elementsOf(item []byte) ([][]byte, bool) { return cut(item, cborArray, 1) }

// cut returns the items within a map or an array, of which each entry has so many.
func cut(item []byte, kind byte, each uint64) (items [][]byte, ok bool) {
	if major(item) != kind {
		return nil, false
	}
	n, rest, ok := head(item)
	if !ok || n > uint64(len(rest)) {
		return nil, false
	}
	for range n * each {
		size := itemLen(rest, wire.MaxNesting)
		if size == 0 {
			return nil, false
		}
		items, rest = append(items, rest[:size:size]), rest[size:]
	}
	return items, len(rest) == 0
}

// head reads the head of an item: its argument, and what follows. It reports false for items of unknown length.
func head(item []byte) (argument uint64, rest []byte, ok bool) {
	if len(item) == 0 {
		return 0, nil, false
	}
	info := item[0] & 0x1f
	if info < 24 {
		return uint64(info), item[1:], true
	}
	size := 1 << (info - 24)
	if info > 27 || len(item) < 1+size {
		return 0, nil, false
	}
	var wide [8]byte
	copy(wide[8-size:], item[1:1+size])
	return binary.BigEndian.Uint64(wide[:]), item[1+size:], true
}

// itemLen is the length of the item with which data begins; 0 when it is no whole item, or one that is nested deeper.
func itemLen(data []byte, depth int) int {
	argument, rest, ok := head(data)
	if !ok || depth == 0 {
		return 0
	}
	inner := uint64(0)
	switch major(data) {
	case cborBytes, cborText:
		if argument > uint64(len(rest)) {
			return 0
		}
		rest = rest[argument:]
	case cborArray:
		inner = argument
	case cborMap:
		inner = 2 * min(argument, math.MaxUint64/2)
	case cborTag:
		inner = 1
	}
	for ; inner > 0; inner-- {
		size := itemLen(rest, depth-1)
		if size == 0 {
			return 0
		}
		rest = rest[size:]
	}
	return len(data) - len(rest)
}

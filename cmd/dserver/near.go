package main

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/dserver-go/dserver/dserver"
)

// How far is looked for a name that was meant.
const (
	maxLooked = 10_000 // names
	maxNear   = 3      // that are proposed
)

// candidate is a name that may have been meant.
type candidate struct {
	ref dserver.Ref
	far int
}

func (c candidate) compare(o candidate) int {
	return cmp.Or(cmp.Compare(c.far, o.far), strings.Compare(c.ref.String(), o.ref.String()))
}

// near proposes servers whose names are like one of which there is nothing. It is nothing when it does not know any.
func (t *tool) near(ctx context.Context, meant dserver.Ref) string {
	return t.nearAmong(ctx, meant, maxLooked)
}

// nearAmong is near that looks at so many servers.
func (t *tool) nearAmong(ctx context.Context, meant dserver.Ref, most int) string {
	var types []candidate // by their distance and name, so that of very many servers the same are looked at each time
	for typ, err := range dserver.Types(ctx, t.db) {
		if err != nil {
			return ""
		}
		if d := distance(typ, meant.Type); d <= farthest(meant.Type) {
			types = append(types, candidate{dserver.Ref{Type: typ}, d})
		}
	}
	slices.SortFunc(types, candidate.compare)
	var found []candidate
	looked := 0
	for _, typ := range types {
		for ref, err := range dserver.Servers(ctx, t.db, typ.ref.Type) {
			if err != nil || looked == most {
				break
			}
			looked++
			if d := distance(ref.ID, meant.ID); ref != meant && d <= farthest(meant.ID) {
				found = append(found, candidate{ref, typ.far + d})
			}
		}
	}
	slices.SortFunc(found, candidate.compare)
	var names []string
	for _, c := range found[:min(len(found), maxNear)] {
		names = append(names, word(c.ref.String()))
	}
	if len(names) == 0 {
		return ""
	}
	return ". Did you mean " + strings.Join(names, ", ") + "?"
}

// farthest is how many changes make a name that was meant: a third of its letters, and two of a short one.
func farthest(name string) int { return max(2, len([]rune(name))/3) }

// distance is how many letters have to be put in, taken out or changed to make one name of another (Levenshtein), in any case.
func distance(a, b string) int {
	from, to := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i, r := range from {
		diagonal := row[0]
		row[0] = i + 1
		for j, s := range to {
			change := diagonal
			if r != s {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(to)]
}

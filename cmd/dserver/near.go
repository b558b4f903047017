package main

import (
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

// near proposes servers whose names are like one of which there is nothing. It is nothing when it does not know any.
func (t *tool) near(ctx context.Context, meant dserver.Ref) string {
	types := map[string]int{}
	for typ, err := range dserver.Types(ctx, t.db) {
		if err != nil {
			return ""
		}
		if d := distance(typ, meant.Type); d <= farthest(meant.Type) {
			types[typ] = d
		}
	}
	type candidate struct {
		ref dserver.Ref
		far int
	}
	var found []candidate
	looked := 0
	for typ, far := range types {
		for ref, err := range dserver.Servers(ctx, t.db, typ) {
			if err != nil || looked == maxLooked {
				break
			}
			looked++
			if d := distance(ref.ID, meant.ID); ref != meant && d <= farthest(meant.ID) {
				found = append(found, candidate{ref, far + d})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.ref.String(), b.ref.String())
	})
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

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/internal/dbtest"
)

// A busy machine may add a commit here and there, and one that is always too many stays.
func TestTheCommitsAreAsManyAsIsPromised(t *testing.T) {
	db, err := open.Database(dbtest.Name(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var counts []commitCount
	for _, run := range []string{"0", "1", "2", "3", "4"} {
		c, err := countCommits(t.Context(), db, run, 20)
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, c)
		if c.calledLocks < c.locks+0.9 {
			t.Errorf("a call with locked work has %v commits, a queued message %v: the push was not counted", c.calledLocks, c.locks)
		}
	}
	var out bytes.Buffer
	printCommits(&out, counts)
	if !printPromises(&out, commitPromises(counts)) {
		t.Error(&out)
	}
}

func TestACommitTooManyOrTooFewBreaksItsPromise(t *testing.T) {
	right := commitCount{call: 1, sends: 1, locks: 2, batch: 1}
	for _, change := range []func(c *commitCount, by float64){
		func(c *commitCount, by float64) { c.sends += by },
		func(c *commitCount, by float64) { c.call += by },
		func(c *commitCount, by float64) { c.locks += by },
		func(c *commitCount, by float64) { c.batch += by },
	} {
		for by, want := range map[float64]string{-1: "FAIL", -0.05: "", 0: "", 0.05: "", 0.5: "FAIL", 1: "FAIL"} {
			wrong := right
			change(&wrong, by)
			var out bytes.Buffer
			all := printPromises(&out, commitPromises([]commitCount{right, wrong, wrong})) // the median is wrong
			if all != (want == "") || strings.Count(out.String(), "FAIL") != len(want)/len("FAIL") {
				t.Errorf("%v commits more: %s", by, &out)
			}
		}
	}
}

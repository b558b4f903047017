package backendtest

import "testing"

// check is one fact that holds for every backend.
type check struct {
	fact string // the name of the subtest
	test func(x *trial)
}

// Run is the conformance suite: it checks that a store keeps the contract of backend. Each fact is a subtest with a
// store of its own; they run in parallel. All of it takes a few seconds on the model, and about ten more where a
// transaction must grow too old in real time, which is left out with -short.
func Run(t *testing.T, open Opener) {
	for _, group := range []struct {
		noun   string
		checks []check
	}{
		{"Reads", reads()},
		{"Ranges", ranges()},
		{"Writes", writes()},
		{"Races", races()},
		{"Serializability", serializability()},
		{"Recall", recalling()},
		{"Strictness", strictness()},
		{"Versionstamps", versionstamps()},
		{"Counters", counters()},
		{"Watches", watching()},
		{"Limits", limits()},
		{"Age", ages()},
		{"Errors", failures()},
		{"Contexts", contexts()},
		{"Crowds", crowds()},
		{"Closing", closing()},
		{"Machine", machines()},
		{"History", histories()},
	} {
		t.Run(group.noun, func(t *testing.T) {
			t.Parallel() // the slow checks wait, and the others run meanwhile
			for _, c := range group.checks {
				t.Run(c.fact, func(t *testing.T) {
					t.Parallel()
					c.test(newTrial(t, open))
				})
			}
		})
	}
}

package backendtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// Opener makes a fresh, empty store that lives as long as t, and returns what opens handles onto it, each as another
// process would have it. What it opens it also closes, by t.Cleanup.
type Opener func(t testing.TB) (open func() backend.Database)

// seedVariable is the environment variable that replays a random test.
const seedVariable = "DSERVER_SEED"

// random returns a source for one test. When the test fails, it prints the seed and how to use it again.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if given, ok := os.LookupEnv(seedVariable); ok {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("replay: %s=%d go test -run '%s'", seedVariable, seed, exactly(t.Name()))
		}
	})
	return rand.New(rand.NewPCG(seed, seed))
}

// exactly is the pattern of go test -run for one test.
func exactly(name string) string { return fmt.Sprintf("^%s$", name) }

package backendtest

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// Chaos returns an opener whose commits each meet a fault of kinds, or of any kind, with probability p. It is for
// tortures that run long and concurrently; to try each case once there is [EachFault].
//
// A test that fails prints its seed. The seed replays the draws in their order; which commit gets which draw is up to
// the goroutines.
func Chaos(open Opener, p float64, kinds ...FaultKind) Opener {
	if len(kinds) == 0 {
		kinds = faultKinds()
	}
	return func(t testing.TB) func() backend.Database {
		dice := &dice{random: random(t), p: p, kinds: kinds}
		inner := open(t)
		return func() backend.Database {
			return &faulty{inner: inner(), draw: dice.draw, interrupt: func() {}, dead: make(chan struct{})}
		}
	}
}

// dice draws the faults of one store.
type dice struct {
	mu     sync.Mutex // guards random
	random *rand.Rand
	p      float64
	kinds  []FaultKind
}

func (d *dice) draw() (FaultKind, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := d.kinds[d.random.IntN(len(d.kinds))]
	return kind, d.random.Float64() < d.p
}

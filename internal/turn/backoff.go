package turn

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// backOffFactor is how many times longer each back-off is than the one before.
const backOffFactor = 4

// BackOffAfter is how long to wait after the attempt number count, with up to a quarter less so that consumers spread. It
// is stored with the count: consumers with other settings wait as long.
func (s Settings) BackOffAfter(count int) time.Duration {
	wait := s.BackOff
	for i := 1; i < count && wait < s.MaxBackOff; i++ {
		wait *= backOffFactor
	}
	wait = min(wait, s.MaxBackOff)
	return wait - rand.N(wait/4+1)
}

// Forever is the back-off of a server that halts.
const Forever = time.Duration(math.MaxInt64)

// Waiting is the back-off of a queue's head, as this process observes it: the stored duration, from first sight.
type Waiting struct {
	Stamp backend.Versionstamp
	Count int
	until time.Time
}

// backOff is how long the head of a lane has to wait still.
func (m *Memory) backOff(h tenant.Head, item queue.Item, now time.Time) time.Duration {
	a := h.Attempts[item.Lane]
	if !a.IsOf(item) {
		return 0
	}
	if a.Halts {
		return Forever
	}
	w := &m.Doubt().Waiting[item.Lane]
	if w.Stamp != item.Stamp || w.Count != a.Count {
		*w = Waiting{item.Stamp, a.Count, now.Add(a.Wait)}
	}
	return max(0, w.until.Sub(now))
}

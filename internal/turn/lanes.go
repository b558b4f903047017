package turn

import (
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// passed is what a server's priority messages have had of this consumer while a normal one could have been handled.
// Batches end early, by their time, a lock or a fault, so a place at the end of each would be no place at all: a normal
// message goes first in a turn when so many priority messages, or so much of their time, have gone ahead of it before. As
// that turn may have a batch's time of them in front of it, twice the time is what can be relied on.
type passed struct {
	messages int32
	micros   int32 // of time, up to maxPassedTime
}

const (
	maxPassed     = tenant.MaxBatch - 1
	maxPassedTime = maxBatchTime
)

// ahead is how many of the priority messages stand before the first normal one.
func (p passed) ahead(priority, normal int) int {
	if normal == 0 {
		return priority
	}
	if p.micros >= int32(maxPassedTime.Microseconds()) {
		return 0
	}
	return max(0, min(priority, maxPassed-int(p.messages)))
}

// PassBy counts what a turn has handled since its last normal message. Locked work keeps the normal lane waiting for as
// long as it likes, so it counts as all of the time.
func (t *Turn) PassBy(handled []queue.Item) {
	p, since := &t.Memory.passed, int32(0)
	for _, item := range handled {
		if since++; item.Lane == queue.Normal {
			*p, since = passed{}, 0
		}
	}
	if !t.passes || since == 0 {
		return
	}
	took := time.Duration(p.micros)*time.Microsecond + t.Took*time.Duration(since)/time.Duration(len(handled))
	if t.Batch.Locks {
		took = maxPassedTime
	}
	p.messages, p.micros = p.messages+since, int32(min(took, maxPassedTime).Microseconds())
}

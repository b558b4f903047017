package dserver

import (
	"context"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// A sender never waits for the slow handler of another message. An arrival goes to the queue when the handlers of a turn
// have run for patience, and casts do not even join a server whose last turn was so slow. A commit that takes long is
// no reason: the queue's would as well. At the latest an arrival goes there after longPatience, when no worker is free.
const (
	patience     = 10 * time.Millisecond
	longPatience = 100 * time.Millisecond
)

// maxLocalBytes is the largest message that joins a turn without the queue.
const maxLocalBytes = 32 << 10

// arrival is a message whose sender is in the consumer's process, and which may join a turn without being written to
// the queue. The consumer's mutex guards taken and withdrawn.
type arrival struct {
	message   Message
	call      bool
	info      bool         // for HandleInfo
	released  *release     // locked work that has ended
	done      chan outcome // has room for one
	taken     bool         // a turn has it
	withdrawn bool         // its sender has it back
}

// outcome is what a turn did with an arrival.
type outcome struct {
	declined bool // nothing was done: push it to the queue
	reply    []byte
	err      error // *Error, or of the store
}

func newArrival(m Message, call bool) *arrival {
	return &arrival{message: m, call: call, done: make(chan outcome, 1)}
}

// await waits for a turn that takes the arrival. When none does soon, or ctx ends, it takes the arrival back.
func (c *consumer) await(ctx context.Context, s *server, a *arrival) outcome {
	timer := c.newPatience()
	defer func() {
		timer.Stop()
		c.patience.Put(timer)
	}()
	for waited := patience; ; waited += patience {
		select {
		case out := <-a.done:
			return out
		case <-timer.C:
			if (waited >= longPatience || s.handlesFor() > patience) && c.withdraw(a) {
				return outcome{declined: true}
			}
			timer.Reset(patience)
		case <-ctx.Done():
			return c.giveUp(ctx, a)
		}
	}
}

func (c *consumer) newPatience() *time.Timer {
	timer, ok := c.patience.Get().(*time.Timer)
	if !ok {
		return time.NewTimer(patience)
	}
	timer.Reset(patience)
	return timer
}

func (c *consumer) giveUp(ctx context.Context, a *arrival) outcome {
	if c.withdraw(a) {
		return outcome{err: fmt.Errorf("dserver: %s was not sent: %w", a.message.Name, ctx.Err())}
	}
	select {
	case out := <-a.done:
		return out
	default:
	}
	if a.call {
		return outcome{err: fmt.Errorf("dserver: call %s: %w", a.message.Name, ctx.Err())}
	}
	return outcome{err: fmt.Errorf("dserver: cast %s: %w: %w", a.message.Name, backend.ErrCommitUnknown, ctx.Err())}
}

// withdraw takes an arrival back that no turn has.
func (c *consumer) withdraw(a *arrival) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.taken {
		return false
	}
	a.withdrawn = true
	return true
}

package consumer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// A sender never waits for the slow handler of another message. An arrival goes to the queue when the handlers of a turn
// have run for patience, and casts do not even join a server whose last turn was so slow. A commit that takes long is
// no reason: the queue's would as well. At the latest an arrival goes there after longPatience, when no worker is free.
//
// One goroutine looks at all arrivals, each patience, for as long as any come: a timer for each would cost more than many
// a handler. So an arrival waits for up to one patience longer.
const (
	longPatience = 100 * time.Millisecond

	quietLooks = 100 // that find nobody, after which that goroutine ends
)

// maxLocalBytes is the largest message that joins a turn without the queue.
const maxLocalBytes = 32 << 10

// guest is an arrival that waits. The consumer's mutex guards taken and withdrawn.
type guest struct {
	turn.Arrival
	server    *server // whose turn it waits for
	came      int     // at which look
	taken     bool    // a turn has it
	withdrawn bool    // its sender has it back
}

func newGuest(m tenant.Message, head tenant.Headers, call bool) *guest {
	return &guest{Arrival: turn.Arrival{
		Message: m, Head: head, Sent: time.Now().UnixMilli(), Call: call, Done: make(chan turn.Outcome, 1),
	}}
}

// hall is where arrivals wait for a turn. The consumer's mutex guards it.
type hall struct {
	arrivals  []*guest // those that turns took as well, until the next look
	looks     int
	quiet     int // looks that found nobody
	isWatched bool
}

// enter lets arrivals wait. The mutex is held.
func (c *consumer) enter(arrivals ...*guest) {
	h := &c.hall
	h.arrivals = append(h.arrivals, arrivals...)
	if !h.isWatched {
		h.isWatched, h.quiet = true, 0
		c.wg.Go(c.watchHall)
	}
}

func (c *consumer) watchHall() {
	tick := time.NewTicker(turn.Patience)
	defer tick.Stop()
	for range tick.C {
		if !c.lookAtHall() {
			return
		}
	}
}

// lookAtHall sends those to the queue that have waited for too long. It reports false when nobody has to look any more.
func (c *consumer) lookAtHall() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.hall
	if h.quiet++; len(h.arrivals) > 0 {
		h.quiet = 0
	}
	h.looks++
	h.arrivals = slices.DeleteFunc(h.arrivals, func(a *guest) bool {
		waited := time.Duration(h.looks-a.came-1) * turn.Patience
		if !a.taken && !a.withdrawn && (waited >= longPatience || waited >= turn.Patience && a.server.handlesFor() > turn.Patience) {
			a.withdrawn = true
			a.Done <- turn.Outcome{Declined: true}
		}
		return a.taken || a.withdrawn
	})
	h.isWatched = len(h.arrivals) > 0 || !c.closing && h.quiet < quietLooks
	return h.isWatched
}

// await waits for a turn that takes the arrival, or for a look that sends it to the queue. When ctx ends before, the
// arrival is taken back.
func (c *consumer) await(ctx context.Context, a *guest) turn.Outcome {
	select {
	case out := <-a.Done:
		return out
	case <-ctx.Done():
		return c.takeBack(ctx, a)
	}
}

func (c *consumer) takeBack(ctx context.Context, a *guest) turn.Outcome {
	if c.withdraw(a) {
		return turn.Outcome{Err: fmt.Errorf("dserver: %s was not sent: %w", a.Message.Name, ctx.Err())}
	}
	select {
	case out := <-a.Done:
		return out
	default:
	}
	if a.Call {
		return turn.Outcome{Err: fmt.Errorf("dserver: call %s: %w", a.Message.Name, ctx.Err())}
	}
	return turn.Outcome{Err: fmt.Errorf("dserver: cast %s: %w: %w", a.Message.Name, backend.ErrCommitUnknown, ctx.Err())}
}

// withdraw takes an arrival back that no turn has.
func (c *consumer) withdraw(a *guest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.taken {
		return false
	}
	a.withdrawn = true
	return true
}

// offer gives a message to the server's next turn. It reports false when it has to take the queue.
func (c *consumer) offer(ref tenant.Ref, a *guest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	s := c.server(ref)
	if s.slow && !a.Call { // the cast would wait for a handler
		return false
	}
	a.server, a.came = s, c.hall.looks
	c.schedule(s)
	s.arrivals = append(s.arrivals, a)
	c.enter(a)
	return true
}

// letGo makes senders push what they offered, as the consumer closes, and reports whether the end of locked work is left:
// that has its turn all the same.
func (s *server) letGo() bool {
	var ends, others []*guest
	for _, a := range s.arrivals {
		if a.Released != nil {
			ends = append(ends, a)
		} else {
			others = append(others, a)
		}
	}
	decline(others)
	s.arrivals = ends
	return len(ends) > 0
}

// decline makes senders push what they offered.
func decline(arrivals []*guest) {
	for _, a := range arrivals {
		if !a.withdrawn {
			a.taken = true
			a.Done <- turn.Outcome{Declined: true}
		}
	}
}

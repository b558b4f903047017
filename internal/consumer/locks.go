package consumer

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/internal/lease"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Ended is part of lease.Host.
func (c *consumer) Ended(ref tenant.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leavePlace()
	c.lookAt(ref)
}

// LeaveBehind is part of lease.Host.
func (c *consumer) LeaveBehind(ref tenant.Ref, what string, goroutine uint64) (cameBack func()) {
	left := c.noteStray(ref, what, goroutine)
	return func() { c.forgetStray(left) }
}

// Release is part of lease.Host.
func (c *consumer) Release(ctx context.Context, ref tenant.Ref, r *turn.Release) turn.Outcome {
	a := newGuest(tenant.Message{Name: r.Env.Name, Body: r.Env.Body}, nil, true)
	a.Released = r
	if !c.offerRelease(ref, a) {
		return turn.Outcome{Declined: true}
	}
	select {
	case out := <-a.Done:
		return out
	case <-ctx.Done():
	}
	select { // the consumer stops
	case out := <-a.Done:
		return out
	case <-time.After(c.lastMoment()):
	}
	if c.withdraw(a) {
		return turn.Outcome{Declined: true}
	}
	return <-a.Done
}

// offerRelease gives a release to the server's next turn, also when nothing else is let in any more.
func (c *consumer) offerRelease(ref tenant.Ref, a *guest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing && (c.Base.Err() != nil || c.steps != nil) {
		return false
	}
	s := c.server(ref)
	c.schedule(s)
	s.arrivals = append([]*guest{a}, s.arrivals...)
	return true
}

// hold starts the work of the lock that was taken.
func (t *visit) hold() {
	r := t.Batch.Results[len(t.Batch.Results)-1]
	fence, err := t.Version.Get()
	if err != nil {
		return // others take over after a lease
	}
	t.booked = false // the holder has it now
	t.c.locks.Hold(t.Ref, t.Def, *r.Item, r.Envelope, tenant.Lock{Record: t.Taken, Fence: fence})
}

// watchLock looks at a lock, and takes it over when its holder is dead. A consumer that ends takes none: it would give
// it up at once, and find it again.
func (t *visit) watchLock() nextTurn {
	c, ref, l := t.c, t.Ref, t.Head.Lock
	if t.Waits == turn.Forever {
		t.Waits = 0
	}
	if c.locks.Holds(ref, l.Fence) || l.Record.Halted || t.Def.Locked[l.Record.Name] == nil {
		return nextTurn{after: t.Waits} // its end makes us look, or whoever lets it go on
	}
	t.s.State = turn.State{} // while it waits, the cache does not count it
	beat, dead, next := c.locks.Observe(ref, l, func() *lease.Sight { return &t.s.others().sight })
	if !dead || c.taking.Err() != nil {
		return nextTurn{after: turn.Soonest(t.Waits, next)}
	}
	if !t.Book() {
		return t.awaitPlace()
	}
	took, err := c.locks.TakeOver(ref, t.Def, l, beat)
	if t.booked = t.booked && !took; err != nil {
		return t.failed(err)
	}
	if took && c.Hooks != nil {
		t.tell(t.TellTakeOver)
	}
	return nextTurn{now: !took, after: t.Waits}
}

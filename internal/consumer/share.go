package consumer

import (
	"context"
	"time"
)

// Shares bound how many servers of a type a consumer has in hand (Settings.Turns), so that a type whose handlers are slow
// leaves workers to the others. The consumer's mutex guards them.
//
//  1. A server that wants a turn takes a share of its type, and waits in the run queue with all others, first come first
//     served. So no type with a bound has more than its number there, and others do not wait for more of it.
//  2. When none is left, it waits in the line of its type: there it has no worker, and nobody waits for it.
//  3. A turn that ends gives its share to the first in its type's line, which goes to the end of the run queue. So while
//     somebody waits for a share none is free, and the worker of that turn is there for one server more.
//  4. A turn that was given to another goroutine (overrun.go) keeps its share, as it keeps its worker's place: what was left
//     behind has neither.
//  5. When the line is long, looks pass its type by until there is room, and wake the others'. What they do not read is in the
//     store.
//
// Types without a bound have no shares, and no line. Neither are there any while a test runs each turn by hand (steps.go).
type share struct {
	most   int // 0: there is no bound
	inHand int
	line   runQueue      // of servers that wait for a share
	room   chan struct{} // has a token when the line is long no more
}

func newShare(most int) share { return share{most: most, room: make(chan struct{}, 1)} }

// enqueue is steps 1 and 2. It reports whether there is something to do for a worker. The mutex is held.
func (c *consumer) enqueue(s *server) bool {
	s.queued = time.Now().UnixNano()
	if c.rests {
		c.rests = false
		leaveToken(c.begins)
	}
	if s.def.Settings.Turns > 0 && c.steps == nil && !c.takeShare(s) {
		return false
	}
	c.runnable.push(s)
	return true
}

func (c *consumer) takeShare(s *server) bool {
	t := c.types[s.def.Name]
	if t.inHand == t.most {
		t.line.push(s)
		return false
	}
	t.inHand++
	s.shares = true
	return true
}

// leaveShare is step 3. The mutex is held.
func (c *consumer) leaveShare(s *server) {
	if !s.shares {
		return
	}
	s.shares = false
	t := c.types[s.def.Name]
	if first := t.line.pop(); first != nil {
		first.shares = true
		c.runnable.push(first)
	} else {
		t.inHand--
	}
	if t.line.len < maxRunnable/2 {
		leaveToken(t.room)
	}
}

// takeWaiting takes all servers off their queues that no worker has. The mutex is held.
func (c *consumer) takeWaiting() (all []*server) {
	var queues []*runQueue
	for _, t := range c.types {
		queues = append(queues, &t.line) // first, so that nobody leaves a share to one of them
	}
	for _, q := range append(queues, &c.runnable) {
		for s := q.pop(); s != nil; s = q.pop() {
			c.leaveShare(s)
			all = append(all, s)
		}
	}
	return all
}

// waiting is how many servers want a turn that no worker has. The mutex is held.
func (c *consumer) waiting() int {
	n := c.runnable.len
	for _, t := range c.types {
		n += t.line.len
	}
	return n
}

// awaitRoom waits until another server may be woken.
func (c *consumer) awaitRoom(ctx context.Context) error {
	for c.isFull() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.room:
		}
	}
	return nil
}

// isFull reports whether so many servers wait for a worker that no more should.
func (c *consumer) isFull() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runnable.len >= maxRunnable
}

// isLong reports whether so many servers of a type wait for a share that no more should.
func (c *consumer) isLong(typ string) bool {
	t := c.types[typ]
	if t == nil || t.most == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.line.len >= maxRunnable
}

func leaveToken(room chan struct{}) {
	select {
	case room <- struct{}{}:
	default:
	}
}

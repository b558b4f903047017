package consumer

import (
	"runtime"
	"time"

	"github.com/dserver-go/dserver/internal/stacks"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// schedule gives a server to a worker. The mutex is held.
func (c *consumer) schedule(s *server) {
	if s.scheduled {
		return
	}
	s.scheduled = true
	s.activate()
	c.cache.remove(s)
	if c.enqueue(s) {
		c.steps.wake()
		c.staff()
	}
}

// staff gets a worker for a server that became runnable. The mutex is held.
func (c *consumer) staff() {
	if c.idle > 0 {
		c.idle--
		c.ready.Signal()
	} else if c.workers < c.max {
		c.workers++
		c.wg.Go(c.work)
	}
}

// work runs turns until there are enough workers that have nothing to do.
func (c *consumer) work() {
	goroutine, guard := stacks.Goroutine(), &guard{}
	for s := c.take(); s != nil; s = c.take() {
		if s.crowded {
			runtime.Gosched() // lets the senders that the last turn answered join this one
		}
		if !c.runTurn(s, goroutine, guard) {
			return
		}
	}
}

// runTurn runs one turn on this goroutine. It returns false when another one took the turn, and the worker's place, over.
func (c *consumer) runTurn(s *server, goroutine uint64, guard *guard) bool {
	t := c.visit(s, tenant.MaxBatch)
	t.goroutine, t.guard = goroutine, guard
	return c.conclude(t, func() nextTurn { return c.turn(t) })
}

// conclude runs a turn, or what another goroutine left of it, and settles what comes next. It returns false when yet
// another goroutine took it over.
func (c *consumer) conclude(t *visit, run func() nextTurn) bool {
	t.s.goroutine.Store(t.goroutine)
	ended := false
	defer func() {
		if !ended { // the user's code ended this goroutine
			t.ended()
		}
	}()
	next := run()
	ended = true
	if next.gone {
		return false
	}
	if t.Info == nil {
		c.settle(t, next)
	}
	return true
}

// take waits for a server that wants a turn. It returns nil when the worker is not needed.
func (c *consumer) take() *server {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.steps != nil {
		return c.steps.take()
	}
	for {
		s := c.runnable.pop()
		if c.runnable.len < maxRunnable/2 {
			leaveToken(c.room)
		}
		if s != nil {
			return s
		}
		if c.closing || c.idle >= maxIdleWorkers {
			c.workers--
			return nil
		}
		c.idle++
		c.ready.Wait()
	}
}

// settle decides when the server has its next turn.
func (c *consumer) settle(t *visit, again nextTurn) {
	s := t.s
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.steps.settled()
	c.worked = true
	t.unbook()
	c.leaveShare(s)
	s.bytes = s.size()
	if again.took > 0 {
		s.slow, s.quick = again.took > turn.Patience, again.took < partsBelow
	}
	if c.closing {
		if s.scheduled = s.letGo(); s.scheduled {
			c.enqueue(s)
		}
		return
	}
	if again.now {
		s.look = true
	} else if again.after > 0 {
		c.lookLater(s, again.after)
	}
	if len(s.arrivals) > 0 || s.look {
		c.enqueue(s)
		return
	}
	s.scheduled, s.active = false, nil
	if s.alarm == nil { // else the cache could forget since when a message backs off, which it would for ever
		c.cache.add(s)
		c.evict()
	}
}

// nextTurn says when a server wants to be looked at again.
type nextTurn struct {
	gone  bool // another goroutine has the turn
	now   bool
	after time.Duration
	took  time.Duration // by this turn's handlers, when any ran
}

// lookLater schedules a server when some time has passed, unless that is the case sooner. The mutex is held.
func (c *consumer) lookLater(s *server, d time.Duration) {
	due := time.Now().Add(d).UnixNano()
	if s.alarm != nil {
		if due >= s.alarm.due {
			return
		}
		s.alarm.Stop() // when that is too late, the server is looked at twice
	}
	s.alarm = &alarm{due: due, Timer: time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.alarm = nil
		c.lookAt(s.ref()) // s itself may have been forgotten meanwhile
	})}
}

// evict forgets the servers that were not used for longest. The mutex is held.
func (c *consumer) evict() {
	for s := c.cache.victim(); s != nil; s = c.cache.victim() {
		c.cache.remove(s)
		delete(c.types[s.def.Name].servers, s.id)
	}
}

// runQueue is servers that wait, first come first served. The links are in the servers.
type runQueue struct {
	first, last *server
	len         int
}

func (q *runQueue) push(s *server) {
	if q.first == nil {
		q.first = s
	} else {
		q.last.next = s
	}
	q.last = s
	q.len++
}

func (q *runQueue) pop() *server {
	s := q.first
	if s == nil {
		return nil
	}
	q.first, s.next = s.next, nil
	q.len--
	return s
}

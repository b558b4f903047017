package sqlite

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
)

const (
	maxReaders     = 1000 // connections; each has files and a page cache of its own
	maxIdleReaders = 16   // that are kept for the next transaction
)

// connection has the statements that read, prepared. It belongs to one goroutine at a time.
type connection struct {
	conn                             *driver.Conn
	begin, end                       *driver.Stmt
	get, forward, backward, sequence *driver.Stmt
	rows                             rows
	place                            int       // in pool.running
	owner                            *snapshot // guarded by pool.mu, as since
	since                            time.Time
}

const (
	selectValue    = "SELECT v FROM kv WHERE k = ?"
	selectForward  = "SELECT k, v FROM kv WHERE k >= ? AND k < ? ORDER BY k"
	selectBackward = "SELECT k, v FROM kv WHERE k >= ? AND k < ? ORDER BY k DESC"
	selectSequence = "SELECT reserved FROM sequence WHERE id = 1"
)

// newConnection prepares the statements on conn and owns it from then on, also when it fails.
func newConnection(conn *driver.Conn) (*connection, error) {
	c := &connection{conn: conn}
	err := c.prepare("BEGIN", &c.begin, "COMMIT", &c.end)
	if err == nil {
		err = c.prepare(selectValue, &c.get, selectForward, &c.forward)
	}
	if err == nil {
		err = c.prepare(selectBackward, &c.backward, selectSequence, &c.sequence)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *connection) prepare(q1 string, s1 **driver.Stmt, q2 string, s2 **driver.Stmt) (err error) {
	if *s1, err = c.conn.Prepare(q1); err != nil {
		return err
	}
	*s2, err = c.conn.Prepare(q2)
	return err
}

// pool holds the connections that transactions read with. It grows when all are in use and fails at its limit: it
// never waits for one to come back, as who waits may be the one that has it.
type pool struct {
	path string

	mu      sync.Mutex
	idle    []*connection // the one used last is at the end and has the warmest cache
	running []*connection
	gate    chan struct{} // closed when snapshots may begin again; nil when they may
	drained chan struct{} // closed when nothing is running; nil when nobody waits for that
	closed  error
}

// acquire gives s a connection without a transaction on it.
func (p *pool) acquire(ctx context.Context, s *snapshot) (*connection, error) {
	p.mu.Lock()
	for p.gate != nil && p.closed == nil {
		gate := p.gate
		p.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	switch n := len(p.idle); {
	case p.closed != nil:
		return nil, p.closed
	case n > 0:
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.lend(c, s)
		return c, nil
	case len(p.running) >= maxReaders:
		return nil, errManySnapshots
	}
	return p.grow(s)
}

// grow opens one more connection. It holds the mutex meanwhile: that is a tenth of a millisecond, and seldom.
func (p *pool) grow(s *snapshot) (*connection, error) {
	conn, err := connect(p.path)
	if err != nil {
		return nil, err
	}
	c, err := newConnection(conn)
	if err != nil {
		return nil, err
	}
	p.lend(c, s)
	return c, nil
}

func (p *pool) lend(c *connection, s *snapshot) {
	c.owner, c.since, c.place = s, time.Now(), len(p.running)
	p.running = append(p.running, c)
}

// release takes back a connection that has no transaction on it. A broken one is closed.
func (p *pool) release(c *connection, broken bool) {
	p.mu.Lock()
	last := p.running[len(p.running)-1]
	p.running[c.place], last.place = last, c.place
	p.running[len(p.running)-1] = nil
	p.running = p.running[:len(p.running)-1]
	c.owner = nil
	keep := !broken && p.closed == nil && len(p.idle) < maxIdleReaders
	if keep {
		p.idle = append(p.idle, c)
	}
	if len(p.running) == 0 && p.drained != nil {
		close(p.drained)
		p.drained = nil
	}
	p.mu.Unlock()
	if !keep {
		c.conn.Close()
	}
}

// endOlder ends the snapshots that began before limit. Their transactions get cause from the next read on.
func (p *pool) endOlder(limit time.Time, cause error) {
	p.mu.Lock()
	var old []*snapshot
	for _, c := range p.running {
		if c.since.Before(limit) {
			old = append(old, c.owner)
		}
	}
	p.mu.Unlock()
	for _, s := range old {
		s.finish(cause)
	}
}

// oldest returns when the oldest snapshot began, and whether there is one.
func (p *pool) oldest() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.running) == 0 {
		return time.Time{}, false
	}
	c := slices.MinFunc(p.running, func(a, b *connection) int { return a.since.Compare(b.since) })
	return c.since, true
}

// shut makes new snapshots wait until open is called, and returns a channel that is closed when the last has ended.
func (p *pool) shut() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	drained := make(chan struct{})
	p.gate = make(chan struct{})
	if len(p.running) == 0 {
		close(drained)
		return drained
	}
	p.drained = drained
	return drained
}

func (p *pool) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate != nil {
		close(p.gate)
	}
	p.gate, p.drained = nil, nil
}

// stop ends all snapshots with cause and lets no more begin.
func (p *pool) stop(cause error) {
	p.mu.Lock()
	p.closed = cause
	p.mu.Unlock()
	p.open()
	p.endOlder(time.Now().Add(backend.MaxDuration), cause)
}

// close closes the connections after stop. One that a transaction got just before was ended by stop or ends with it.
func (p *pool) close() error {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	var err error
	for _, c := range idle {
		err = errors.Join(err, c.conn.Close())
	}
	return err
}

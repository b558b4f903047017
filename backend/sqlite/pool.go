package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
)

const (
	maxReaders   = 1000                 // connections; each has files and a page cache of its own
	calmReaders  = 16                   // as many are opened at once when needed, and kept
	calmWait     = 2 * time.Millisecond // how long one of more waits for another's to come back, before it is opened
	readerMemory = 1 << 20              // of a connection's page cache
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

// openConnection opens one that reads.
func openConnection(path string) (*connection, error) {
	conn, err := connect(path)
	if err != nil {
		return nil, err
	}
	if err := execute(conn, fmt.Sprintf("PRAGMA cache_size = -%d", readerMemory>>10)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return newConnection(conn)
}

// pool holds the connections that transactions read with. It grows when all are in use and fails at its limit: it
// never depends on one that comes back, as who waits may be the one that has it. But most come back at once, and few
// connections with warm caches are faster than many, so it grows reluctantly.
type pool struct {
	path  string
	limit int // maxReaders
	pause func(ctx context.Context, d time.Duration) error

	mu      sync.Mutex
	idle    []*connection // the one used last is at the end and has the warmest cache
	running []*connection
	opening int           // will be running
	freed   chan struct{} // tells those who wait calmly that one came back
	gate    chan struct{} // closed when snapshots may begin again; nil when they may
	drained chan struct{} // closed when nothing is running; nil when nobody waits for that
	closed  error
}

// acquire gives s a connection without a transaction on it.
func (p *pool) acquire(ctx context.Context, s *snapshot) (*connection, error) {
	limit := min(calmReaders, p.limit)
	if c, isNew, err := p.take(ctx, s, limit); c != nil || err != nil {
		return c, err
	} else if isNew {
		return p.add(s)
	}
	timer := time.NewTimer(calmWait)
	defer timer.Stop()
	for {
		select {
		case <-p.freed:
		case <-timer.C:
			limit = p.limit
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		c, isNew, err := p.take(ctx, s, limit)
		switch {
		case c != nil || err != nil:
			return c, err
		case isNew:
			return p.add(s)
		case limit == p.limit:
			return nil, errManySnapshots
		}
	}
}

// take lends the connection that was used last. If there is none it reports whether add may open one.
func (p *pool) take(ctx context.Context, s *snapshot, limit int) (c *connection, isNew bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.pass(ctx); err != nil {
		return nil, false, err
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.lend(c, s)
		return c, false, nil
	}
	if len(p.running)+p.opening < limit {
		p.opening++
		return nil, true, nil
	}
	return nil, false, nil
}

// add opens a connection, which take has counted. It does so without the mutex, which others need to give theirs back.
func (p *pool) add(s *snapshot) (*connection, error) {
	c, err := openConnection(p.path)
	for err != nil && isBusy(err) { // another process mends the log after a crash
		if err = p.pause(s.ctx, busyPause); err == nil {
			c, err = openConnection(p.path)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	if err != nil {
		return nil, describe("open another connection to", p.path, err)
	}
	if p.closed != nil {
		return nil, errors.Join(p.closed, c.conn.Close())
	}
	p.lend(c, s)
	return c, nil
}

// pass waits at the gate. The caller holds mu.
func (p *pool) pass(ctx context.Context) error {
	for p.gate != nil && p.closed == nil {
		gate := p.gate
		p.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return p.closed
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
	keep := !broken && p.closed == nil && len(p.idle) < calmReaders
	if keep {
		p.idle = append(p.idle, c)
	}
	if len(p.running) == 0 && p.drained != nil {
		close(p.drained)
		p.drained = nil
	}
	p.mu.Unlock()
	select {
	case p.freed <- struct{}{}:
	default:
	}
	if !keep {
		_ = c.conn.Close() // it only read
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

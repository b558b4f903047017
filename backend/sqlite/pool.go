package sqlite

import (
	"container/list"
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
	openAtOnce   = 4                    // the others may get one that comes back meanwhile
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

// pool holds the connections that transactions read with. Most come back at once, and few connections with warm caches
// are faster than many, so it grows reluctantly, and when it has grown to its limit those who come wait in a line:
//
//  1. Who finds a connection that is idle has it, unless others wait.
//  2. Who finds none opens one, up to calmReaders.
//  3. All others wait for one that comes back, first come, first served. Who has waited for calmWait opens another, up
//     to limit. Where none can be opened, as the process may have no more files, it goes on waiting.
//  4. Nobody waits for ever: a snapshot ends after [backend.MaxDuration], whatever its transaction does, and its
//     connection comes back. That is so for a transaction that was begun within the function of another, too; it may
//     wait for the one that its own caller has.
type pool struct {
	path    string
	limit   int // maxReaders
	connect func() (*connection, error)
	pause   func(ctx context.Context, d time.Duration) error

	mu      sync.Mutex
	idle    []*connection // the one used last is at the end and has the warmest cache
	running []*connection
	opening int           // will be running
	waiting list.List     // of *waiter, in the order of their coming
	isShut  bool          // no snapshots may begin
	drained chan struct{} // closed when nothing is running; nil when nobody waits for that
	closed  error
}

// waiter is a snapshot that waits for a connection.
type waiter struct {
	s        *snapshot
	isUrgent bool       // it has waited for calmWait
	isServed bool       // it is out of the line; guarded by pool.mu, as isUrgent
	served   chan grant // holds one
}

// grant is a connection, or the leave to open one, or an error.
type grant struct {
	c   *connection
	err error
}

// acquire gives s a connection without a transaction on it.
func (p *pool) acquire(ctx context.Context, s *snapshot) (*connection, error) {
	p.mu.Lock()
	if p.waiting.Len() == 0 {
		if g, ok := p.grant(s, false); ok {
			p.mu.Unlock()
			return p.use(ctx, s, g)
		}
	}
	w := &waiter{s: s, served: make(chan grant, 1)}
	place := p.waiting.PushBack(w)
	p.mu.Unlock()
	timer := time.NewTimer(calmWait)
	defer timer.Stop()
	return p.await(ctx, place, timer.C)
}

// grant is what a snapshot gets, if there is something for it now. The caller holds mu.
func (p *pool) grant(s *snapshot, isUrgent bool) (g grant, ok bool) {
	limit := min(calmReaders, p.limit)
	if isUrgent {
		limit = p.limit
	}
	switch n := len(p.idle); {
	case p.closed != nil:
		return grant{err: p.closed}, true
	case p.isShut:
		return g, false
	case n > 0:
		g.c, p.idle = p.idle[n-1], p.idle[:n-1]
		p.lend(g.c, s)
		return g, true
	case len(p.running)+p.opening < limit && p.opening < openAtOnce:
		p.opening++
		return g, true
	}
	return g, false
}

// serve gives those who wait what there is for them. The caller holds mu.
func (p *pool) serve() {
	for place := p.waiting.Front(); place != nil; place = p.waiting.Front() {
		w := place.Value.(*waiter)
		g, ok := p.grant(w.s, w.isUrgent)
		if !ok {
			return
		}
		p.waiting.Remove(place)
		w.isServed = true
		w.served <- g
	}
}

// await waits in the line. After hurry, which may be nil, the waiter is urgent.
func (p *pool) await(ctx context.Context, place *list.Element, hurry <-chan time.Time) (*connection, error) {
	w := place.Value.(*waiter)
	for {
		select {
		case g := <-w.served:
			return p.use(ctx, w.s, g)
		case <-hurry:
			p.mu.Lock()
			w.isUrgent = true
			p.serve()
			p.mu.Unlock()
		case <-ctx.Done():
			p.leave(place)
			return nil, fmt.Errorf("sqlite: wait for one of the %d snapshots of %s: %w", p.limit, p.path, ctx.Err())
		}
	}
}

// leave takes a waiter out of the line, and gives back what it was served with meanwhile.
func (p *pool) leave(place *list.Element) {
	w := place.Value.(*waiter)
	p.mu.Lock()
	if !w.isServed {
		p.waiting.Remove(place)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	switch g := <-w.served; {
	case g.c != nil:
		p.release(g.c, false)
	case g.err == nil:
		p.mu.Lock()
		p.opening--
		p.serve()
		p.mu.Unlock()
	}
}

// use makes a connection of a grant.
func (p *pool) use(ctx context.Context, s *snapshot, g grant) (*connection, error) {
	if g.c != nil || g.err != nil {
		return g.c, g.err
	}
	c, err := p.open(ctx)
	p.mu.Lock()
	p.opening--
	switch {
	case err == nil && p.closed != nil:
		err = errors.Join(p.closed, c.conn.Close())
	case err == nil:
		p.lend(c, s)
	case isUnopened(err) && len(p.idle)+len(p.running)+p.opening > 0: // one that comes back is as good
		place := p.waiting.PushFront(&waiter{s: s, served: make(chan grant, 1)})
		if len(p.idle) > 0 { // it came back meanwhile
			p.serve()
		}
		p.mu.Unlock()
		return p.await(ctx, place, nil)
	}
	p.serve()
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// open opens a connection, without the mutex, which others need to give theirs back.
func (p *pool) open(ctx context.Context) (*connection, error) {
	c, err := p.connect()
	for err != nil && isBusy(err) { // another process mends the log after a crash
		if err := p.pause(ctx, busyPause); err != nil {
			return nil, err
		}
		c, err = p.connect()
	}
	switch {
	case errors.Is(err, backend.ErrClosed):
		return nil, err
	case err != nil:
		return nil, describe("open another connection to", p.path, err)
	}
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
	var spare *connection
	if p.idle = append(p.idle, c); broken || p.closed != nil {
		p.idle, spare = p.idle[:len(p.idle)-1], c
	}
	if len(p.running) == 0 && p.drained != nil {
		close(p.drained)
		p.drained = nil
	}
	p.serve()
	if len(p.idle) > calmReaders { // nobody waits
		p.idle, spare = p.idle[:len(p.idle)-1], c
	}
	p.mu.Unlock()
	if spare != nil {
		_ = spare.conn.Close() // it only read
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
		s.Finish(cause)
	}
}

// shut makes new snapshots wait until reopen is called, and returns a channel that is closed when the last has ended.
func (p *pool) shut() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	drained := make(chan struct{})
	p.isShut = true
	if len(p.running) == 0 {
		close(drained)
		return drained
	}
	p.drained = drained
	return drained
}

func (p *pool) reopen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isShut, p.drained = false, nil
	p.serve()
}

// stop ends all snapshots with cause and lets no more begin.
func (p *pool) stop(cause error) {
	p.mu.Lock()
	p.closed = cause
	p.mu.Unlock()
	p.reopen()
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

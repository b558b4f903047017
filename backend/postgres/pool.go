package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// pool holds the connections that transactions read with: so many at once, the others wait in the order of their coming.
// A snapshot ends after backend.MaxDuration, whatever its transaction does, so nobody waits for ever.
//
// The end of a transaction that only read changes nothing, so it is not sent: it goes with the begin of the next one on
// that connection, or after dirtyMax, by reap.
type pool struct {
	db    *DB
	slots chan struct{} // one for each connection that may be lent; who waits for one is served in order

	mu      sync.Mutex
	idle    []*connection // the one used last is at the end
	running map[*snapshot]time.Time
	isOver  bool
}

const (
	dirtyMax  = 50 * time.Millisecond
	reapEvery = 50 * time.Millisecond
	idleMax   = 4 // connections that nobody needs for a time are closed, but for so many
	idleFor   = 30 * time.Second
)

func newPool(db *DB) *pool {
	p := &pool{db: db, slots: make(chan struct{}, db.options.snapshots), running: map[*snapshot]time.Time{}}
	for range db.options.snapshots {
		p.slots <- struct{}{}
	}
	return p
}

// acquire lends a connection to s, whose reads end with ctx. It may be one whose server has gone.
func (p *pool) acquire(ctx context.Context, s *snapshot) (*connection, error) {
	select {
	case <-p.slots:
	default:
		if err := p.await(ctx); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	var c *connection
	if n := len(p.idle); n > 0 {
		c, p.idle = p.idle[n-1], p.idle[:n-1]
	}
	isOver := p.isOver
	p.running[s] = time.Time{}
	p.mu.Unlock()
	var err error
	switch {
	case isOver:
		err = closed()
	case c == nil:
		c, err = p.db.connect(ctx)
	}
	if err != nil {
		p.giveBack(s, c)
		return nil, err
	}
	return c, nil
}

// began notes when a snapshot has begun.
func (p *pool) began(s *snapshot, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[s] = now
}

func (p *pool) await(ctx context.Context) error {
	select {
	case <-p.slots:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("postgres: wait for one of the %d snapshots: %w", cap(p.slots), ctx.Err())
	case <-p.db.life.Done():
		return closed()
	}
}

// release takes a connection back from s. One that is broken is closed, and so are those that lay idle meanwhile, as
// their server has probably gone, too.
func (p *pool) release(s *snapshot, c *connection, isBroken bool) {
	if !isBroken {
		c.isDirty, c.usedAt = true, time.Now()
		p.giveBack(s, c)
		return
	}
	p.mu.Lock()
	spare := p.idle
	p.idle = nil
	p.mu.Unlock()
	go c.close()
	for _, other := range spare {
		go other.close()
	}
	p.giveBack(s, nil)
}

func (p *pool) giveBack(s *snapshot, c *connection) {
	p.mu.Lock()
	delete(p.running, s)
	if c != nil && !p.isOver {
		p.idle, c = append(p.idle, c), nil
	}
	p.mu.Unlock()
	if c != nil {
		c.close()
	}
	p.slots <- struct{}{}
}

// reap ends the snapshots that are too old and those that are still open after their transactions, until the database
// ends.
func (p *pool) reap() {
	ticker := time.NewTicker(reapEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.db.life.Done():
			return
		case now := <-ticker.C:
			for _, s := range p.old(now) {
				s.end(errs.TooOld)
			}
			p.clean(now)
		}
	}
}

// old are the snapshots that have run for too long.
func (p *pool) old(now time.Time) (old []*snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, began := range p.running {
		if !began.IsZero() && now.Sub(began) > backend.MaxDuration {
			old = append(old, s)
		}
	}
	return old
}

// clean ends what is dirty for long, and closes what is idle for long.
func (p *pool) clean(now time.Time) {
	for c := p.stale(now); c != nil; c = p.stale(now) {
		if !c.isDirty || !c.undo(p.db.life) {
			c.close()
			continue
		}
		p.mu.Lock()
		isOver := p.isOver
		if !isOver {
			p.idle = slices.Insert(p.idle, 0, c) // it was used longest ago
		}
		p.mu.Unlock()
		if isOver {
			c.close()
		}
	}
}

// stale takes a connection that needs cleaning off the idle ones.
func (p *pool) stale(now time.Time) *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.idle, func(c *connection) bool {
		age := now.Sub(c.usedAt)
		return c.isDirty && age > dirtyMax || !c.isDirty && age > idleFor && len(p.idle) > idleMax
	})
	if i < 0 {
		return nil
	}
	c := p.idle[i]
	p.idle = slices.Delete(p.idle, i, i+1)
	return c
}

// undo ends a snapshot that is still open, and reports whether the connection is sound.
func (c *connection) undo(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	c.isDirty = false
	return c.script(ctx, "ROLLBACK") == nil
}

// stop ends all snapshots and lets no more begin.
func (p *pool) stop() {
	p.mu.Lock()
	p.isOver = true
	idle := p.idle
	p.idle = nil
	var running []*snapshot
	for s := range p.running {
		running = append(running, s)
	}
	p.mu.Unlock()
	for _, s := range running {
		s.end(closed())
	}
	for _, c := range idle {
		c.close()
	}
}

package postgres

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// pool holds the connections that transactions read with: so many at once, the others wait in the order of their coming.
// A snapshot ends after backend.MaxDuration, whatever its transaction does, so nobody waits for ever.
//
// The end of a transaction that only read changes nothing, so it is not sent: it goes with the begin of the next one on
// that connection, or after dirtyMax, by tidy.
type pool struct {
	db    *DB
	slots chan struct{} // one for each connection that may be lent; who waits for one is served in order

	mu      sync.Mutex
	idle    []*connection // the one used last is at the end
	running map[*view]time.Time
	joiners []*joiner // wait for a view, in the order of their coming
	openers int       // goroutines that open views
	isOver  bool
}

const (
	dirtyMax  = 50 * time.Millisecond
	reapEvery = 50 * time.Millisecond
	idleMax   = 4 // connections that nobody needs for a time are closed, but for so many
	idleFor   = 30 * time.Second
)

func newPool(db *DB) *pool {
	p := &pool{db: db, slots: make(chan struct{}, db.options.snapshots), running: map[*view]time.Time{}}
	for range db.options.snapshots {
		p.slots <- struct{}{}
	}
	return p
}

// acquire lends a connection to who has taken a place. It may be one whose server has gone.
func (p *pool) acquire() (*connection, error) {
	p.mu.Lock()
	var c *connection
	if n := len(p.idle); n > 0 {
		c, p.idle = p.idle[n-1], p.idle[:n-1]
	}
	p.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := p.db.connect(p.db.life)
	if err == nil {
		return c, nil
	}
	p.slots <- struct{}{}
	if p.db.life.Err() != nil {
		err = closed()
	}
	return nil, err
}

// release takes a connection back from v. One that is broken is closed, and so are those that lay idle meanwhile, as
// their server has probably gone, too.
func (p *pool) release(v *view, c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, v)
	c.usedAt = time.Now()
	switch {
	case c.isBroken:
		go c.close()
		p.dropIdle()
	case p.isOver:
		go c.close()
	default:
		p.idle = append(p.idle, c)
	}
	p.slots <- struct{}{}
}

// dropIdle closes what nobody uses. The caller holds mu.
func (p *pool) dropIdle() {
	for _, c := range p.idle {
		go c.close()
	}
	p.idle = nil
}

// reap ends the views that are too old, until the database ends.
func (p *pool) reap() {
	p.each(func(now time.Time) {
		for _, v := range p.old(now) {
			v.end(errs.TooOld)
		}
	})
}

// tidy ends the transactions of the server that are still open after their views, until the database ends.
func (p *pool) tidy() { p.each(p.clean) }

func (p *pool) each(do func(now time.Time)) {
	ticker := time.NewTicker(reapEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.db.life.Done():
			return
		case now := <-ticker.C:
			do(now)
		}
	}
}

// old are the views that have run for too long.
func (p *pool) old(now time.Time) (old []*view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for v, began := range p.running {
		if now.Sub(began) > backend.MaxDuration {
			old = append(old, v)
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

// stop, after the end of the database's life, ends all snapshots and lets no more begin.
func (p *pool) stop() {
	p.mu.Lock()
	p.isOver = true
	idle := p.idle
	p.idle = nil
	running := slices.Collect(maps.Keys(p.running))
	p.mu.Unlock()
	for _, v := range running {
		v.end(closed())
	}
	for _, c := range idle {
		c.close()
	}
}

package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// view is a transaction of the server that several snapshots share: one state of the database, from its begin until the last of
// them has left, or its time is over, or it fails. As commits are made in groups, so are reads. What begins while others are on
// their way to the server goes out together, in the next view, and what members want while one of them is served as well. The
// server is asked with one statement for all that are alike (query.go): a statement costs it more than the row that it brings.
//
// Members have nothing to do with each other beyond that. The end of a member's context ends its wait and no one else's. A lost
// connection is met by all, as each would have met it alone. What the server says against a statement may be due to another's:
// then each begins again in a view of its own. A member waits for what others read at the same time, however much that is; who
// comes later does not.
type view struct {
	db     *DB
	base   occ.Base // from just before it began
	io     context.Context
	cancel context.CancelCauseFunc // of io

	mu      sync.Mutex // guards the rest
	conn    *connection
	members int
	waiting []*request
	isBusy  bool  // somebody carries out requests
	ended   error // why nothing is read any more
}

// maxMembers bounds those of a view: each waits for what the others read, too.
const maxMembers = 32

// request is reads of one member. The queries are its own, as a member that has given up waiting does not look at them again.
type request struct {
	queries []query
	done    chan struct{} // closed when they are carried out, or err says why not
	err     error
}

func newRequest(queries []*query) *request {
	r := &request{queries: make([]query, len(queries)), done: make(chan struct{})}
	for i, q := range queries {
		r.queries[i] = *q
	}
	return r
}

// read has a request carried out. It does not wait for that.
func (v *view) read(r *request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waiting = append(v.waiting, r)
	if !v.isBusy {
		v.isBusy = true
		go v.serve()
	}
}

// serve carries out what waits, until nothing does.
func (v *view) serve() {
	for v.serveOnce(false) {
	}
}

// serveOnce carries out what waits, and reports whether there is more by then.
func (v *view) serveOnce(isFirst bool) (more bool) {
	v.mu.Lock()
	requests, c, err := v.waiting, v.conn, v.ended
	v.waiting = nil
	v.mu.Unlock()
	if err == nil && time.Since(v.base.Began) > backend.MaxDuration {
		err = errs.TooOld
	}
	others := err
	if err == nil {
		err = v.carryOut(c, requests, isFirst)
		if others = err; codeOf(err) != "" && !isLost(err) {
			others = errAnothers
		}
		if len(requests) > 1 {
			err = others
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.isBusy = len(v.waiting) > 0
	if v.ended == nil {
		v.ended = others
	}
	v.leaveConnection()
	for _, r := range requests {
		r.err = err
		close(r.done)
	}
	return v.isBusy
}

// errAnothers ends the snapshots of a view that the server has ended, perhaps because of another's read.
var errAnothers = errors.New("postgres: the snapshot has failed with others")

func (v *view) carryOut(c *connection, requests []*request, isFirst bool) error {
	var queries []*query
	for _, r := range requests {
		for i := range r.queries {
			queries = append(queries, &r.queries[i])
		}
	}
	err := c.read(v.io, queries, isFirst)
	if err == nil {
		return nil
	}
	c.isBroken = true
	if v.db.life.Err() != nil {
		return closed()
	}
	if cause := context.Cause(v.io); cause != nil {
		return cause
	}
	return judge("read", err)
}

// end ends the view for all of its members, also by interrupting what is read.
func (v *view) end(cause error) {
	v.cancel(cause)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended == nil {
		v.ended = cause
	}
	v.leaveConnection()
}

// leave is called by each member when it reads no more.
func (v *view) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.members--; v.members == 0 && v.isBusy {
		v.cancel(errs.Ended) // nobody waits for it
	}
	v.leaveConnection()
}

// leaveConnection gives the connection back when nobody needs it any more. The caller holds mu.
func (v *view) leaveConnection() {
	if v.conn == nil || v.isBusy || v.members > 0 && v.ended == nil {
		return
	}
	v.db.pool.release(v, v.conn)
	v.conn = nil
	v.cancel(nil)
}

// joiner is a snapshot that is to begin, with its first reads.
type joiner struct {
	*request
	isAlone bool
	view    *view // from when it is too late to withdraw; nil where no connection was to be had
}

// maxOpeners is how many views may be on their way to the server at once. Who comes meanwhile is in the next. A view that takes
// longer than openerPatience, as where a connection hangs or much is read, keeps nobody from beginning another.
const (
	maxOpeners     = 2
	openerPatience = 20 * time.Millisecond
)

// join has a snapshot begin. It does not wait for that.
func (p *pool) join(j *joiner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isOver {
		j.refuse(closed())
		return
	}
	p.joiners = append(p.joiners, j)
	p.callOpener()
}

// callOpener has a view begin where somebody waits for one. The caller holds mu.
func (p *pool) callOpener() {
	if len(p.joiners) > 0 && p.openers < maxOpeners {
		p.openers++
		go p.openView()
	}
}

// openerLeaves makes room for another opener.
func (p *pool) openerLeaves() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.openers--
	p.callOpener()
}

// withdraw takes a joiner back. It is too late when its view begins.
func (p *pool) withdraw(j *joiner) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.joiners, j)
	if i < 0 {
		return false
	}
	p.joiners = slices.Delete(p.joiners, i, i+1)
	return true
}

func (j *joiner) refuse(err error) {
	j.err = err
	close(j.done)
}

// openView begins a view of those who wait for one when it has a connection.
func (p *pool) openView() {
	select {
	case <-p.slots:
	case <-p.db.life.Done():
		p.refuse(closed())
		p.openerLeaves()
		return
	}
	leave := sync.OnceFunc(p.openerLeaves)
	defer leave()
	defer time.AfterFunc(openerPatience, leave).Stop()
	c, err := p.acquire()
	if err != nil {
		p.refuse(err)
		return
	}
	if v := p.begin(c); v.serveOnce(true) {
		go v.serve()
	}
}

// refuse tells all who wait for a view that there is none, unless there is a connection that is not in use.
func (p *pool) refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) > 0 && p.db.life.Err() == nil {
		return
	}
	for _, j := range p.joiners {
		j.refuse(err)
	}
	p.joiners = nil
}

// begin makes a view of those who wait for one, on a connection on which nothing was sent for it yet. Where they have withdrawn
// it is nobody's.
func (p *pool) begin(c *connection) *view {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < min(len(p.joiners), maxMembers) && !p.joiners[n].isAlone {
		n++
	}
	if n == 0 {
		n = min(len(p.joiners), 1)
	}
	v := &view{db: p.db, conn: c, isBusy: true, members: n}
	v.io, v.cancel = context.WithCancelCause(p.db.life)
	now := time.Now()
	v.base.Draw(p.db.log, now)
	p.running[v] = now
	for _, j := range p.joiners[:n] {
		j.view = v
		v.waiting = append(v.waiting, j.request)
	}
	p.joiners = slices.Delete(p.joiners, 0, n)
	return v
}

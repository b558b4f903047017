package consumer

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Step is a server that has something to do.
type Step struct {
	Ref     tenant.Ref
	Stamp   backend.Versionstamp // of the message that is next; zero: locked work has ended
	Message string               // its name
}

// Stepper runs the turns of a consumer that has no workers and looks for nothing by itself: each is asked for, so that
// a test decides about their order (package dservertest). The turns are those of every consumer. Its exported methods are for
// one goroutine.
type Stepper struct {
	c     *consumer
	ctx   context.Context
	woken chan struct{} // has room for one

	granted *server       // what the worker takes; guarded by the consumer's mutex
	done    chan struct{} // receives when its turn has ended
}

func newStepper(ctx context.Context, c *consumer) *Stepper {
	return &Stepper{c: c, ctx: ctx, woken: make(chan struct{}, 1), done: make(chan struct{}, 1)}
}

// wake says that a server was scheduled. The consumer's mutex is held.
func (s *Stepper) wake() {
	if s == nil {
		return
	}
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// take is consumer.take: a worker gets what was granted, and ends. The consumer's mutex is held.
func (s *Stepper) take() *server {
	granted := s.granted
	if s.granted = nil; granted == nil {
		s.c.workers--
	}
	return granted
}

// settled says that a turn has ended, perhaps on another goroutine than it began on.
func (s *Stepper) settled() {
	if s != nil {
		s.done <- struct{}{}
	}
}

// Woken receives when locked work has ended, and perhaps at other times.
func (s *Stepper) Woken() <-chan struct{} { return s.woken }

// Works reports whether locked work runs.
func (s *Stepper) Works() bool {
	return s.c.locks.Works()
}

// Ready is the servers with a message that can be handled now, in the order of their types and ids. A message that faulted
// can: back-offs are not waited for. It looks at all servers that have a mark or were woken, and forgets those that have
// nothing to do.
func (s *Stepper) Ready() ([]Step, error) {
	err := s.eachShard(func(shard int64) error {
		look, err := s.c.scanOnce(s.ctx, shard, nil)
		if err != nil {
			return err
		}
		look.watch.Cancel()
		return s.c.scanParked(s.ctx, shard)
	})
	var ready []Step
	for _, server := range s.takeAll() {
		if err != nil {
			break
		}
		var found *Step
		if found, err = s.look(server); found != nil {
			ready = append(ready, *found)
		}
	}
	slices.SortFunc(ready, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.Ref.Type, b.Ref.Type), cmp.Compare(a.Ref.ID, b.Ref.ID))
	})
	return ready, err
}

func (s *Stepper) eachShard(fn func(shard int64) error) error {
	for _, shard := range s.c.shards() {
		if err := fn(shard); err != nil {
			return err
		}
	}
	return nil
}

// takeAll empties the run queue. What was told of until now is in it.
func (s *Stepper) takeAll() (all []*server) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	select {
	case <-s.woken:
	default:
	}
	for next := s.c.runnable.pop(); next != nil; next = s.c.runnable.pop() {
		next.scheduled = false
		all = append(all, next)
	}
	return all
}

// look tells what a server would handle next. It is nil when that is nothing.
func (s *Stepper) look(server *server) (*Step, error) {
	found := &Step{Ref: server.ref()}
	if release := s.arrival(server); release != nil {
		found.Message = release.Message.Name
		return found, nil
	}
	t := s.c.visit(server, 1)
	err := s.c.DB.Read(s.ctx, func(tx backend.ReadTx) error {
		return tenant.ReadHead(tx, t.Keys, &t.Head, tenant.Known{}, true)
	})
	if err != nil {
		return nil, err
	}
	for _, item := range slices.Backward(t.Head.Items) { // the first of each lane is last
		server.Doubt().Waiting[item.Lane] = turn.Waiting{Stamp: item.Stamp, Count: t.Head.Attempts[item.Lane].Count}
	}
	if !t.Head.Killed.IsZero() || t.Head.Lock.IsHeld() && !s.c.locks.Holds(server.ref(), t.Head.Lock.Fence) {
		s.run(server) // it is buried, or its lock taken over when its time has come
		return nil, nil
	}
	messages, err := t.Choose()
	if err != nil || len(messages) == 0 {
		if err == nil && len(t.Head.Items) == 0 {
			err = t.confirmEmpty()
		}
		return nil, err
	}
	found.Stamp, found.Message = messages[0].Item.Stamp, messages[0].Envelope.Name
	return found, nil
}

// arrival is the end of locked work that waits for its turn.
func (s *Stepper) arrival(server *server) *guest {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if server.active == nil || len(server.arrivals) == 0 {
		return nil
	}
	return server.arrivals[0]
}

// Step handles the message that was found.
func (s *Stepper) Step(what Step) {
	s.c.mu.Lock()
	server := s.c.server(what.Ref)
	s.c.mu.Unlock()
	s.run(server)
}

// run makes a worker run one turn, and waits for its end.
func (s *Stepper) run(server *server) {
	others := s.takeAll() // server may be among them
	s.c.mu.Lock()
	for _, other := range others {
		if other != server {
			s.c.schedule(other)
		}
	}
	server.scheduled = true
	server.activate()
	s.c.cache.remove(server)
	s.granted = server
	s.c.workers++
	s.c.mu.Unlock()
	s.c.wg.Go(s.c.work)
	<-s.done
}

// Due is when the next timer or delayed message is, or the zero time.
func (s *Stepper) Due() (first time.Time, err error) {
	err = s.eachShard(func(shard int64) error {
		wait, ok, err := s.nextDue(shard)
		if ok && (first.IsZero() || wait.Before(first)) {
			first = wait
		}
		return err
	})
	return first, err
}

// nextDue ignores the ends of idempotency keys, at which no handler runs, what other consumers' handlers are for, and what
// cannot be read.
func (s *Stepper) nextDue(shard int64) (at time.Time, ok bool, err error) {
	rows := tenant.DueShard(shard)
	err = s.c.DB.Read(s.ctx, func(tx backend.ReadTx) error {
		ok = false
		pairs, err := tx.GetRange(rows.Below(), backend.RangeOptions{}).Get()
		for _, pair := range pairs {
			ref, d, parsed := tenant.ParseDue(rows, pair.Key)
			if parsed == nil && d.Kind != tenant.DueOnce && s.c.runs(ref.Type) {
				at, ok = time.UnixMilli(d.At), true
				return nil
			}
		}
		return err
	})
	return at, ok, err
}

// Move puts on their queues what is due.
func (s *Stepper) Move() error {
	return s.eachShard(func(shard int64) error {
		next, err := s.c.moveDue(s.ctx, shard)
		if err == nil {
			next.watch.Cancel()
		}
		return err
	})
}

package dserver

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver/internal/kit"
)

// stepper runs the turns of a consumer that has no workers and looks for nothing by itself: each is asked for, so that
// a test decides about their order (package dservertest). The turns are those of every consumer.
type stepper struct {
	c     *consumer
	ctx   context.Context
	woken chan struct{} // has room for one

	granted *server       // what the worker takes; guarded by the consumer's mutex
	done    chan struct{} // receives when its turn has ended
}

func newStepper(ctx context.Context, c *consumer) *stepper {
	return &stepper{c: c, ctx: ctx, woken: make(chan struct{}, 1), done: make(chan struct{}, 1)}
}

// wake says that a server was scheduled. The consumer's mutex is held.
func (s *stepper) wake() {
	if s == nil {
		return
	}
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// take is consumer.take: a worker gets what was granted, and ends. The consumer's mutex is held.
func (s *stepper) take() *server {
	granted := s.granted
	if s.granted = nil; granted == nil {
		s.c.workers--
	}
	return granted
}

// settled says that a turn has ended, perhaps on another goroutine than it began on.
func (s *stepper) settled() {
	if s != nil {
		s.done <- struct{}{}
	}
}

func (s *stepper) Woken() <-chan struct{} { return s.woken }

func (s *stepper) Works() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return len(s.c.holding) > 0
}

// Ready looks at all servers that have a mark or were woken, and forgets those that have nothing to do.
func (s *stepper) Ready() ([]kit.Server, error) {
	err := s.eachShard(func(typ string, shard int64) error {
		watch, err := s.c.scanOnce(s.ctx, typ, shard)
		if err != nil {
			return err
		}
		watch.Cancel()
		return s.c.scanParked(s.ctx, typ, shard)
	})
	var ready []kit.Server
	for _, server := range s.takeAll() {
		if err != nil {
			break
		}
		var found *kit.Server
		if found, err = s.look(server); found != nil {
			ready = append(ready, *found)
		}
	}
	slices.SortFunc(ready, func(a, b kit.Server) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ID, b.ID))
	})
	return ready, err
}

func (s *stepper) eachShard(fn func(typ string, shard int64) error) error {
	for _, typ := range slices.Sorted(maps.Keys(s.c.types)) {
		for shard := range int64(shards) {
			if err := fn(typ, shard); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeAll empties the run queue. What was told of until now is in it.
func (s *stepper) takeAll() (all []*server) {
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
func (s *stepper) look(server *server) (*kit.Server, error) {
	found := &kit.Server{Type: server.def.name, ID: server.id}
	if release := s.arrival(server); release != nil {
		found.Message = release.message.Name
		return found, nil
	}
	t := &turn{c: s.c, s: server, keys: tenantOf(server.ref()), limit: 1}
	err := s.c.db.Read(s.ctx, func(tx backend.ReadTx) error {
		return readHead(tx, t.keys, &t.head, state{}, true)
	})
	if err != nil {
		return nil, err
	}
	for _, item := range slices.Backward(t.head.items) { // the first of each lane is last
		server.trouble().waiting[item.Lane] = waiting{stamp: item.Stamp, count: t.head.attempts[item.Lane].Count}
	}
	if !t.head.killed.IsZero() || t.head.lock.isHeld() && !s.c.holds(server.ref(), t.head.lock.fence) {
		s.run(server) // it is buried, or its lock taken over when its time has come
		return nil, nil
	}
	messages, err := t.choose()
	if err != nil || len(messages) == 0 {
		if err == nil && len(t.head.items) == 0 {
			err = s.c.confirmEmpty(server.ref(), t.keys)
		}
		return nil, err
	}
	found.Stamp, found.Message = messages[0].item.Stamp, messages[0].envelope.Name
	return found, nil
}

// arrival is the end of locked work that waits for its turn.
func (s *stepper) arrival(server *server) *arrival {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if len(server.arrivals) == 0 {
		return nil
	}
	return server.arrivals[0]
}

func (s *stepper) Step(what kit.Server) {
	s.c.mu.Lock()
	server := s.c.server(Ref{what.Type, what.ID})
	s.c.mu.Unlock()
	s.run(server)
}

// run makes a worker run one turn, and waits for its end.
func (s *stepper) run(server *server) {
	others := s.takeAll() // server may be among them
	s.c.mu.Lock()
	for _, other := range others {
		if other != server {
			s.c.schedule(other)
		}
	}
	server.scheduled = true
	s.c.cache.remove(server)
	s.granted = server
	s.c.workers++
	s.c.mu.Unlock()
	s.c.wg.Go(s.c.work)
	<-s.done
}

func (s *stepper) Due() (first time.Time, err error) {
	err = s.eachShard(func(typ string, shard int64) error {
		wait, ok, err := s.nextDue(typ, shard)
		if ok && (first.IsZero() || wait.Before(first)) {
			first = wait
		}
		return err
	})
	return first, err
}

// nextDue ignores the ends of idempotency keys, at which no handler runs, and what cannot be read.
func (s *stepper) nextDue(typ string, shard int64) (at time.Time, ok bool, err error) {
	rows := dueShard(typ, shard)
	err = s.c.db.Read(s.ctx, func(tx backend.ReadTx) error {
		ok = false
		pairs, err := tx.GetRange(rows.Below(), backend.RangeOptions{}).Get()
		for _, pair := range pairs {
			_, d, parsed := parseDue(rows, pair.Key)
			if parsed == nil && d.Kind != dueOnce {
				at, ok = time.UnixMilli(d.At), true
				return nil
			}
		}
		return err
	})
	return at, ok, err
}

func (s *stepper) Move() error {
	return s.eachShard(func(typ string, shard int64) error {
		_, watch, err := s.c.moveDue(s.ctx, typ, shard)
		if err == nil {
			watch.Cancel()
		}
		return err
	})
}

package dserver

import (
	"sync"
	"time"
)

// acts is the AfterCommit functions of the servers of a process that run or wait, whichever of its consumers ran their
// turns, and those of Info. Those of one turn run after those of the turn before.
type acts struct {
	mu      sync.Mutex
	servers map[Ref]*actQueue
}

// actQueue is the functions of one server.
type actQueue struct {
	turns int           // whose functions have not ended
	last  chan struct{} // closed when those of the last turn have
	moved time.Time     // when the first turn's began
}

const (
	// maxActs is how many turns' functions may wait for one that takes long. Those of a further turn are dropped.
	maxActs = 1000

	// actStall is how long a turn's functions may run before the turns that follow wait for nothing but patience.
	actStall = time.Second
)

// act runs what AfterCommit was given, after what earlier turns of the server were given, and waits for the end: for
// patience. Then the server goes on. It must, as a function may itself wait for the server's next turn, which calls it;
// and nobody else can be told that it does. Where functions come to their ends, though more slowly than turns, the turns
// wait longer before any would be dropped.
func (t *turn) act(actions []func()) {
	ref, queue := t.s.ref(), &t.c.process.acts
	before, done, wait := queue.join(ref)
	if done == nil {
		t.c.log.Error().Stringer(logServer, ref).Msg("an AfterCommit function does not return; those of later turns are dropped")
		return
	}
	t.c.wg.Go(func() {
		if before != nil {
			<-before
			queue.begin(ref)
		}
		t.actAll(actions, done)
	})
	isClosedWithin(done, wait)
}

// join makes room for the functions of a turn: they run when before is closed, if it is not nil, and close done. The
// turn waits for them for so long.
func (a *acts) join(ref Ref) (before, done chan struct{}, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.servers == nil {
		a.servers = map[Ref]*actQueue{}
	}
	q := a.servers[ref]
	if q == nil {
		q = &actQueue{moved: time.Now()}
		a.servers[ref] = q
	}
	if q.turns == maxActs {
		return nil, nil, 0
	}
	wait = patience
	if crowd := q.turns - maxActs/2; crowd > 0 && time.Since(q.moved) < actStall {
		wait = min(actStall, patience*time.Duration(1+crowd))
	}
	before, done = q.last, make(chan struct{})
	q.last = done
	q.turns++
	return before, done, wait
}

// begin notes that the functions of the next turn have their turn.
func (a *acts) begin(ref Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.servers[ref].moved = time.Now()
}

func (a *acts) end(ref Ref, done chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(done)
	if q := a.servers[ref]; q.turns > 1 {
		q.turns--
	} else {
		delete(a.servers, ref)
	}
}

// isIdle reports whether no function runs or waits.
func (a *acts) isIdle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.servers) == 0
}

// of is the servers of some types whose functions run or wait.
func (a *acts) of(types map[string]*served) (refs []Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ref := range a.servers {
		if types[ref.Type] != nil {
			refs = append(refs, ref)
		}
	}
	return refs
}

// actAll runs functions in order. One that ends its goroutine does not take those after it along.
func (t *turn) actAll(actions []func(), done chan struct{}) {
	defer func() {
		if len(actions) > 0 {
			t.c.wg.Go(func() { t.actAll(actions, done) })
			return
		}
		t.c.process.acts.end(t.s.ref(), done)
	}()
	for len(actions) > 0 {
		action := actions[0]
		actions = actions[1:]
		t.actOnce(action)
	}
}

// actOnce runs a function. A panic there cannot undo anything: it is logged.
func (t *turn) actOnce(action func()) {
	defer func() {
		if p := recover(); p != nil {
			f := panicked(p)
			t.c.log.Error().Str(logPanic, f.Text).Str(logStack, f.Stack).Stringer(logServer, t.s.ref()).
				Msg("an AfterCommit function panicked")
		}
	}()
	action()
}

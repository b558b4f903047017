package mailbox

import (
	"sync"
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
)

// Acts is the AfterCommit functions of the servers of a process that run or wait, whichever of its consumers ran their
// turns, and those of Info. Those of one turn run after those of the turn before.
type Acts struct {
	mu      sync.Mutex
	servers map[tenant.Ref]*actQueue
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

	// actPatience is how long a turn waits for its functions.
	actPatience = 10 * time.Millisecond

	// actStall is how long a turn's functions may run before the turns that follow wait for nothing but actPatience.
	actStall = time.Second
)

// Join makes room for the functions of a turn: they run when before is closed, if it is not nil, and close done. The
// turn waits for them for so long.
func (a *Acts) Join(ref tenant.Ref) (before, done chan struct{}, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.servers == nil {
		a.servers = map[tenant.Ref]*actQueue{}
	}
	q := a.servers[ref]
	if q == nil {
		q = &actQueue{moved: time.Now()}
		a.servers[ref] = q
	}
	if q.turns == maxActs {
		return nil, nil, 0
	}
	wait = actPatience
	if crowd := q.turns - maxActs/2; crowd > 0 && time.Since(q.moved) < actStall {
		wait = min(actStall, actPatience*time.Duration(1+crowd))
	}
	before, done = q.last, make(chan struct{})
	q.last = done
	q.turns++
	return before, done, wait
}

// Begin notes that the functions of the next turn have their turn.
func (a *Acts) Begin(ref tenant.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.servers[ref].moved = time.Now()
}

// End notes that the functions of a turn have ended.
func (a *Acts) End(ref tenant.Ref, done chan struct{}) {
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
func (a *Acts) isIdle() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.servers) == 0
}

// Of is the servers, of types that are ours, whose functions run or wait.
func (a *Acts) Of(isOurs func(typ string) bool) (refs []tenant.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ref := range a.servers {
		if isOurs(ref.Type) {
			refs = append(refs, ref)
		}
	}
	return refs
}

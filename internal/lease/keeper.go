package lease

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/queue"
)

// Keeper keeps the locks that one consumer holds, and watches those of others.
type Keeper struct {
	env  *turn.Env
	log  zerolog.Logger
	host Host
	wg   *sync.WaitGroup // of the consumer

	taking  context.Context // when it ends, no attempt begins any more
	working context.Context // of work
	moment  time.Duration   // for work to return when working has ended

	mu      sync.Mutex
	holding map[tenant.Ref]*holder // the locks whose work runs here
	beats   bool                   // for them
	hasHeld bool                   // it has beaten at some time
	closing bool
	rests   chan struct{} // closed when no beat is needed any more

	vigil vigil
}

// Host is the consumer whose locks are kept.
type Host interface {
	// Release gives the end of locked work to the next turn of its server, and waits for what comes of it. It declines
	// when no turn takes it before ctx ends, or a moment later.
	Release(ctx context.Context, ref tenant.Ref, r *turn.Release) turn.Outcome

	// Ended says that the work of a server is over: whatever became of its lock, somebody has to look.
	Ended(ref tenant.Ref)

	// Wake makes a turn look at a server whose lock has to be taken over.
	Wake(ref tenant.Ref)

	// LeaveBehind notes that work does not return, until cameBack is called.
	LeaveBehind(ref tenant.Ref, what string, goroutine uint64) (cameBack func())
}

// NewKeeper keeps the locks of a consumer, which begins it.
func NewKeeper(env *turn.Env, log zerolog.Logger, host Host, wg *sync.WaitGroup) *Keeper {
	return &Keeper{env: env, log: log, host: host, wg: wg, holding: map[tenant.Ref]*holder{}, rests: make(chan struct{})}
}

// Begin says when nothing is begun any more, when work has to end, and how long it may take to return then.
func (k *Keeper) Begin(taking, working context.Context, moment time.Duration) {
	k.taking, k.working, k.moment = taking, working, moment
}

// Close lets the beats end with the last lock.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closing = true
	k.rest()
}

// Hold begins locked work after the transaction that took the lock for a message.
func (k *Keeper) Hold(ref tenant.Ref, def *turn.Definition, item queue.Item, env tenant.Envelope, l tenant.Lock) {
	k.hold(&holder{ref: ref, def: def, handler: def.Locked[env.Name], item: item, env: env, lock: l})
}

// Works reports whether any work runs here.
func (k *Keeper) Works() bool { return k.Held() > 0 }

// Oldest is since when this process holds the lock that it holds for longest; zero when it holds none.
func (k *Keeper) Oldest() (oldest time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.holding {
		if oldest.IsZero() || h.since.Before(oldest) {
			oldest = h.since
		}
	}
	return oldest
}

// Held is how many locks are held here.
func (k *Keeper) Held() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.holding)
}

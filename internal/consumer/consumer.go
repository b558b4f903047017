package consumer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/lease"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

const (
	defaultTurnsPerCPU = 128
	defaultCacheBytes  = 64 << 20

	// linger is how long an emptied queue is left alone before it is confirmed to be empty, which costs a commit.
	linger = 10 * time.Millisecond

	// maxIdleWorkers is how many goroutines wait for the next turn: a new one would have to grow its stack.
	maxIdleWorkers = 32

	// maxRunnable is how many servers may wait for a worker before the scanners pause: the rest stays in the store.
	maxRunnable = 4096
)

// consumer is one Run, or one call of Info.
type consumer struct {
	turn.Env // whose base outlives Run's context by the grace
	options  Options
	log      zerolog.Logger
	types    map[string]*served
	first    string // of the types, in their order
	last     string
	max      int           // workers
	room     chan struct{} // has a token when scanners may go on

	abort context.CancelCauseFunc

	taking   context.Context // ends with Run's: from then on nothing is begun
	caution  *caution
	logged   loggedOnce
	unlisted loggedOnce // types and labels

	parkAfter time.Duration
	grace     time.Duration // of the end of Run

	steps *Stepper // nil but in tests that run each turn by hand

	wg sync.WaitGroup

	mu       sync.Mutex
	cache    cache
	runnable runQueue  // servers that want a turn
	ready    sync.Cond // a server wants a turn, or the consumer closes
	workers  int
	idle     int // workers that wait, and were not woken
	closing  bool
	hall     hall
	worked   bool                 // since the pulse was last kept
	rests    bool                 // the pulse, as there is no work
	emptied  map[int64]tenant.Ref // the server of each shard whose queue was emptied last
	posts    map[int64]*post      // by shard
	places   places
	strays   map[*stray]struct{}

	peers    atomic.Int64  // how many share a shard, where some do
	peered   atomic.Int64  // when that was found, in Unix nanoseconds
	standing chan struct{} // has a token since then
	begins   chan struct{} // has a token when there is work after a rest

	locks   *lease.Keeper
	watches atomic.Int64 // that wait on the store
	damaged sync.Map     // keys of rows that cannot be read -> nothing
}

// served is a type that a consumer runs.
type served struct {
	share   // guarded by the consumer's mutex
	def     *turn.Definition
	servers map[string]*server // guarded by the consumer's mutex
	handled atomic.Int64       // messages whose turns were committed
}

// Options are how a consumer runs. Zero values are the defaults, but for the Logger.
type Options struct {
	Turns  int           // servers handled at a time; 128 per CPU, as a turn mostly waits for its commit
	Work   int           // locked work done at a time; 1,024
	Cache  int64         // bytes of state kept; 64 MiB
	Grace  time.Duration // how long the end of Run waits; 10 s
	Labels []string      // whose servers it runs; {""}, those that are not pinned
	Logger zerolog.Logger
	Hooks  turn.Hooks // nil: none

	// For tests, of this library and of programs (package dservertest).

	Cold   bool           // each message has a turn of its own, which decodes the state from the store
	Beat   time.Duration  // how often the process tells that it lives; all consumers of a store need the same
	Park   bool           // a server that cannot go on is parked at once
	Rival  bool           // it begins at once, and stands by for no peer
	Joined func()         // is called when the handles of this process find the consumer
	Steps  func(*Stepper) // is called with what runs the consumer by hand: it takes nothing by itself
}

// Run serves types until ctx ends.
func Run(ctx context.Context, db backend.Database, o Options, types ...*turn.Definition) error {
	run := newConsumer(db, o, types...)
	p, release := mailbox.Acquire(db)
	defer release()
	run.Process = p
	return run.run(ctx)
}

func newConsumer(db backend.Database, o Options, types ...*turn.Definition) *consumer {
	run := &consumer{
		Env: turn.Env{DB: db, Name: rand.Text(), Labels: labelsOf(o), Hooks: o.Hooks}, log: o.Logger, max: o.Turns, options: o,
		types: map[string]*served{}, emptied: map[int64]tenant.Ref{}, posts: map[int64]*post{},
		room: make(chan struct{}, 1), standing: make(chan struct{}, 1), begins: make(chan struct{}, 1),

		places:  newPlaces(o.Work),
		strays:  map[*stray]struct{}{},
		caution: &caution{until: time.Now().Add(youth)},
		cache:   cache{limit: o.Cache},

		parkAfter: parkAfter,
		grace:     o.Grace,
	}
	if run.grace <= 0 {
		run.grace = defaultGrace
	}
	if run.max <= 0 {
		run.max = defaultTurnsPerCPU * runtime.GOMAXPROCS(0)
	}
	if run.cache.limit <= 0 {
		run.cache.limit = defaultCacheBytes
	}
	run.ready.L = &run.mu
	run.locks = lease.NewKeeper(&run.Env, run.log, run, &run.wg)
	for _, def := range types {
		if other := run.types[def.Name]; other != nil {
			panic(fmt.Sprintf("dserver: Run is given two types named %q, from %s and %s", def.Name, other.def.Place, def.Place))
		}
		if !def.HasHandlers() {
			panic(fmt.Sprintf("dserver: Run is given %q without handlers (Define at %s)", def.Name, def.Place))
		}
		run.types[def.Name] = &served{def: def, servers: map[string]*server{}, share: newShare(def.Settings.Turns)}
	}
	for _, shard := range run.shards() {
		run.posts[shard] = newPost()
	}
	if names := slices.Sorted(maps.Keys(run.types)); len(names) > 0 { // an Info's has none
		run.first, run.last = names[0], names[len(names)-1]
	}
	return run
}

func (c *consumer) run(ctx context.Context) error {
	c.Base, c.abort = context.WithCancelCause(context.WithoutCancel(ctx))
	defer c.abort(nil)
	c.Turns = turn.ForHandlers(c.Base, c.log)
	scans, stopScans := context.WithCancel(c.Base) // and not with ctx: Leave comes before
	working, endWork := context.WithCancel(c.Base)
	defer endWork()
	c.taking = scans
	c.log.Info().Int(logs.Types, len(c.types)).Msg("consumer started") // before what it begins can say anything
	c.locks.Begin(scans, working, c.lastMoment())
	c.start(scans)
	if r, ok := c.DB.(backend.Reporter); ok {
		defer r.Report(func(what error) { c.log.Warn().Err(what).Msg("the store reports") })()
	}

	select {
	case <-ctx.Done():
	case <-c.Base.Done(): // the store cannot go on
	}
	c.Process.Leave(c) // before the pulse ends, with the scans: it tells who has left
	stopScans()
	c.close()
	defer time.AfterFunc(c.grace-c.workEnds(), endWork).Stop()
	left := c.finish()
	c.farewell()
	c.log.Info().Msg("consumer stopped")
	if err := context.Cause(c.Base); ctx.Err() == nil || isFatal(err) {
		return errors.Join(err, left)
	}
	return left
}

// start begins to look for work, unless a test asked to run each turn by hand.
func (c *consumer) start(ctx context.Context) {
	asked := &c.options
	if asked.Park {
		c.parkAfter = 0
	}
	if asked.Beat > 0 {
		c.Process.Others.SetInterval(asked.Beat)
	}
	if asked.Steps != nil {
		c.steps, c.max = newStepper(ctx, c), 0
		c.Process.Steady.Store(true)
		asked.Steps(c.steps)
		return
	}
	c.Process.Join(c)
	for _, shard := range c.shards() {
		c.wg.Go(func() { c.scan(ctx, shard) })
		c.wg.Go(func() { c.move(ctx, shard) })
	}
	c.wg.Go(func() { c.patrol(ctx) })
	c.wg.Go(func() { c.pulse(ctx) })
	if c.keepsLetters() {
		c.wg.Go(func() { c.sweepLetters(ctx) })
	}
	for _, label := range c.Labels {
		c.wg.Go(func() { c.scanLabel(ctx, label) })
	}
	c.wg.Go(func() { c.Process.Attend(ctx, c.log, c.caution.vanished.Store) })
	if asked.Joined != nil {
		asked.Joined()
	}
}

// consumerOf is a consumer of this process that runs a type, or nil.
func consumerOf(p *mailbox.Process, typ string) *consumer {
	if list := p.MembersOf(typ); len(list) > 0 {
		return list[0].(*consumer)
	}
	return nil
}

// Types is part of mailbox.Member.
func (c *consumer) Types() iter.Seq[string] { return maps.Keys(c.types) }

// Ability is part of mailbox.Member.
func (c *consumer) Ability(typ string) tenant.Ability {
	a := c.types[typ].def.Ability()
	a.Labels = c.Labels
	return a
}

// runs reports whether it runs a type.
func (c *consumer) runs(typ string) bool { return c.types[typ] != nil }

// InHand is part of mailbox.Member. What a handler that did not return left behind is in nobody's hand.
func (c *consumer) InHand() tenant.InHand {
	c.mu.Lock()
	h := tenant.InHand{Turns: c.workers - c.idle, Waiting: c.waiting()}
	c.mu.Unlock()
	h.Work = c.locks.Held()
	return h
}

// Handled is part of mailbox.Member.
func (c *consumer) Handled(typ string) int64 {
	if s := c.types[typ]; s != nil {
		return s.handled.Load()
	}
	return 0
}

// count notes that messages of a type were handled.
func (c *consumer) count(typ string, n int) {
	if s := c.types[typ]; s != nil {
		s.handled.Add(int64(n))
	}
}

// Log is part of mailbox.Member.
func (c *consumer) Log() zerolog.Logger { return c.log }

// fail ends Run when the store cannot go on.
func (c *consumer) fail(err error) {
	if isFatal(err) {
		c.abort(fmt.Errorf("dserver: run: %w", err))
	}
}

func isFatal(err error) bool { return errors.Is(err, backend.ErrClosed) }

// Wake makes a turn look at the server's queue, as a mark or a push of this process told. It is part of mailbox.Member and of
// lease.Host.
func (c *consumer) Wake(ref tenant.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lookAt(ref)
}

// lookAt is Wake with the mutex held.
func (c *consumer) lookAt(ref tenant.Ref) {
	if c.closing {
		return
	}
	s := c.server(ref)
	s.look, s.marked = true, true
	c.schedule(s)
}

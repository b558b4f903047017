package dserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver/internal/kit"
)

// Consumer runs servers in this process. Its zero value is ready to use, and is not changed by Run. The Logger's writer
// is used by several goroutines at once.
type Consumer struct {
	Turns  int            // servers handled at a time; 128 per CPU, as a turn mostly waits for its commit
	Work   int            // locked work done at a time; 1,024. What is beyond waits on its queue, first come first served
	Cache  int64          // bytes of state kept; 64 MiB
	Logger zerolog.Logger // the zero value warns through slog.Default; zerolog.Nop() is silent
}

const (
	defaultTurnsPerCPU = 128
	defaultCacheBytes  = 64 << 20

	// lookInterval bounds every wait for a bell: nothing rests on a watch alone.
	lookInterval = 5 * time.Second

	// linger is how long an emptied queue is left alone before it is confirmed to be empty, which costs a commit.
	linger = 10 * time.Millisecond

	// maxIdleWorkers is how many goroutines wait for the next turn: a new one would have to grow its stack.
	maxIdleWorkers = 32

	// maxRunnable is how many servers may wait for a worker before the scanners pause: the rest stays in the store.
	maxRunnable = 4096
)

// Run is Consumer{}.Run. It warns through slog.Default, as it has no Logger.
func Run(ctx context.Context, db backend.Database, types ...Type) error {
	return Consumer{}.Run(ctx, db, types...)
}

// Run serves the types until ctx ends, finishes the turns in hand and returns nil. It returns an error when the
// database has ended (backend.ErrClosed), and panics when it is given no types, two of one name, or one without a
// handler. Damaged data (backend.ErrCorrupt) does not end it: what cannot be read is logged and left alone, and all else
// goes on.
//
// The end of ctx is a graceful shutdown. No locked work is begun any more. Run waits 10 seconds for the turns in hand and
// for locked work, whose context ends after 9. Then it gives up the commits of what still runs, and waits 2 more seconds
// for it to return. A handler, an AfterCommit function or locked work that has not returned by then is left behind:
// Run logs which, and returns an error that says so. Nothing is lost by that, as its message is still in the mailbox or
// under the lock, and nothing of it is committed any more. But its goroutine is still in this process: end the process.
// Closing the database waits for such a goroutine for backend.MaxClose, and then leaves it behind as well.
func (c Consumer) Run(ctx context.Context, db backend.Database, types ...Type) error {
	if len(types) == 0 {
		_, place := callerOutside()
		panic("dserver: Run is given no types to serve, at " + place)
	}
	run := newConsumer(c, db, types)
	p, release := acquireProcess(db)
	defer release()
	run.process = p
	return run.run(ctx)
}

// consumer is one Run.
type consumer struct {
	db      backend.Database
	log     zerolog.Logger
	process *process
	types   map[string]*served
	max     int           // workers
	room    chan struct{} // has a token when scanners may go on

	base  context.Context // of commits: it outlives Run's by the grace
	turns context.Context // of handlers
	abort context.CancelCauseFunc

	taking  context.Context // ends with Run's: from then on nothing is begun
	working context.Context // of locked work: it ends near the end of the grace
	caution *caution
	left    leftAlone

	parkAfter time.Duration

	cold  bool     // no state is kept from one turn to the next
	steps *stepper // nil but in tests that run each turn by hand

	wg sync.WaitGroup

	mu       sync.Mutex
	cache    cache
	runnable runQueue
	ready    sync.Cond // a server wants a turn, or the consumer closes
	workers  int
	idle     int // workers that wait, and were not woken
	closing  bool
	hall     hall
	holding  map[Ref]*holder // the locks whose work runs here
	beats    bool            // for them
	hasHeld  bool            // it has beaten at some time
	rests    chan struct{}   // closed when no beat is needed any more
	places   places
	strays   map[*stray]struct{}

	vigil   vigil
	damaged sync.Map // keys of rows that cannot be read -> nothing
}

// served is a type that a consumer runs.
type served struct {
	def     *definition
	servers map[string]*server // guarded by the consumer's mutex
	emptied [shards]string     // the server whose queue was emptied last; guarded as well
}

func newConsumer(c Consumer, db backend.Database, types []Type) *consumer {
	run := &consumer{
		db: db, log: loggerOf(c.Logger), max: c.Turns,
		types: map[string]*served{},
		room:  make(chan struct{}, 1),

		holding: map[Ref]*holder{},
		places:  newPlaces(c.Work),
		rests:   make(chan struct{}),
		strays:  map[*stray]struct{}{},
		caution: &caution{name: rand.Text(), until: time.Now().Add(youth)},
		cache:   cache{limit: c.Cache},

		parkAfter: parkAfter,
	}
	if run.max <= 0 {
		run.max = defaultTurnsPerCPU * runtime.GOMAXPROCS(0)
	}
	if run.cache.limit <= 0 {
		run.cache.limit = defaultCacheBytes
	}
	run.ready.L = &run.mu
	for _, t := range types {
		def := t.sealed()
		if other := run.types[def.name]; other != nil {
			panic(fmt.Sprintf("dserver: Run is given two types named %q, from %s and %s", def.name, other.def.place, def.place))
		}
		if !def.hasHandlers() {
			panic(fmt.Sprintf("dserver: Run is given %q without handlers (Define at %s)", def.name, def.place))
		}
		run.types[def.name] = &served{def: def, servers: map[string]*server{}}
	}
	return run
}

func (c *consumer) run(ctx context.Context) error {
	c.base, c.abort = context.WithCancelCause(context.WithoutCancel(ctx))
	defer c.abort(nil)
	c.turns = context.WithValue(c.base, turnKey{}, &misuses{log: c.log})
	scans, stopScans := context.WithCancel(ctx)
	working, endWork := context.WithCancel(c.base)
	defer endWork()
	c.taking, c.working = scans, working
	c.start(scans, kit.From(ctx))
	c.log.Info().Int(logTypes, len(c.types)).Msg("consumer started")
	if r, ok := c.db.(backend.Reporter); ok {
		defer r.Report(func(what error) { c.log.Warn().Err(what).Msg("the store reports") })()
	}

	select {
	case <-ctx.Done():
	case <-c.base.Done(): // the store cannot go on
	}
	stopScans()
	c.process.leave(c)
	c.close()
	defer time.AfterFunc(workGrace, endWork).Stop()
	left := c.finish()
	c.farewell()
	c.log.Info().Msg("consumer stopped")
	if err := context.Cause(c.base); ctx.Err() == nil || isFatal(err) {
		return errors.Join(err, left)
	}
	return left
}

// start begins to look for work, unless a test asked to run each turn by hand.
func (c *consumer) start(ctx context.Context, asked kit.Request) {
	c.cold = asked.Cold
	if asked.Park {
		c.parkAfter = 0
	}
	if asked.Beat > 0 {
		c.process.others.setInterval(asked.Beat)
	}
	if asked.Steps != nil {
		c.steps, c.max = newStepper(ctx, c), 0
		c.process.steady.Store(true)
		asked.Steps(c.steps)
		return
	}
	c.process.join(c)
	for name := range c.types {
		for shard := range int64(shards) {
			c.wg.Go(func() { c.scan(ctx, name, shard) })
			c.wg.Go(func() { c.move(ctx, name, shard) })
		}
	}
	c.wg.Go(func() { c.process.attend(ctx, c) })
	if asked.Joined != nil {
		asked.Joined()
	}
}

// fail ends Run when the store cannot go on.
func (c *consumer) fail(err error) {
	if isFatal(err) {
		c.abort(fmt.Errorf("dserver: run: %w", err))
	}
}

func isFatal(err error) bool { return errors.Is(err, backend.ErrClosed) }

// offer gives a message to the server's next turn. It reports false when it has to take the queue.
func (c *consumer) offer(ref Ref, a *arrival) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	s := c.server(ref)
	if s.slow && !a.call { // the cast would wait for a handler
		return false
	}
	a.server, a.came = s, c.hall.looks
	s.arrivals = append(s.arrivals, a)
	c.enter(a)
	c.schedule(s)
	return true
}

// wake makes a turn look at the server's queue, as a mark or a push of this process told.
func (c *consumer) wake(ref Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lookAt(ref)
}

// lookAt is wake with the mutex held.
func (c *consumer) lookAt(ref Ref) {
	if c.closing {
		return
	}
	s := c.server(ref)
	s.look, s.marked = true, true
	c.schedule(s)
}

// server finds or makes what is kept of a server. The mutex is held.
func (c *consumer) server(ref Ref) *server {
	t := c.types[ref.Type]
	s := t.servers[ref.ID]
	if s == nil {
		s = &server{id: ref.ID, def: t.def, bytes: serverBytes + int64(len(ref.ID))}
		t.servers[ref.ID] = s
		c.cache.add(s)
	}
	return s
}

// schedule gives a server to a worker. The mutex is held.
func (c *consumer) schedule(s *server) {
	if s.scheduled {
		return
	}
	s.scheduled = true
	c.cache.remove(s)
	c.runnable.push(s)
	c.steps.wake()
	c.staff()
}

// staff gets a worker for a server that became runnable. The mutex is held.
func (c *consumer) staff() {
	if c.idle > 0 {
		c.idle--
		c.ready.Signal()
	} else if c.workers < c.max {
		c.workers++
		c.wg.Go(c.work)
	}
}

// work runs turns until there are enough workers that have nothing to do.
func (c *consumer) work() {
	goroutine, guard := goroutineID(), &guard{}
	for s := c.take(); s != nil; s = c.take() {
		if s.crowded {
			runtime.Gosched() // lets the senders that the last turn answered join this one
		}
		if !c.runTurn(s, goroutine, guard) {
			return
		}
	}
}

// runTurn runs one turn on this goroutine. It returns false when another one took the turn, and the worker's place, over.
func (c *consumer) runTurn(s *server, goroutine uint64, guard *guard) bool {
	t := &turn{c: c, s: s, goroutine: goroutine, guard: guard, keys: tenantOf(s.ref()), limit: maxBatch}
	return c.conclude(t, func() nextTurn { return c.turn(t) })
}

// conclude runs a turn, or what another goroutine left of it, and settles what comes next. It returns false when yet
// another goroutine took it over.
func (c *consumer) conclude(t *turn, run func() nextTurn) bool {
	t.s.goroutine.Store(t.goroutine)
	ended := false
	defer func() {
		if !ended { // the user's code ended this goroutine
			t.ended()
		}
	}()
	next := run()
	ended = true
	if next.gone {
		return false
	}
	if t.info == nil {
		c.settle(t, next)
	}
	return true
}

// take waits for a server that wants a turn. It returns nil when the worker is not needed.
func (c *consumer) take() *server {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.steps != nil {
		return c.steps.take()
	}
	for {
		s := c.runnable.pop()
		if c.runnable.len < maxRunnable/2 {
			select {
			case c.room <- struct{}{}:
			default:
			}
		}
		if s != nil {
			return s
		}
		if c.closing || c.idle >= maxIdleWorkers {
			c.workers--
			return nil
		}
		c.idle++
		c.ready.Wait()
	}
}

// settle decides when the server has its next turn.
func (c *consumer) settle(t *turn, again nextTurn) {
	s := t.s
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.steps.settled()
	t.unbook()
	s.bytes = serverBytes + int64(len(s.id))
	if s.state.rows != nil {
		s.bytes += s.state.rows.Bytes()
	}
	if again.took > 0 {
		s.slow = again.took > patience
	}
	if c.closing {
		if s.scheduled = s.letGo(); s.scheduled {
			c.runnable.push(s)
		}
		return
	}
	if again.now {
		s.look = true
	} else if again.after > 0 {
		c.lookLater(s, again.after)
	}
	if len(s.arrivals) > 0 || s.look {
		c.runnable.push(s)
		return
	}
	s.scheduled = false
	if s.timer == nil { // else the cache could forget since when a message backs off, which it would for ever
		c.cache.add(s)
		c.evict()
	}
}

// lookLater schedules a server when some time has passed, unless that is the case sooner. The mutex is held.
func (c *consumer) lookLater(s *server, d time.Duration) {
	due := time.Now().Add(d).UnixNano()
	if s.timer != nil {
		if due >= s.due {
			return
		}
		s.timer.Stop() // when that is too late, the server is looked at twice
	}
	s.due = due
	s.timer = time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.timer = nil
		c.lookAt(s.ref()) // s itself may have been forgotten meanwhile
	})
}

// unmark is called before the mark is cleared in the store: a push in between sets it again.
func (c *consumer) unmark(s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.marked = false
}

// evict forgets the servers that were not used for longest. The mutex is held.
func (c *consumer) evict() {
	for s := c.cache.victim(); s != nil; s = c.cache.victim() {
		c.cache.remove(s)
		delete(c.types[s.def.name].servers, s.id)
	}
}

// letGo makes senders push what they offered, as the consumer closes, and reports whether the end of locked work is left:
// that has its turn all the same.
func (s *server) letGo() bool {
	var ends, others []*arrival
	for _, a := range s.arrivals {
		if a.released != nil {
			ends = append(ends, a)
		} else {
			others = append(others, a)
		}
	}
	decline(others)
	s.arrivals = ends
	return len(ends) > 0
}

// decline makes senders push what they offered.
func decline(arrivals []*arrival) {
	for _, a := range arrivals {
		if !a.withdrawn {
			a.taken = true
			a.done <- outcome{declined: true}
		}
	}
}

// nextTurn says when a server wants to be looked at again.
type nextTurn struct {
	gone  bool // another goroutine has the turn
	now   bool
	after time.Duration
	took  time.Duration // by this turn's handlers, when any ran
}

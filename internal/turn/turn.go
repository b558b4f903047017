package turn

import (
	"context"
	"errors"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/statediff"
)

// Turn is a turn: one transaction of a consumer for one server.
//
//  1. The cut: take the local arrivals of this moment. It is drawn before the store is asked for its snapshot, so what
//     anyone was acknowledged before one of them was sent is in the snapshot, and is handled first.
//  2. Read the records of the server and the head of its queue, in one range, or remember them (recall.go).
//  3. Decide what is handled: stored messages first; the arrivals join only when no stored message is left, and go to
//     the queue otherwise.
//  4. The state: from the cache when its version is the committed one, else from the store.
//  5. Run the handlers (batch.go).
//  6. Write: messages removed, the state's edits under a new version, replies, sends. Every turn that writes conflicts
//     on the version, the lock, each message that it takes and the attempts that were counted for it. Commit.
//  7. Only then: the cache, the answers to local callers, the actions.
//
// The steps 1 and 7 are in package consumer (visit.go: cut and finish), the others here: 3 in selection.go, 5 in batch.go, 6
// in writes.go, and the cache of 7 in remember.go.
//
// | dies | what is left |
// |---|---|
// | before the commit (1-6) | nothing happened: the messages are on the queue; arrivals die with their senders |
// | after the commit (7) | everything happened; actions may be lost; local callers died with this process |
// | outcome unknown | the backend finds out, or the store is gone: then a local caller is told so |
type Turn struct {
	Env    *Env
	Host   Host
	Def    *Definition
	Ref    tenant.Ref
	Keys   tenant.Keys
	Memory *Memory // of the server

	Offered []*Arrival    // the local arrivals that were cut
	Info    *Arrival      // the only message, past the queue and the lock
	Marked  bool          // the server's ready mark may be set
	Parts   bool          // and is cleared with the last message, if nothing comes meanwhile
	Limit   int           // messages at most
	Took    time.Duration // by handlers, over all attempts
	Refusal Refusal       // what an attempt before this one has found

	// For the hooks.
	Began     time.Time // zero without them
	conflicts int       // how often the transaction ran again
	handlings int       // how often handlers ran
	ended     time.Time // when those of the current attempt had
	commit    time.Duration
	cached    bool // the state had not to be read

	// Of the current attempt. The transaction may run it again.
	Runs     int
	ran      int // with those that remember the head (recall.go)
	Head     tenant.Head
	Messages []Work
	Waits    time.Duration // a lane's head backs off for so long
	Able     int           // how many stored messages could be handled now, if the batch had room
	passes   bool          // some of them are of priority, and some are not
	Unheard  [2]*Work      // the first of each lane that this consumer has no handler for
	Joined   int           // how many arrivals are in the batch
	loaded   time.Duration // what loading the state took
	Loader   *Loader
	Batch    *Batch
	stamped  bool
	recaller backend.Recaller // nil where the store has none
	recalled bool             // the head is what is remembered (recall.go)
	proves   bool             // a change of the head or the queue is a conflict
	owned    bool             // the owner record will name this consumer
	parts    bool             // as Parts, and a change of the head or the queue is a conflict
	Parted   bool             // the mark is cleared
	Version  backend.Future[backend.Versionstamp]
	Mine     []tenant.Delivery
	LockEnd  tenant.LockEnd    // of locked work, before its time
	Taken    tenant.LockRecord // of the locked work that begins
}

// Env is what all turns of a consumer have in common.
type Env struct {
	DB      backend.Database
	Base    context.Context // of commits
	Turns   context.Context // of handlers
	Process *mailbox.Process
	Name    string   // of the consumer, in owner records and locks
	Labels  []string // whose servers it runs
	Hooks   Hooks    // nil: none
}

// HolderName is this consumer in the locks that it takes.
func (e *Env) HolderName() string { return tenant.HolderMark + e.Process.ID + "/" + e.Name }

// Host is who runs a turn.
type Host interface {
	// Begin begins the time of a batch's handlers. End ends it, and reports whether the batch is still this goroutine's:
	// when its time was up, the turn was given to another one.
	Begin(b *Batch)
	End(b *Batch) bool

	// Book takes a place for locked work.
	Book() bool

	// Part is called before a turn clears the server's ready mark, which a push of this process sets again.
	Part()
}

// Memory is what a consumer remembers of a server from one turn to the next.
type Memory struct {
	State  State
	passed passed
	doubts *Doubts // nil of most servers
}

// Doubts is what is remembered of a server while something is wrong with it.
type Doubts struct {
	recalled time.Time  // when what was remembered was wrong (recall.go)
	Waiting  [2]Waiting // of the lanes
	Blind    Blindness  // of the state, which this program cannot read
}

// Doubt is the doubts, made when they are needed.
func (m *Memory) Doubt() *Doubts {
	if m.doubts == nil {
		m.doubts = new(Doubts)
	}
	return m.doubts
}

// IsAbandoned reports whether another goroutine has the turn: nothing of it may be touched here any more.
func (t *Turn) IsAbandoned() bool { return t.Batch != nil && t.Batch.isAbandoned() }

// IsTooMuch reports errors of a transaction that did too much: a smaller batch may be possible.
func IsTooMuch(err error) bool {
	return errors.Is(err, backend.ErrTooLarge) || errors.Is(err, backend.ErrTooOld)
}

// StatementError is the failure of a statement of the program's, which concerns its message alone; nil when err is another.
// How many messages of the batch can be handled without it is before; -1 where that is not known.
func (t *Turn) StatementError(err error) (failed *backend.StatementError, before int) {
	if err == nil { // before anything is put on the heap
		return nil, -1
	}
	var e *backend.StatementError
	if !errors.As(err, &e) {
		return nil, -1
	}
	if e.Index < 0 || e.Index >= len(t.Batch.authors) {
		return e, -1
	}
	return e, t.Batch.authors[e.Index]
}

// Transact runs the turn's transaction once, with the attempts that it needs.
func (t *Turn) Transact() error {
	t.Runs, t.ran = 0, 0
	err := t.Env.DB.Transact(t.Env.Base, t.Attempt)
	if t.Env.Hooks != nil && !t.IsAbandoned() {
		t.conflicts += max(0, t.ran-1)
		t.commit = time.Since(t.ended)
	}
	return err
}

// Attempt is what the transaction runs, perhaps several times.
func (t *Turn) Attempt(tx backend.Tx) (err error) {
	if t.IsAbandoned() { // the store tries again what was too old
		return errAbandoned
	}
	t.ran++
	isKnown := t.recall(tx)
	if !isKnown {
		t.Runs++
	}
	t.Unheard = [2]*Work{}
	t.Batch, t.Mine, t.Joined, t.stamped, t.owned, t.Waits, t.Able, t.passes = nil, nil, 0, false, false, 0, 0, false
	t.parts, t.Parted = t.mayPart(), false
	if !isKnown {
		t.proves = t.mayProve()
		if err = tenant.ReadHead(tx, t.Keys, &t.Head, t.Memory.State.Known, !t.proves && !t.parts); err != nil { // 2
			return err
		}
	}
	if t.Messages, err = t.Choose(); err != nil || len(t.Messages) == 0 { // 3
		return err
	}
	timers, err := t.checkTimers(tx)
	if err != nil {
		return err
	}
	began := time.Now()
	st, err := t.load(tx) // 4
	t.loaded = time.Since(began)
	if err != nil {
		return err
	}
	if err := t.handle(st); err != nil { // 5
		return err
	}
	return t.write(tx, timers) // 6
}

// load gives the state that the attempt changes: its own value, which no failed handler has touched.
func (t *Turn) load(tx backend.Reader) (State, error) {
	cached := &t.Memory.State
	if err := t.Memory.IsBlind(t.Head.Version); err != nil {
		return State{}, err
	}
	if t.cached = cached.Rows != nil && cached.Version == t.Head.Version; !t.cached {
		rows, err := t.rows(tx)
		if err != nil {
			return State{}, err
		}
		*cached = State{Known: tenant.Known{Version: t.Head.Version, Meta: t.Head.Meta}, Rows: rows}
	}
	st := *cached
	cached.value = nil // the attempt's now
	if st.value == nil {
		value, err := st.Decode(t.Def)
		if err != nil {
			return st, err
		}
		st.value = value
	}
	t.Loader = &Loader{root: t.Keys.State(), tx: tx}
	return st, st.bind(t.Def, st.value, t.Loader)
}

func (t *Turn) rows(tx backend.Reader) (*statediff.Rows, error) {
	if t.Head.Version.IsZero() {
		return statediff.NewRows(), nil
	}
	return LoadRows(tx, t.Keys, t.Def.ownRows(t.Keys, t.Head.Meta.Schema))
}

// handle runs the batch. A handler that overruns keeps this goroutine, and loses the turn to another one (consumer/overrun.go).
func (t *Turn) handle(st State) error {
	now := time.Now()
	t.handlings++
	b := &Batch{
		def: t.Def, self: t.Ref, ctx: t.Env.Turns, until: now.Add(t.Def.Settings.HandlerLimit), state: st, loader: t.Loader, clock: now,
		fresh: t.Head.Version.IsZero(), mayLock: !t.Head.Lock.IsHeld(), host: t.Host, Started: now, refusal: t.Refusal,
		size: sizeOf(st.Rows), hooks: t.Env.Hooks, number: t.handlings,
	}
	t.Batch = b
	t.Host.Begin(b)
	b.run(t.Messages)
	if !t.Host.End(b) {
		return errAbandoned
	}
	t.ended = time.Now()
	t.Took += t.ended.Sub(now)
	switch {
	case b.broken != nil:
		return b.broken
	case b.cut:
		return ErrCut
	case b.Faulted != nil:
		return ErrFaulted
	}
	return nil
}

// Reasons for which an attempt is rolled back and the turn goes on otherwise.
var (
	ErrCut     = errors.New("dserver: the batch was cut")
	ErrFaulted = errors.New("dserver: a message faulted")

	ErrLost = errors.New("dserver: the lock was lost") // and with it what its work has found

	// The turn is another goroutine's now.
	errAbandoned = errors.New("dserver: the turn was abandoned")
)

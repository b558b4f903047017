package turn

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
	"github.com/dserver-go/dserver/statediff"
)

// Batch is the messages of one attempt of a turn and what their handlers did. It knows no transaction: it changes a
// value and collects what is to be written.
//
// All messages share one commit, so a message that fails must leave no trace in it. After each message of a small
// state the edits so far are a checkpoint, and a failure is undone by decoding the state again from there. A large
// state is not compared after each message: there a failure after others ends the attempt, and the next one stops
// before it.
type Batch struct {
	def     *Definition
	self    tenant.Ref
	ctx     context.Context // without the time limit, which until says
	until   time.Time
	state   State
	loader  *Loader
	fresh   bool // the server has no state: Init runs first
	mayLock bool // the server is not locked
	host    Host
	refusal Refusal
	hooks   Hooks // nil: none
	number  int   // of the runs of the turn's handlers; the first is 1

	edits     []statediff.Edit // from state.rows to the last checkpoint
	unchecked int              // messages that succeeded since then
	Results   []Result
	effects
	authors []int // of the statements: the numbers of their messages' results

	cut     bool   // the attempt must be repeated with only as many messages as there are results
	Waits   bool   // the next message needs the lock, which is taken, or a place for its work
	Faulted *Fault // of the first message
	broken  error  // the state cannot be read or decoded

	Started time.Time
	clock   time.Time             // when the message in hand was begun
	took    time.Duration         // by its handler, where hooks want to know
	running atomic.Pointer[Scope] // of the handler that runs
	Handled atomic.Int64          // how many results there are, for whoever takes the turn over
	does    atomic.Int32          // doing
	size    stateSize             // before any message
	phase   atomic.Int32
}

// The phases of a batch. Who ends it owns the turn from then on: the goroutine that runs the handlers, or one that
// takes its place when a handler does not return.
const (
	batchRuns int32 = iota
	batchEnded
	batchAbandoned
)

// End reports whether the batch is still its goroutine's.
func (b *Batch) End() bool { return b.phase.CompareAndSwap(batchRuns, batchEnded) }

func (b *Batch) isAbandoned() bool { return b.phase.Load() == batchAbandoned }

// Work is a message in a turn: from the queue, from this process, or from locked work that has ended.
type Work struct {
	Envelope tenant.Envelope
	Item     *queue.Item // of the queue
	Arrival  *Arrival    // or of this process
	Released *Release    // or taken off the queue by the lock
	Attempt  int         // of those that are counted; the first is 1
	unread   error       // the item is no message
	stale    bool        // the timer that sent it was moved or cancelled
}

// IsCall reports whether somebody waits for the outcome, to whom an error goes. A cast's error makes a dead letter.
func (w Work) IsCall() bool {
	return w.Envelope.From != "" || w.Arrival != nil && w.Arrival.Call
}

// comesFromTimer reports whether the message counts only while its timer is set as it was. The turn that locked for it
// has removed the timer: from then on the name is free, and the end of the work leaves it alone.
func (w Work) comesFromTimer() bool { return w.Envelope.Timer != "" && w.Released == nil }

// Refusal is a message whose handler asked for what turned out to be impossible when it was written.
type Refusal struct {
	item    backend.Versionstamp
	arrival *Arrival
	why     *tenant.Error // nil: there is none
}

// RefusalOf is the refusal of a message, for the attempts that follow.
func RefusalOf(m *Work, why *tenant.Error) Refusal {
	r := Refusal{arrival: m.Arrival, why: why}
	if m.Item != nil {
		r.item = m.Item.Stamp
	}
	return r
}

func (r Refusal) is(m *Work) bool {
	return r.why != nil && r.arrival == m.Arrival && (m.Item == nil || m.Item.Stamp == r.item)
}

// Result is what became of a message.
type Result struct {
	*Work
	reply    []byte
	Err      *tenant.Error // refused, or kept
	Declined bool          // a local arrival that must take the queue's way
	took     time.Duration // by its handler, where hooks want to know; 0 when none ran
	later    bool          // it is answered by somebody else
	defers   bool          // by ReplyLater
}

func (r Result) conclusion() tenant.Conclusion {
	return tenant.Conclusion{Envelope: r.Envelope, Reply: r.reply, Err: r.Err, Later: r.later}
}

// letter is the dead letter of a cast that was refused.
func (r Result) letter() tenant.Letter {
	switch {
	case r.Released != nil:
		return tenant.NewLetter(r.Item.Body, r.Err, r.Released.Stack, r.Released.Attempt)
	case r.Item != nil:
		return tenant.NewLetter(r.Item.Body, r.Err, "", 1)
	}
	return tenant.NewLetter(r.Envelope.Encode(), r.Err, "", 1)
}

// Released reports whether the batch is the end of locked work.
func (b *Batch) Released() bool { return len(b.Results) > 0 && b.Results[0].Released != nil }

// What bounds the handlers of a turn.
const (
	maxBatchTime = 100 * time.Millisecond // after which no further message is begun

	// batchShare is the part of Settings.HandlerLimit after which none is, where that is sooner: one that is begun has most
	// of the time for itself.
	batchShare = 10

	// Patience is how long a local arrival waits for the handlers of others (package consumer).
	Patience = 10 * time.Millisecond
)

// smallState is how large a state may be for a comparison after each message.
const smallState = 4 << 10

// limit is how long the handlers may take, after which they are abandoned.
func (b *Batch) limit() time.Duration { return b.def.Settings.HandlerLimit }

// isSmall reports whether the state is compared after each message. One with tracked collections is not: what they have
// recorded is nowhere else, so undo could not go back to there, and each comparison looks at all that was loaded.
func (b *Batch) isSmall() bool { return b.state.Rows.Bytes() <= smallState && !b.def.Form.Tracks() }

// run handles messages in order, until one has to be left to another turn. The first is always handled.
func (b *Batch) run(messages []Work) {
	ended := false
	defer func() {
		if !ended {
			b.broke(recover())
		}
	}()
	b.Results = make([]Result, 0, len(messages))
	for i := range messages {
		m := &messages[i]
		if i > 0 && b.late(m) {
			break
		}
		if !b.handle(m, len(messages) == 1) || b.Locks || b.resets {
			break
		}
	}
	b.finish()
	ended = true
}

// broke ends the batch before the message in hand, which broke outside of its handler: a value panicked when it was
// encoded, an error when it was asked for its text. Or its handler ended its goroutine, as testing.T.Fatal does.
func (b *Batch) broke(p any) {
	if len(b.Results) > 0 {
		b.cut = true
		return
	}
	b.Faulted = &Fault{Text: "the handler ended its goroutine"}
	if p != nil {
		b.Faulted = Panicked(p)
	}
}

// finish compares a large state once for all messages. When it cannot be stored, nobody knows whose change it is: the
// next attempt handles one message alone.
func (b *Batch) finish() {
	if b.isAbandoned() || b.cut || b.unchecked == 0 {
		return
	}
	results := b.Results
	b.Results = results[:1] // also when the comparison panics
	if b.check() != nil {
		b.cut = true
		return
	}
	b.Results = results
}

// Abandon takes the batch away from a handler that does not return, and makes its Context refuse.
func (b *Batch) Abandon() bool {
	if !b.phase.CompareAndSwap(batchRuns, batchAbandoned) {
		return false
	}
	if ctx := b.running.Load(); ctx != nil {
		ctx.over.Store(true)
	}
	return true
}

// late reports whether a message has to wait for the next turn, so that commits come soon, and so that the sender of a
// local arrival never waits for the slow handler of another message.
func (b *Batch) late(m *Work) bool {
	b.clock = time.Now()
	elapsed := b.clock.Sub(b.Started)
	return elapsed > min(maxBatchTime, b.limit()/batchShare) || m.Arrival != nil && elapsed > Patience
}

// handle runs one message and reports whether the batch can go on.
func (b *Batch) handle(m *Work, alone bool) bool {
	b.took = 0
	if b.isStale(m) {
		b.consume(Result{Work: m, later: true})
		return true
	}
	if b.refusal.is(m) {
		return b.refuse(m, b.refusal.why)
	}
	ctx := &Scope{turn: b.ctx, until: b.until, self: b.self, message: m, local: m.Arrival != nil, run: b.number, hooks: b.hooks}
	b.running.Store(ctx)
	defer ctx.end()
	reply, err := b.invoke(ctx, m)
	ctx.over.Store(true)
	if b.isAbandoned() {
		return false
	}
	if b.broken = b.loader.failure(); b.broken != nil {
		return false
	}
	if err == nil || ctx.err != nil {
		err = errors.Join(ctx.err, b.checkLock(ctx, m))
	}
	f := asFault(err)
	switch {
	case ctx.queue && ctx.local:
		return b.decline(m)
	case f != nil:
		return b.fault(f)
	case err != nil && !isKept(err):
		return b.refuse(m, err)
	case ctx.Locks && err == nil && (!b.mayLock || !b.host.Book()):
		b.Waits = true
		b.undo()
		return false
	}
	b.unchecked++
	if alone || b.isSmall() {
		if diffErr := b.check(); diffErr != nil {
			b.unchecked-- // two items of one id, a value too large: this message's fault
			return b.refuse(m, diffErr)
		}
	}
	b.succeed(ctx, m, reply, err)
	return true
}

// isStale reports whether a timer's message was overtaken, in the store or by a message of this batch.
func (b *Batch) isStale(m *Work) bool {
	if !m.comesFromTimer() {
		return false
	}
	_, changed := b.timers[m.Envelope.Timer]
	return m.stale || changed
}

// checkLock refuses a lock that nothing would release, and an end of locked work that could not be one. It makes a local
// message that locks take the queue's way: its answer may come from another process.
func (b *Batch) checkLock(ctx *Scope, m *Work) error {
	switch {
	case ctx.unlocks != nil && m.Released != nil:
		return errors.New("dserver: Unlock in the apply of locked work, which ends with it: return the error")
	case ctx.unlocks != nil && ctx.Locks:
		return errors.New("dserver: Lock and Unlock in one turn: cast what locks to this server, and it comes next")
	case !ctx.Locks:
		return nil
	}
	if m.Released != nil {
		return errors.New("dserver: Lock in the apply of locked work")
	}
	if b.def.Locked[m.Envelope.Name] == nil {
		return fmt.Errorf("dserver: Lock in the handler of %s, which has no HandleLocked", m.Envelope.Name)
	}
	ctx.queue = ctx.local
	return nil
}

func (b *Batch) succeed(ctx *Scope, m *Work, reply []byte, err error) {
	r := Result{Work: m, reply: reply, later: ctx.defers || ctx.Locks, defers: ctx.defers && !ctx.Locks}
	if err != nil {
		r.Err, r.later, r.defers, ctx.Locks = tenant.AsError(err), false, false, false
	}
	b.fresh = false
	b.add(ctx.effects)
	for range ctx.statements {
		b.authors = append(b.authors, len(b.Results))
	}
	b.consume(r)
}

// invoke finds the handler of a message and runs it.
func (b *Batch) invoke(ctx *Scope, m *Work) ([]byte, error) {
	if m.unread != nil {
		return nil, &Fault{Text: m.unread.Error()}
	}
	if r := m.Released; r != nil {
		if r.Err != nil {
			return nil, r.Err
		}
		return b.around(ctx, m, r.apply())
	}
	h := b.def.Handlers[m.Envelope.Name]
	if m.Arrival != nil && m.Arrival.Info {
		h = b.def.Infos[m.Envelope.Name]
	}
	if h == nil && b.def.Locked[m.Envelope.Name] == nil { // of a call that nobody living handles (consumer/unheard.go)
		return nil, &Fault{Text: "no handler for " + m.Envelope.Name + " in this consumer"}
	}
	return b.around(ctx, m, h)
}

// around runs a handler, within the hooks if there are any. Without a handler none of the program's functions runs but Init.
func (b *Batch) around(ctx *Scope, m *Work, h *Handler) ([]byte, error) {
	if b.hooks == nil || h == nil {
		return b.prepared(ctx, m, h)
	}
	defer func() { b.took = time.Since(b.clock) }()
	if !b.hooks.Handles(ctx) {
		return b.prepared(ctx, m, h)
	}
	return b.intercepted(ctx, m, h)
}

// prepared runs a handler on a state that is prepared. Without a handler the message is for locked work.
func (b *Batch) prepared(ctx *Scope, m *Work, h *Handler) ([]byte, error) {
	if b.fresh && b.def.Init != nil && m.Released == nil {
		if _, err := invoke(b.def.Init, ctx, b.state.value, nil); err != nil {
			return nil, err
		}
	}
	if h == nil {
		ctx.Locks = true
		return nil, nil
	}
	return invoke(h, ctx, b.state.value, m.Envelope.Body)
}

// check compares the value with what is committed, which makes a checkpoint. A map that a handler left nil is empty for
// the next one, as it would be after a restart.
func (b *Batch) check() error {
	b.does.Store(int32(comparing))
	defer b.does.Store(int32(handling))
	edits, err := b.state.diff(b.def, b.state.value)
	if err != nil {
		return err
	}
	b.edits, b.unchecked = edits, 0
	return b.def.Form.Fill(b.state.value)
}

// refuse consumes a message without a trace: its handler decided so.
func (b *Batch) refuse(m *Work, err error) bool {
	if !b.undo() {
		return false
	}
	b.consume(Result{Work: m, Err: tenant.AsError(err)})
	return true
}

// decline sends a local arrival to the queue.
func (b *Batch) decline(m *Work) bool {
	if !b.undo() {
		return false
	}
	b.Results = append(b.Results, Result{Work: m, Declined: true})
	b.Handled.Store(int64(len(b.Results)))
	return true
}

// consume ends a message. The timer that sent it has fired, unless its handler has set it again.
func (b *Batch) consume(r Result) {
	r.took = b.took
	if name := r.Envelope.Timer; r.comesFromTimer() && !r.stale {
		if _, changed := b.timers[name]; !changed {
			b.setTimer(name, tenant.TimerOp{})
		}
	}
	b.Results = append(b.Results, r)
	b.Handled.Store(int64(len(b.Results)))
}

// fault leaves a message that broke to a turn of its own, in which it is the first.
func (b *Batch) fault(f *Fault) bool {
	if len(b.Results) == 0 {
		b.Faulted = f
		return false
	}
	b.undo()
	return false
}

// undo gives the state back as it was at the checkpoint. When messages succeeded since, the attempt is lost.
func (b *Batch) undo() bool {
	if b.unchecked > 0 {
		b.cut = true
		return false
	}
	b.does.Store(int32(rereading))
	defer b.does.Store(int32(handling))
	value, err := b.checkpoint()
	if err != nil {
		b.broken = err
		return false
	}
	b.state.value = value
	return true
}

// checkpoint decodes the state as it was at the checkpoint.
func (b *Batch) checkpoint() (any, error) {
	if len(b.edits) == 0 {
		value, err := b.state.Decode(b.def)
		if err != nil {
			return nil, err
		}
		return value, b.state.bind(b.def, value, b.loader)
	}
	return decodeRows(b.def, withEdits(b.state.Rows, b.edits))
}

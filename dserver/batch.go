package dserver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
	"github.com/dserver-go/dserver/statediff"
)

// batch is the messages of one attempt of a turn and what their handlers did. It knows no transaction: it changes a
// value and collects what is to be written.
//
// All messages share one commit, so a message that fails must leave no trace in it. After each message of a small
// state the edits so far are a checkpoint, and a failure is undone by decoding the state again from there. A large
// state is not compared after each message: there a failure after others ends the attempt, and the next one stops
// before it.
type batch struct {
	def     *definition
	self    Ref
	ctx     context.Context // without the time limit, which until says
	until   time.Time
	state   state
	loader  *loader
	fresh   bool        // the server has no state: Init runs first
	mayLock bool        // the server is not locked
	book    func() bool // takes a place for locked work
	refusal refusal

	edits     []statediff.Edit // from state.rows to the last checkpoint
	unchecked int              // messages that succeeded since then
	results   []result
	effects

	cut     bool   // the attempt must be repeated with only as many messages as there are results
	waits   bool   // the next message needs the lock, which is taken, or a place for its work
	faulted *fault // of the first message
	broken  error  // the state cannot be read or decoded

	started time.Time
	running atomic.Pointer[Context] // of the handler that runs
	handled atomic.Int64            // how many results there are, for whoever takes the turn over
	does    atomic.Int32            // doing
	size    stateSize               // before any message
	phase   atomic.Int32
}

// The phases of a batch. Who ends it owns the turn from then on: the goroutine that runs the handlers, or one that
// takes its place when a handler does not return.
const (
	batchRuns int32 = iota
	batchEnded
	batchAbandoned
)

// end reports whether the batch is still its goroutine's.
func (b *batch) end() bool { return b.phase.CompareAndSwap(batchRuns, batchEnded) }

func (b *batch) isAbandoned() bool { return b.phase.Load() == batchAbandoned }

// work is a message in a turn: from the queue, from this process, or from locked work that has ended.
type work struct {
	envelope envelope
	item     *queue.Item // of the queue
	arrival  *arrival    // or of this process
	released *release    // or taken off the queue by the lock
	unread   error       // the item is no message
	stale    bool        // the timer that sent it was moved or cancelled
}

// isCall reports whether somebody waits for the outcome, to whom an error goes. A cast's error makes a dead letter.
func (w work) isCall() bool {
	return w.envelope.From != "" || w.arrival != nil && w.arrival.call
}

// comesFromTimer reports whether the message counts only while its timer is set as it was. The turn that locked for it
// has removed the timer: from then on the name is free, and the end of the work leaves it alone.
func (w work) comesFromTimer() bool { return w.envelope.Timer != "" && w.released == nil }

// refusal is a message whose handler asked for what turned out to be impossible when it was written.
type refusal struct {
	item    backend.Versionstamp
	arrival *arrival
	why     *Error // nil: there is none
}

func refusalOf(m *work, why *Error) refusal {
	r := refusal{arrival: m.arrival, why: why}
	if m.item != nil {
		r.item = m.item.Stamp
	}
	return r
}

func (r refusal) is(m *work) bool {
	return r.why != nil && r.arrival == m.arrival && (m.item == nil || m.item.Stamp == r.item)
}

// result is what became of a message.
type result struct {
	*work
	reply    []byte
	err      *Error // refused, or kept
	declined bool   // a local arrival that must take the queue's way
	later    bool   // it is answered by somebody else
	defers   bool   // by ReplyLater
}

// released reports whether the batch is the end of locked work.
func (b *batch) released() bool { return len(b.results) > 0 && b.results[0].released != nil }

// smallState is how large a state may be for a comparison after each message.
const smallState = 4 << 10

// isSmall reports whether the state is compared after each message. One with tracked collections is not: what they have
// recorded is nowhere else, so undo could not go back to there, and each comparison looks at all that was loaded.
func (b *batch) isSmall() bool { return b.state.rows.Bytes() <= smallState && !b.def.schema.Tracks() }

// run handles messages in order, until one has to be left to another turn. The first is always handled.
func (b *batch) run(messages []work) {
	ended := false
	defer func() {
		if !ended {
			b.broke(recover())
		}
	}()
	b.results = make([]result, 0, len(messages))
	for i := range messages {
		m := &messages[i]
		if i > 0 && b.late(m) {
			break
		}
		if !b.handle(m, len(messages) == 1) || b.locks || b.resets {
			break
		}
	}
	b.finish()
	ended = true
}

// broke ends the batch before the message in hand, which broke outside of its handler: a value panicked when it was
// encoded, an error when it was asked for its text. Or its handler ended its goroutine, as testing.T.Fatal does.
func (b *batch) broke(p any) {
	if len(b.results) > 0 {
		b.cut = true
		return
	}
	b.faulted = &fault{Text: "the handler ended its goroutine"}
	if p != nil {
		b.faulted = panicked(p)
	}
}

// finish compares a large state once for all messages. When it cannot be stored, nobody knows whose change it is: the
// next attempt handles one message alone.
func (b *batch) finish() {
	if b.isAbandoned() || b.cut || b.unchecked == 0 {
		return
	}
	results := b.results
	b.results = results[:1] // also when the comparison panics
	if b.check() != nil {
		b.cut = true
		return
	}
	b.results = results
}

// abandon takes the batch away from a handler that does not return, and makes its Context refuse.
func (b *batch) abandon() bool {
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
func (b *batch) late(m *work) bool {
	elapsed := time.Since(b.started)
	return elapsed > maxBatchTime || m.arrival != nil && elapsed > patience
}

// handle runs one message and reports whether the batch can go on.
func (b *batch) handle(m *work, alone bool) bool {
	if b.isStale(m) {
		b.consume(result{work: m, later: true})
		return true
	}
	if b.refusal.is(m) {
		return b.refuse(m, b.refusal.why)
	}
	ctx := &Context{turn: b.ctx, until: b.until, self: b.self, caller: m.envelope.From, local: m.arrival != nil}
	ctx.once, ctx.word = m.envelope.Once, m.envelope.Word
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
	var f *fault
	switch {
	case ctx.queue && ctx.local:
		return b.decline(m)
	case errors.As(err, &f):
		return b.fault(f)
	case err != nil && !isKept(err):
		return b.refuse(m, err)
	case ctx.locks && err == nil && (!b.mayLock || !b.book()):
		b.waits = true
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
func (b *batch) isStale(m *work) bool {
	if !m.comesFromTimer() {
		return false
	}
	_, changed := b.timers[m.envelope.Timer]
	return m.stale || changed
}

// checkLock refuses a lock that nothing would release, and an end of locked work that could not be one. It makes a local
// message that locks take the queue's way: its answer may come from another process.
func (b *batch) checkLock(ctx *Context, m *work) error {
	switch {
	case ctx.unlocks != nil && m.released != nil:
		return errors.New("dserver: Unlock in the apply of locked work, which ends with it: return the error")
	case ctx.unlocks != nil && ctx.locks:
		return errors.New("dserver: Lock and Unlock in one turn: cast what locks to this server, and it comes next")
	case !ctx.locks:
		return nil
	}
	if m.released != nil {
		return errors.New("dserver: Lock in the apply of locked work")
	}
	if b.def.locked[m.envelope.Name] == nil {
		return fmt.Errorf("dserver: Lock in the handler of %s, which has no HandleLocked", m.envelope.Name)
	}
	ctx.queue = ctx.local
	return nil
}

func (b *batch) succeed(ctx *Context, m *work, reply []byte, err error) {
	r := result{work: m, reply: reply, later: ctx.defers || ctx.locks, defers: ctx.defers && !ctx.locks}
	if err != nil {
		r.err, r.later, r.defers, ctx.locks = asError(err), false, false, false
	}
	b.fresh = false
	b.add(ctx.effects)
	b.consume(r)
}

// invoke finds the handler of a message and runs it, on a state that is prepared.
func (b *batch) invoke(ctx *Context, m *work) ([]byte, error) {
	if m.unread != nil {
		return nil, &fault{Text: m.unread.Error()}
	}
	if m.released != nil {
		return m.released.apply(ctx, b.state.value)
	}
	h := b.def.handlers[m.envelope.Name]
	if m.arrival != nil && m.arrival.info {
		h = b.def.infos[m.envelope.Name]
	}
	if h == nil && b.def.locked[m.envelope.Name] == nil { // of a call that nobody living handles (unheard.go)
		return nil, &fault{Text: "no handler for " + m.envelope.Name + " in this consumer"}
	}
	if b.fresh && b.def.init != nil {
		if _, err := invoke(b.def.init, ctx, b.state.value, nil); err != nil {
			return nil, err
		}
	}
	if h == nil {
		ctx.locks = true
		return nil, nil
	}
	return invoke(h, ctx, b.state.value, m.envelope.Body)
}

// check compares the value with what is committed, which makes a checkpoint. A map that a handler left nil is empty for
// the next one, as it would be after a restart.
func (b *batch) check() error {
	b.does.Store(int32(comparing))
	defer b.does.Store(int32(handling))
	edits, err := b.state.diff(b.def, b.state.value)
	if err != nil {
		return err
	}
	b.edits, b.unchecked = edits, 0
	return b.def.schema.Fill(b.state.value)
}

// refuse consumes a message without a trace: its handler decided so.
func (b *batch) refuse(m *work, err error) bool {
	if !b.undo() {
		return false
	}
	b.consume(result{work: m, err: asError(err)})
	return true
}

// decline sends a local arrival to the queue.
func (b *batch) decline(m *work) bool {
	if !b.undo() {
		return false
	}
	b.results = append(b.results, result{work: m, declined: true})
	b.handled.Store(int64(len(b.results)))
	return true
}

// consume ends a message. The timer that sent it has fired, unless its handler has set it again.
func (b *batch) consume(r result) {
	if name := r.envelope.Timer; r.comesFromTimer() && !r.stale {
		if _, changed := b.timers[name]; !changed {
			b.setTimer(name, timerOp{})
		}
	}
	b.results = append(b.results, r)
	b.handled.Store(int64(len(b.results)))
}

// fault leaves a message that broke to a turn of its own, in which it is the first.
func (b *batch) fault(f *fault) bool {
	if len(b.results) == 0 {
		b.faulted = f
		return false
	}
	b.undo()
	return false
}

// undo gives the state back as it was at the checkpoint. When messages succeeded since, the attempt is lost.
func (b *batch) undo() bool {
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
func (b *batch) checkpoint() (any, error) {
	if len(b.edits) == 0 {
		value, err := b.state.decode(b.def)
		if err != nil {
			return nil, err
		}
		return value, b.state.bind(b.def, value, b.loader)
	}
	return decodeRows(b.def, withEdits(b.state.rows, b.edits))
}

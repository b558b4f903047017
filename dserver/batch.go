package dserver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

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
	def   *definition
	self  Ref
	ctx   context.Context
	state state
	fresh bool // the server has no state: Init runs first

	edits     []statediff.Edit // from state.rows to the last checkpoint
	unchecked int              // messages that succeeded since then
	results   []result
	sends     []send
	actions   []func()

	cut     bool   // the attempt must be repeated with only as many messages as there are results
	faulted *fault // of the first message
	broken  error  // the state cannot be decoded

	started   time.Time
	running   atomic.Pointer[Context] // of the handler that runs
	handled   atomic.Int64            // how many results there are, for whoever abandons the batch
	abandoned atomic.Bool             // the turn does not wait any more: nothing of its state may be touched
}

// work is a message in a turn, from the queue or from this process.
type work struct {
	envelope envelope
	item     *queue.Item // of the queue
	arrival  *arrival    // or of this process
	unread   error       // the item is no message
}

// result is what became of a message that is consumed.
type result struct {
	work
	reply []byte
	err   *Error // refused, or kept
}

// smallState is how large a state may be for a comparison after each message.
const smallState = 4 << 10

// run handles messages in order, until one has to be left to another turn. The first is always handled.
func (b *batch) run(messages []work) {
	for i, m := range messages {
		if i > 0 && b.late(m) {
			break
		}
		if !b.handle(m, len(messages) == 1) {
			break
		}
	}
	b.finish()
}

// finish compares a large state once for all messages. When it cannot be stored, nobody knows whose change it is: the
// next attempt handles one message alone.
func (b *batch) finish() {
	if b.abandoned.Load() || b.cut || b.unchecked == 0 {
		return
	}
	if b.check() != nil {
		b.cut, b.results = true, b.results[:1]
	}
}

// abandon gives up on a handler that does not return. What it leaves is a batch that begins with its message, or one
// that is cut before it.
func (b *batch) abandon() *batch {
	b.abandoned.Store(true)
	if ctx := b.running.Load(); ctx != nil {
		ctx.over.Store(true)
	}
	if n := int(b.handled.Load()); n > 0 {
		return &batch{cut: true, results: make([]result, n)}
	}
	return &batch{faulted: &fault{Text: fmt.Sprintf("the handler did not return within %v", handlerLimit)}}
}

// late reports whether a message has to wait for the next turn, so that commits come soon, and so that the sender of a
// local arrival never waits for the slow handler of another message.
func (b *batch) late(m work) bool {
	elapsed := time.Since(b.started)
	return elapsed > maxBatchTime || m.arrival != nil && elapsed > patience
}

// handle runs one message and reports whether the batch can go on.
func (b *batch) handle(m work, alone bool) bool {
	ctx := &Context{turn: b.ctx, self: b.self}
	b.running.Store(ctx)
	reply, err := b.invoke(ctx, m)
	ctx.over.Store(true)
	if b.abandoned.Load() {
		return false
	}
	if ctx.err != nil {
		err = ctx.err
	}
	var f *fault
	if errors.As(err, &f) {
		return b.fault(f)
	}
	if _, ok := asKept(err); err != nil && !ok {
		return b.refuse(m, err)
	}
	b.unchecked++
	if alone || b.state.rows.Bytes() <= smallState {
		if diffErr := b.check(); diffErr != nil {
			b.unchecked-- // two items of one id, a value too large: this message's fault
			return b.refuse(m, diffErr)
		}
	}
	r := result{work: m, reply: reply}
	if err != nil {
		r.err = asError(err)
	}
	b.fresh = false
	b.consume(r)
	b.sends = append(b.sends, ctx.sends...)
	b.actions = append(b.actions, ctx.actions...)
	return true
}

// invoke finds the handler of a message and runs it, on a state that is prepared.
func (b *batch) invoke(ctx *Context, m work) ([]byte, error) {
	if m.unread != nil {
		return nil, &fault{Text: m.unread.Error()}
	}
	h := b.def.handlers[m.envelope.Name]
	if h == nil {
		return nil, &fault{Text: "no handler for " + m.envelope.Name + " in this consumer", later: true}
	}
	if b.fresh && b.def.init != nil {
		init := &handler{run: func(ctx *Context, state any, _ []byte) ([]byte, error) { return nil, b.def.init(ctx, state) }}
		if _, err := invoke(init, ctx, b.state.value, nil); err != nil {
			return nil, err
		}
	}
	return invoke(h, ctx, b.state.value, m.envelope.Body)
}

// check compares the value with what is committed, which makes a checkpoint.
func (b *batch) check() error {
	edits, err := b.def.schema.Diff(b.state.rows, b.state.value)
	if err != nil {
		return err
	}
	b.edits, b.unchecked = edits, 0
	return nil
}

// refuse consumes a message without a trace: its handler decided so.
func (b *batch) refuse(m work, err error) bool {
	if !b.undo() {
		return false
	}
	b.consume(result{work: m, err: asError(err)})
	return true
}

func (b *batch) consume(r result) {
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
	rows := b.state.rows
	if len(b.edits) > 0 {
		rows = withEdits(rows, b.edits)
	}
	value, err := decodeState(b.def, rows)
	if err != nil {
		b.broken = err
		return false
	}
	b.state.value = value
	return true
}

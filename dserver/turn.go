package dserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
	"github.com/dserver-go/dserver/statediff"
)

// A turn is one transaction of a consumer for one server:
//
//  1. The cut: take the local arrivals of this moment. It is drawn before the store is asked for its snapshot, so what
//     anyone was acknowledged before one of them was sent is in the snapshot, and is handled first.
//  2. Read the records of the server and the head of its queue, in one range.
//  3. Decide what is handled: stored messages first; the arrivals join only when no stored message is left, and go to
//     the queue otherwise.
//  4. The state: from the cache when its version is the committed one, else from the store.
//  5. Run the handlers (batch.go).
//  6. Write: messages removed, the state's edits under a new version, replies, sends. Every turn that writes conflicts
//     on the version, the lock and each message that it takes. Commit.
//  7. Only then: the cache, the answers to local callers, the actions.
//
// | dies | what is left |
// |---|---|
// | before the commit (1-6) | nothing happened: the messages are on the queue; arrivals die with their senders |
// | after the commit (7) | everything happened; actions may be lost; local callers died with this process |
// | outcome unknown | the backend finds out, or the store is gone: then a local caller is told so |
type turn struct {
	c      *consumer
	s      *server
	keys   tenant
	locals []*arrival
	limit  int           // messages at most
	took   time.Duration // by handlers, over all attempts

	// Of the current attempt. The transaction may run it again.
	runs    int
	head    head
	waits   time.Duration // the head of the queue backs off for so long
	joined  int           // how many locals are in the batch
	batch   *batch
	stamped bool
	version backend.Future[backend.Versionstamp]
	mine    []delivery
}

// Reasons for which an attempt is rolled back and the turn goes on otherwise.
var (
	errCut     = errors.New("dserver: the batch was cut")
	errFaulted = errors.New("dserver: a message faulted")
)

// turn runs one turn, and says when the next one is due.
func (c *consumer) turn(s *server) nextTurn {
	t := &turn{c: c, s: s, keys: tenantOf(s.ref()), limit: maxBatch}
	t.locals = c.cut(s) // 1
	for {
		t.runs = 0
		err := c.db.Transact(c.base, t.attempt)
		switch {
		case err == nil:
			return t.finish()
		case errors.Is(err, errCut):
			t.limit = max(1, len(t.batch.results))
		case errors.Is(err, errFaulted):
			return t.faulted(t.batch.faulted)
		case isTooMuch(err) && t.batch != nil && len(t.batch.results) > 1:
			t.limit = len(t.batch.results) / 2
		case isTooMuch(err) && t.batch != nil && len(t.batch.results) == 1:
			return t.faulted(&fault{Text: err.Error()})
		default:
			return t.failed(err)
		}
	}
}

// isTooMuch reports errors of a transaction that did too much: a smaller batch may be possible.
func isTooMuch(err error) bool {
	return errors.Is(err, backend.ErrTooLarge) || errors.Is(err, backend.ErrTooOld)
}

// cut takes the local arrivals of this moment.
func (c *consumer) cut(s *server) []*arrival {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.look = false
	var locals []*arrival
	for len(s.arrivals) > 0 && len(locals) < maxBatch {
		if a := s.arrivals[0]; !a.withdrawn {
			a.taken = true
			locals = append(locals, a)
		}
		s.arrivals = s.arrivals[1:]
	}
	if len(s.arrivals) == 0 {
		s.arrivals = nil
	}
	return locals
}

// attempt is what the transaction runs, perhaps several times.
func (t *turn) attempt(tx backend.Tx) (err error) {
	t.runs++
	t.batch, t.mine, t.joined, t.stamped, t.waits = nil, nil, 0, false, 0
	if t.head, err = readHead(tx, t.keys); err != nil { // 2
		return err
	}
	messages := t.choose() // 3
	if len(messages) == 0 {
		return nil
	}
	st, err := t.load(tx) // 4
	if err != nil {
		return err
	}
	if err := t.handle(st, messages); err != nil { // 5
		return err
	}
	return t.write(tx) // 6
}

// choose decides what the attempt handles. A lost race pushes the arrivals: then the queue is not empty for anybody,
// which ends the race.
func (t *turn) choose() []work {
	if t.head.locked || !t.head.killed.IsZero() {
		return nil
	}
	if t.waits = t.s.backOff(t.head, time.Now()); t.waits > 0 {
		return nil
	}
	limit := t.limit
	if t.runs > 3 {
		limit = max(1, limit>>(t.runs-3))
	}
	stored := t.head.items[:min(limit, len(t.head.items))]
	messages := make([]work, 0, len(stored)+len(t.locals))
	for i := range stored {
		messages = append(messages, storedWork(&stored[i]))
	}
	if t.head.all && len(stored) == len(t.head.items) && t.runs == 1 {
		t.joined = min(len(t.locals), limit-len(stored))
		for _, a := range t.locals[:t.joined] {
			messages = append(messages, work{arrival: a, envelope: envelope{Name: a.message.Name, Body: a.message.Body}})
		}
	}
	return messages
}

func storedWork(item *queue.Item) work {
	env, err := decodeEnvelope(item.Body)
	return work{envelope: env, item: item, unread: err}
}

// load gives the state that the attempt changes: its own value, which no failed handler has touched.
func (t *turn) load(tx backend.Reader) (state, error) {
	known := &t.s.state
	if known.rows == nil || known.version != t.head.version {
		rows, err := t.rows(tx)
		if err != nil {
			return state{}, err
		}
		*known = state{version: t.head.version, rows: rows}
	}
	st := *known
	known.value = nil // the attempt's now
	if st.value != nil {
		return st, nil
	}
	value, err := decodeState(t.s.def, st.rows)
	st.value = value
	return st, err
}

func (t *turn) rows(tx backend.Reader) (*statediff.Rows, error) {
	if t.head.version.IsZero() {
		return statediff.NewRows(), nil
	}
	return loadRows(tx, t.keys)
}

// handle runs the batch on a goroutine of its own, so that a handler that overruns can be abandoned: its Context
// refuses, its goroutine ends when it returns, and nothing of its state is used again.
func (t *turn) handle(st state, messages []work) error {
	ctx, cancel := context.WithTimeout(t.c.turns, handlerLimit)
	defer cancel()
	b := &batch{
		def: t.s.def, self: t.s.ref(), ctx: ctx, state: st,
		fresh: t.head.version.IsZero(), started: time.Now(),
	}
	t.batch = b
	t.s.handling.Store(b.started.UnixNano())
	defer func() {
		t.s.handling.Store(0)
		t.took += time.Since(b.started)
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.run(messages)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		t.s.state = state{}
		t.batch = b.abandon()
	}
	switch {
	case t.batch.broken != nil:
		return t.batch.broken
	case t.batch.cut:
		return errCut
	case t.batch.faulted != nil:
		return errFaulted
	}
	return nil
}

// write makes the batch's effect part of the transaction. All reads come before the first write.
func (t *turn) write(tx backend.Tx) error {
	b := t.batch
	created := t.head.version.IsZero() && (len(b.edits) > 0 || t.s.def.init != nil && !b.fresh)
	replies, err := t.replies(tx)
	if err != nil {
		return err
	}
	stored := t.stored()
	for _, r := range b.results {
		if err := t.setAside(tx, r); err != nil {
			return err
		}
	}
	if len(stored) > 0 {
		t.keys.queue().Remove(tx, stored...)
		if t.head.attempts.isOf(stored) {
			tx.Clear(t.keys.attempts().Only())
		}
	}
	if created || len(b.edits) > 0 {
		t.writeState(tx)
	}
	if err := sendAll(tx, b.sends); err != nil {
		return err
	}
	if err := replies.write(tx); err != nil {
		return err
	}
	tx.Conflict(t.keys.version())
	tx.Conflict(t.keys.lock())
	return nil
}

func (t *turn) writeState(tx backend.Tx) {
	writeEdits(tx, t.keys.state(), t.batch.edits)
	tx.Stamp(t.keys.version())
	t.stamped, t.version = true, tx.Version()
	if t.head.meta.Created == 0 {
		tx.Set(t.keys.meta(), encodeRecord(meta{Created: time.Now().UnixMilli(), Schema: 1}))
	}
}

// stored is the items of the queue that the batch consumed.
func (t *turn) stored() []queue.Item {
	n := 0
	for n < len(t.batch.results) && t.batch.results[n].item != nil {
		n++
	}
	return t.head.items[:n]
}

func sendAll(tx backend.Tx, sends []send) error {
	for _, s := range sends {
		if err := tenantOf(s.to).queue().Push(tx, queue.Normal, s.item); err != nil {
			return err
		}
		setReady(tx, s.to)
	}
	return nil
}

// finish makes the commit known: the cache, the senders, the actions, the servers that were sent to.
func (t *turn) finish() nextTurn {
	b := t.batch
	if b == nil {
		t.giveBack(t.locals)
		if !t.head.killed.IsZero() {
			return t.bury()
		}
		return t.idle()
	}
	if err := t.remember(); err != nil {
		t.c.log.Warn().Err(err).Stringer(logServer, t.s.ref()).Msg("the new version is not known; the state is read again")
	}
	t.s.crowded = t.joined > 1
	handled := 0
	for _, r := range b.results {
		if r.arrival != nil {
			r.arrival.done <- r.outcome()
			handled++
		}
	}
	for _, d := range t.mine {
		t.c.process.deliver(d)
	}
	t.giveBack(t.locals[handled:])
	t.act(b.actions)
	for _, s := range b.sends {
		t.c.process.wake(s.to)
	}
	next := t.next()
	next.took = t.took
	return next
}

// remember keeps what was committed, under the version that was committed.
func (t *turn) remember() error {
	st := t.batch.state
	if t.stamped {
		version, err := t.version.Get()
		if err != nil {
			t.s.state = state{}
			return err
		}
		st.version = version
		st.rows.Apply(t.batch.edits)
	}
	t.s.state = st
	return nil
}

func (r result) outcome() outcome {
	if r.err != nil {
		if !r.arrival.call {
			return outcome{} // it is a dead letter now: sent, and taken care of
		}
		return outcome{err: r.err}
	}
	return outcome{reply: r.reply}
}

// act runs what AfterCommit was given. A panic there cannot undo anything: it is logged.
func (t *turn) act(actions []func()) {
	for _, action := range actions {
		t.actOnce(action)
	}
}

func (t *turn) actOnce(action func()) {
	defer func() {
		if p := recover(); p != nil {
			t.c.log.Error().Interface(logPanic, p).Stringer(logServer, t.s.ref()).Msg("an AfterCommit function panicked")
		}
	}()
	action()
}

// next is when the server is due again after messages were handled.
func (t *turn) next() nextTurn {
	took := len(t.stored())
	switch {
	case took < len(t.head.items) || !t.head.all:
		return nextTurn{now: true}
	case took > 0:
		t.s.emptied = time.Now()
	}
	return t.idle()
}

// idle is when a server without stored messages to handle is due again: when its back-off is over, or never. Its ready
// mark is cleared when its queue has been empty for a while.
func (t *turn) idle() nextTurn {
	if t.waits > 0 {
		return nextTurn{after: t.waits}
	}
	if t.head.locked || !t.c.isMarked(t.s) {
		return nextTurn{}
	}
	if wait := linger - time.Since(t.s.emptied); wait > 0 {
		return nextTurn{after: wait}
	}
	t.c.unmark(t.s)
	if err := t.c.confirmEmpty(t.s.ref(), t.keys); err != nil {
		return t.failed(err)
	}
	return nextTurn{}
}

// giveBack returns arrivals that the turn did not handle: to the next turn when that is soon, else to their senders.
func (t *turn) giveBack(locals []*arrival) {
	t.locals = nil
	if len(locals) == 0 {
		return
	}
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.joined == 0 || t.c.closing || t.took > patience {
		decline(locals)
		return
	}
	for _, a := range locals {
		a.taken = false
	}
	t.s.arrivals = append(locals, t.s.arrivals...)
}

// failed answers for a turn whose transaction did not commit because of the store.
func (t *turn) failed(err error) nextTurn {
	t.s.state = state{}
	for _, a := range t.locals {
		a.done <- outcome{err: fmt.Errorf("dserver: %v: %w", t.s.ref(), err)}
	}
	t.locals = nil
	if !errors.Is(err, context.Canceled) {
		t.c.log.Error().Err(err).Stringer(logServer, t.s.ref()).Msg("a turn did not commit")
	}
	t.c.fail(err)
	return nextTurn{after: retryInterval}
}

// retryInterval is how long a server is left alone whose turn met an error of the store.
const retryInterval = time.Second

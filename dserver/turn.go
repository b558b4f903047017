package dserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// A turn is one transaction of a consumer for one server:
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
	info   *arrival      // the only message, past the queue and the lock
	marked bool          // the server's ready mark may be set
	limit  int           // messages at most
	took   time.Duration // by handlers, over all attempts

	goroutine uint64 // that runs the turn
	guard     *guard // of that goroutine; nil: it has none yet

	refusal refusal // what an attempt before this one has found

	handover sync.Mutex // while another goroutine takes the turn over
	left     *stray     // this goroutine, from then on

	// Of the current attempt. The transaction may run it again.
	runs     int
	head     head
	messages []work
	waits    time.Duration // a lane's head backs off for so long
	able     int           // how many stored messages could be handled now, if the batch had room
	passes   bool          // some of them are of priority, and some are not
	unheard  [2]*work      // the first of each lane that this consumer has no handler for
	joined   int           // how many locals are in the batch
	loaded   time.Duration // what loading the state took
	loader   *loader
	batch    *batch
	stamped  bool
	recaller backend.Recaller // nil where the store has none
	recalled bool             // the head is what is remembered (recall.go)
	proves   bool             // a change of the head or the queue is a conflict
	owned    bool             // the owner record will name this consumer
	version  backend.Future[backend.Versionstamp]
	mine     []delivery
	lockEnd  lockEnd // of locked work, before its time
	key      string  // the idempotency key of the locked work that begins
	kept     bool    // a place for locked work was kept for this turn
	booked   bool    // it has one
}

// Reasons for which an attempt is rolled back and the turn goes on otherwise.
var (
	errCut     = errors.New("dserver: the batch was cut")
	errFaulted = errors.New("dserver: a message faulted")

	// The turn is another goroutine's now.
	errAbandoned = errors.New("dserver: the turn was abandoned")
)

// turn runs one turn, and says when the next one is due.
func (c *consumer) turn(t *turn) nextTurn {
	if c.cold {
		t.s.state, t.limit = state{}, 1
	}
	t.cut() // 1
	if t.rests() {
		return nextTurn{}
	}
	switch care, err := t.careful(); {
	case err != nil:
		return t.failed(err)
	case care == patient:
		t.giveBack(t.locals)
		return nextTurn{after: jittered(c.process.others.interval() / claimLooks)}
	case care == aside:
		t.giveBack(t.locals)
		return nextTurn{now: true}
	case care == alone:
		t.limit = 1
	}
	return t.run()
}

func (t *turn) run() nextTurn {
	for {
		t.runs = 0
		err := t.c.db.Transact(t.c.base, t.attempt)
		if t.isAbandoned() { // whatever the store made of that
			t.cameBack()
			return nextTurn{gone: true}
		}
		handled := 0
		if t.batch != nil {
			handled = len(t.batch.results)
		}
		switch {
		case err == nil:
			return t.finish()
		case errors.Is(err, errCut):
			t.limit = max(1, handled)
		case errors.Is(err, errFaulted):
			return t.faulted(t.batch.faulted)
		case errors.Is(err, errLost):
			return t.lost()
		case (isTooMuch(err) || errors.Is(err, ErrKeyReused)) && handled > 1:
			t.limit = handled / 2
		case errors.Is(err, ErrKeyReused) && handled == 1:
			t.refusal = refusalOf(t.batch.results[0].work, asError(err))
		case isTooMuch(err) && handled == 1:
			return t.faulted(&fault{Text: t.tooOld(err).Error()})
		default:
			return t.failed(t.tooOld(err))
		}
	}
}

func (t *turn) isAbandoned() bool { return t.batch != nil && t.batch.isAbandoned() }

// isTooMuch reports errors of a transaction that did too much: a smaller batch may be possible.
func isTooMuch(err error) bool {
	return errors.Is(err, backend.ErrTooLarge) || errors.Is(err, backend.ErrTooOld)
}

// cut takes the local arrivals of this moment, and notes whether the server's ready mark may be set. The end of locked
// work is alone in its turn.
func (t *turn) cut() {
	s := t.s
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	s.look, t.marked = false, s.marked
	_, t.kept = t.c.places.kept[s.ref()]
	for len(s.arrivals) > 0 && len(t.locals) < maxBatch {
		a := s.arrivals[0]
		if a.released != nil && len(t.locals) > 0 {
			break
		}
		if !a.withdrawn {
			a.taken = true
			t.locals = append(t.locals, a)
		}
		s.arrivals = s.arrivals[1:]
		if a.released != nil {
			break
		}
	}
	if len(s.arrivals) == 0 {
		s.arrivals = nil
	}
}

// attempt is what the transaction runs, perhaps several times.
func (t *turn) attempt(tx backend.Tx) (err error) {
	if t.isAbandoned() { // the store tries again what was too old
		return errAbandoned
	}
	isKnown := t.recall(tx)
	if !isKnown {
		t.runs++
	}
	t.unheard = [2]*work{}
	t.batch, t.mine, t.joined, t.stamped, t.owned, t.waits, t.able, t.passes = nil, nil, 0, false, false, 0, 0, false
	if !isKnown {
		t.proves = t.mayProve()
		if err = readHead(tx, t.keys, &t.head, t.s.state, !t.proves); err != nil { // 2
			return err
		}
	}
	if t.messages, err = t.choose(); err != nil || len(t.messages) == 0 { // 3
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
func (t *turn) load(tx backend.Reader) (state, error) {
	known := &t.s.state
	if err := t.s.isBlind(t.head.version); err != nil {
		return state{}, err
	}
	if known.rows == nil || known.version != t.head.version {
		rows, err := t.rows(tx)
		if err != nil {
			return state{}, err
		}
		*known = state{version: t.head.version, meta: t.head.meta, rows: rows}
	}
	st := *known
	known.value = nil // the attempt's now
	if st.value == nil {
		value, err := st.decode(t.s.def)
		if err != nil {
			return st, err
		}
		st.value = value
	}
	t.loader = &loader{root: t.keys.state(), tx: tx}
	return st, st.bind(t.s.def, st.value, t.loader)
}

func (t *turn) rows(tx backend.Reader) (*statediff.Rows, error) {
	if t.head.version.IsZero() {
		return statediff.NewRows(), nil
	}
	return loadRows(tx, t.keys, t.s.def.ownRows(t.keys, t.head.meta.Schema))
}

// handle runs the batch. A handler that overruns keeps this goroutine, and loses the turn to another one (overrun.go).
func (t *turn) handle(st state) error {
	now := time.Now()
	b := &batch{
		def: t.s.def, self: t.s.ref(), ctx: t.c.turns, until: now.Add(handlerLimit), state: st, loader: t.loader,
		fresh: t.head.version.IsZero(), mayLock: !t.head.lock.isHeld(), book: t.book, started: now, refusal: t.refusal,
		size: sizeOf(st.rows),
	}
	t.batch = b
	t.s.handling.Store(now.UnixNano())
	if t.guard == nil {
		t.guard = &guard{}
	}
	t.guard.watch(t, b)
	b.run(t.messages)
	t.guard.rest()
	if !b.end() {
		return errAbandoned
	}
	t.s.handling.Store(0)
	t.took += time.Since(now)
	switch {
	case b.broken != nil:
		return b.broken
	case b.cut:
		return errCut
	case b.faulted != nil:
		return errFaulted
	}
	return nil
}

// finish makes the commit known: the cache, the senders, the actions, the servers that were sent to.
func (t *turn) finish() nextTurn {
	b := t.batch
	if !t.head.lock.isHeld() {
		t.c.vigil.forget(t.s.ref())
	}
	if b == nil {
		t.giveBack(t.locals)
		if !t.head.killed.IsZero() {
			return t.bury()
		}
		return t.park(t.idle())
	}
	if len(b.results) > 0 && t.s.rare != nil {
		t.s.rare.stuck = time.Time{}
	}
	if err := t.remember(); err != nil {
		t.c.log.Warn().Err(err).Stringer(logServer, t.s.ref()).Msg("the new version is not known; the state is read again")
	}
	t.tellLetters()
	t.tellEnded()
	t.s.crowded = t.joined > 1
	handled := 0
	for _, r := range b.results {
		if r.arrival != nil {
			r.arrival.done <- r.outcome()
			handled++
		}
	}
	if t.locals != nil && t.locals[0].released != nil {
		t.locals[0].done <- outcome{}
		handled++
	}
	for _, d := range t.mine {
		t.c.process.deliver(d)
	}
	if b.waits {
		t.joined = 0 // the others go behind the message that waits
	}
	t.giveBack(t.locals[handled:])
	if len(b.actions) > 0 {
		t.act(b.actions)
	}
	for _, p := range b.parcels {
		t.c.process.wake(p.to)
	}
	if b.locks {
		t.hold()
	}
	if t.lockEnd.ends() {
		t.c.process.wake(t.s.ref()) // for what waited
	}
	if t.info != nil {
		return nextTurn{}
	}
	next := t.next()
	next.took = t.took
	return next
}

// next is when the server is due again after messages were handled.
func (t *turn) next() nextTurn {
	stored := t.stored()
	took := len(stored)
	t.passBy(stored)
	if took > 0 || t.batch.released() {
		t.s.emptied = time.Now().UnixNano()
		t.c.noteEmptied(t.s.ref())
	}
	switch {
	case t.batch.locks: // the end of the lock makes us look
		return nextTurn{now: !t.c.isHolding(t.s.ref())}
	case t.batch.waits && t.head.lock.isHeld():
		return t.park(t.watchLock())
	case t.batch.waits:
		return t.park(t.awaitPlace())
	case t.batch.released(), t.lockEnd.ends():
		return nextTurn{now: true}
	case took < t.able, !t.head.all && took > 0:
		return nextTurn{now: true}
	}
	return t.idle()
}

// idle is when a server without stored messages to handle is due again: when its back-off is over, when the lock of
// another process has to be looked at, or never. Its ready mark is cleared when its queue has been empty for a while.
func (t *turn) idle() nextTurn {
	switch {
	case !t.s.def.reads(t.head.meta.Schema):
		return t.rest() // with its lock, if there is one: the work could not read the state
	}
	if again, err := t.leave(); err != nil {
		return t.failed(err)
	} else if again {
		return nextTurn{now: true}
	}
	switch {
	case t.head.lock.isHeld():
		return t.watchLock()
	case t.waits == forever:
		return nextTurn{}
	}
	if t.waits > 0 {
		t.s.state = state{} // while it waits, the cache does not count it
		return nextTurn{after: t.waits}
	}
	if t.isAnothers() {
		return t.rest()
	}
	if !t.marked {
		return nextTurn{}
	}
	if wait := linger - time.Since(time.Unix(0, t.s.emptied)); wait > 0 {
		return nextTurn{after: wait}
	}
	t.c.unmark(t.s)
	if err := t.c.confirmEmpty(t.s.ref(), t.keys); err != nil {
		return t.failed(err)
	}
	return nextTurn{}
}

// rest leaves a server alone that others handle. A scan comes back to it.
func (t *turn) rest() nextTurn {
	t.s.state = state{}
	t.s.trouble().rests = time.Now().Add(restFor)
	return nextTurn{}
}

// lost ends a turn whose locked work has lost its lock: nothing of it is committed.
func (t *turn) lost() nextTurn {
	t.locals[0].done <- outcome{err: errLost}
	t.giveBack(t.locals[1:])
	return nextTurn{now: true}
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
	t.c.enter(locals...)
	t.s.arrivals = append(locals, t.s.arrivals...)
}

// failed ends a turn whose transaction did not commit because of the store. What may have been committed, and what
// cannot be handled before an operator looks, is answered with the error: nobody else would tell these callers. The
// other arrivals go to the queue, where their senders meet the store themselves.
func (t *turn) failed(err error) nextTurn {
	if errors.Is(err, ErrState) {
		return t.unreadable(err)
	}
	t.s.state = state{}
	unknown := errors.Is(err, backend.ErrCommitUnknown)
	told := fmt.Errorf("dserver: %v: %w", t.s.ref(), err)
	for i, a := range t.locals {
		stays := a.info || a.released != nil // the queue is not for them
		if stays || unknown && i < t.joined || errors.Is(err, backend.ErrCorrupt) {
			a.done <- outcome{err: told}
		} else {
			a.done <- outcome{declined: true}
		}
	}
	t.locals = nil
	for _, d := range t.mine {
		if unknown {
			t.c.process.deliver(delivery{call: d.call, err: told})
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.c.log.Error().Err(err).Stringer(logServer, t.s.ref()).Msg("a turn did not commit")
	}
	t.c.fail(err)
	return nextTurn{after: retryInterval}
}

// retryInterval is how long a server is left alone whose turn met an error of the store.
const retryInterval = time.Second

package dserver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Locked work, from the lock to the release:
//
//  1. A turn takes the message off the queue, and writes it under the lock, whose fence is that commit's versionstamp,
//     with the name of the consumer that holds it. From then on only priority messages and info are handled. A consumer
//     has a bounded number of places for work (places.go): a turn without one leaves the message where it is.
//  2. The holder runs work on a copy of the state. A consumer that holds locks beats, once for all of them (beat.go).
//  3. Work that breaks is counted in the lock's record and runs again after a back-off, with the same idempotency key.
//  4. The release is a turn: it checks the fence, reads the state as it then is, runs apply, and commits what that did
//     with the reply and the end of the lock. A release whose fence is not the lock's is refused.
//  5. Others watch the beats of holders (vigil.go). One that sees a holder unmoved for a lease, by its own clock and in
//     reads that were never far apart, takes its locks over: a new fence, one attempt more, and work runs there.
//  6. When the consumer stops, no attempt begins any more: a lock that waits for one is given up, and others have it at
//     once. Work that is under way goes on, and what it finds in time is applied. Near the end of the grace its context
//     ends; then its lock is given up as well.
//  7. Work may be ended before its time, by an operator or by a handler of its server (unlock.go): its fence is gone then.
//
// | dies | what is left |
// |---|---|
// | before the lock's commit | the message is on the queue |
// | after it, or in work | the lock: another consumer takes over after a lease, and runs work again with the same key |
// | before the release's commit | the same |
// | after it | everything happened |

const (
	lease     = 3 * time.Second
	beatEvery = lease / 6
	lookEvery = lease / 8 // at locks of others
	lookGap   = lease / 3 // between two looks, above which a lock counts as seen for the first time

	defaultWorkLimit = time.Minute

	// workGrace is how long work may go on when Run ends. What is left of the grace is for the release.
	workGrace = shutdownGrace - releaseMargin

	releaseMargin = time.Second
)

// release is the end of locked work: a turn's first and only message.
type release struct {
	env     envelope
	item    queue.Item
	fence   backend.Versionstamp
	handler *lockedHandler
	found   any
	err     *Error // a decision, or the last failure
	stack   string
	attempt int
}

// apply is what the turn runs for the message.
func (r *release) apply(ctx *Context, state any) ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	h := &handler{run: func(ctx *Context, state any, body []byte) ([]byte, error) {
		return r.handler.apply(ctx, state, body, r.found)
	}}
	return invoke(h, ctx, state, r.env.Body)
}

// holder runs the work of one lock in this process.
type holder struct {
	c       *consumer
	ref     Ref
	def     *definition
	handler *lockedHandler
	item    queue.Item
	env     envelope
	lock    lock
	state   any

	spent bool            // the last attempt killed its process
	since time.Time       // when this process had it, for the beat
	ctx   context.Context // ends when the lock is lost, or some time after the consumer stopped
	lose  context.CancelCauseFunc
}

var (
	errLost   = errors.New("dserver: the lock was lost")
	errUnread = errors.New("dserver: the state could not be read for locked work")
	errStops  = errors.New("dserver: the consumer stops")
)

// hold begins locked work after the transaction that took the lock. The consumer's wait group counts it.
func (c *consumer) hold(h *holder) {
	h.c, h.since = c, time.Now()
	h.ctx, h.lose = context.WithCancelCause(c.working)
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.holding[h.ref]; other != nil {
		other.lose(errLost)
	}
	c.holding[h.ref] = h
	c.startBeating()
	c.wg.Go(func() {
		defer c.endHold(h)
		h.run()
	})
}

// endHold makes the server looked at: when its lock is still there, it is nobody's.
func (c *consumer) endHold(h *holder) {
	h.lose(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding[h.ref] == h {
		delete(c.holding, h.ref)
	}
	c.rest()
	c.leavePlace()
	c.lookAt(h.ref)
}

// isHolding reports whether locked work of a server runs in this process.
func (c *consumer) isHolding(ref Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holding[ref] != nil
}

// holds reports whether this process runs the work of a lock.
func (c *consumer) holds(ref Ref, fence backend.Versionstamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.holding[ref]
	return held != nil && held.lock.fence == fence
}

func (h *holder) run() {
	c := h.c
	if h.spent {
		h.giveUp(because(ErrFault, "the consumer vanished in each attempt"), "")
		return
	}
	for {
		e, err := h.attempt()
		f := e.fault
		switch {
		case errors.Is(context.Cause(h.ctx), errLost):
			c.log.Warn().Stringer(logServer, h.ref).Msg("a lock was lost; its work's result is dropped")
			return
		case errors.Is(err, errUnread): // work did not run, so it is no attempt; another consumer may be able to
			c.log.Error().Err(err).Stringer(logServer, h.ref).Msg("locked work cannot begin")
			h.sleep(retryInterval)
			h.vacate()
			return
		case err != nil, f != nil && h.ctx.Err() != nil: // it is no attempt: its consumer stops
			h.vacate()
			return
		case f == nil:
			if f = h.release(e.found, e.err, ""); f == nil {
				return
			}
		}
		if h.lock.record.Attempt >= h.def.settings.maxAttempts {
			if h.def.settings.halt {
				f.halts = true
			} else {
				h.giveUp(because(ErrFault, "%s", f.Text), f.Stack)
				return
			}
		}
		if !h.again(f) {
			return
		}
	}
}

// attempt runs work once, after its back-off. An error says that it did not run.
func (h *holder) attempt() (ending, error) {
	if !h.backOff(h.lock.record.Wait) {
		return ending{}, errStops
	}
	if err := h.reload(); err != nil {
		return ending{}, fmt.Errorf("%w: %w", errUnread, err)
	}
	limit := h.def.settings.workLimit
	ctx, cancel := context.WithTimeout(context.WithValue(h.ctx, lockedKey{}, h.ref), limit)
	defer cancel()
	done, began := make(chan ending, 1), time.Now()
	var goroutine atomic.Uint64
	attempt, state := &LockedContext{ctx, h.ref, h.lock.record.Key, h.lock.record.Attempt}, h.state
	go func() {
		goroutine.Store(goroutineID())
		e := ending{fault: &fault{Text: "the work ended its goroutine"}}
		defer func() { done <- e }()
		e = h.handler.outcomeOf(attempt, state, h.env.Body)
	}()
	select {
	case e := <-done:
		return e, nil
	case <-ctx.Done():
	}
	select { // work that heeds its context has a moment to say how it ended
	case e := <-done:
		return e, nil
	case <-time.After(beatEvery):
	}
	left := h.c.lose(h.ref, "the work of "+h.env.Name, goroutine.Load())
	h.c.wg.Go(func() {
		<-done
		h.c.find(left)
	})
	stack, _ := h.c.process.stacks.where(goroutine.Load(), began)
	return ending{fault: &fault{Text: fmt.Sprintf("the work did not return within %v", limit), Stack: stack, hangs: true}}, nil
}

// backOff waits before an attempt. It reports false when none may begin: the lock is lost, or the consumer stops.
func (h *holder) backOff(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.ctx.Done():
	case <-h.c.taking.Done():
	}
	return h.ctx.Err() == nil && h.c.taking.Err() == nil
}

// sleep waits, unless the lock is lost or the consumer stops.
func (h *holder) sleep(d time.Duration) bool {
	if d <= 0 {
		return h.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.ctx.Done():
		return false
	}
}

// change runs fn in a transaction that commits only while the lock is this holder's.
func (h *holder) change(fn func(tx backend.Tx, keys tenant) error) error {
	keys := tenantOf(h.ref)
	ctx, cancel := context.WithTimeout(h.c.base, lease)
	defer cancel()
	return h.c.db.Transact(ctx, func(tx backend.Tx) error {
		value, err := tx.Get(keys.fence()).Get()
		if err != nil {
			return err
		}
		fence, err := backend.StampOf(value)
		if err != nil {
			return err
		}
		if fence != h.lock.fence {
			return errLost
		}
		return fn(tx, keys)
	})
}

// again counts a failed attempt. The lock stays.
func (h *holder) again(f *fault) bool {
	r := h.lock.record
	r.Wait = backOff(r.Attempt)
	if r.Halted = f.halts; !r.Halted {
		h.about(h.c.log.Warn()).Stringer(logWait, r.Wait.Round(time.Millisecond)).Str(zerolog.ErrorFieldName, f.Text).
			Func(withStack(f.hung())).Msg("locked work failed, and is tried again")
		r.Attempt++
	}
	err := h.change(func(tx backend.Tx, keys tenant) error {
		tx.Set(keys.lock(), encodeRecord(r))
		return nil
	})
	if err != nil {
		h.lose(errLost)
		return false
	}
	h.lock.record = r
	if r.Halted {
		h.tellHalted(h.c, f)
		return false
	}
	return true
}

// reload reads the state anew, as priority messages may have changed it.
func (h *holder) reload() error {
	st, err := handle{db: h.c.db, def: h.def, id: h.ref.ID}.whole(h.ctx)
	if err == nil {
		h.state, err = st.decode(h.def)
	}
	return err
}

// vacate gives the lock up without an attempt, so that another consumer takes it at once.
func (h *holder) vacate() {
	err := h.change(func(tx backend.Tx, keys tenant) error {
		tx.Set(keys.beat(), []byte(vacant))
		setReady(tx, h.ref)
		return nil
	})
	if err != nil && !errors.Is(err, errLost) {
		h.c.log.Warn().Err(err).Stringer(logServer, h.ref).Msg("a lock could not be given up; others take it after a lease")
	}
}

// release ends the lock in a turn. It returns a fault when apply broke: then the lock stays.
func (h *holder) release(found any, err *Error, stack string) *fault {
	a := newArrival(Message{Name: h.env.Name, Body: h.env.Body}, true)
	a.released = &release{
		env: h.env, item: h.item, fence: h.lock.fence, handler: h.handler,
		found: found, err: err, stack: stack, attempt: h.lock.record.Attempt,
	}
	for {
		if !h.c.offerRelease(h.ref, a) {
			h.vacate()
			return nil
		}
		out := h.await(a)
		var f *fault
		switch {
		case out.declined:
			h.vacate()
			return nil
		case errors.As(out.err, &f):
			return f
		case out.err == nil || errors.Is(out.err, errLost):
			return nil
		}
		if !h.sleep(retryInterval) { // the store failed
			h.vacate()
			return nil
		}
		a.taken = false
	}
}

// await waits for the turn of a release. One that no turn takes in time, as the consumer stops, is taken back.
func (h *holder) await(a *arrival) outcome {
	select {
	case out := <-a.done:
		return out
	case <-h.ctx.Done():
	}
	select {
	case out := <-a.done:
		return out
	case <-time.After(beatEvery):
	}
	if h.c.withdraw(a) {
		return outcome{declined: true}
	}
	return <-a.done
}

// giveUp ends the lock without a result. No apply runs that could break; should the turn fault all the same, the lock
// stays, and is taken over.
func (h *holder) giveUp(err *Error, stack string) { _ = h.release(nil, err, stack) }

// offerRelease gives a release to the server's next turn, also when nothing else is let in any more.
func (c *consumer) offerRelease(ref Ref, a *arrival) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing && (c.base.Err() != nil || c.steps != nil) {
		return false
	}
	s := c.server(ref)
	s.arrivals = append([]*arrival{a}, s.arrivals...)
	c.schedule(s)
	return true
}

// readLock reads a lock whole; a change before the commit is a conflict.
func readLock(tx backend.Reader, keys tenant) (l lock, err error) {
	record, fence, beat := tx.Get(keys.lock()), tx.Get(keys.fence()), tx.Get(keys.beat())
	value, err := record.Get()
	if err != nil || value == nil {
		return l, err
	}
	if err := decodeRecord(value, &l.record); err != nil {
		return l, err
	}
	if value, err = fence.Get(); err != nil {
		return l, err
	}
	if l.fence, err = backend.StampOf(value); err != nil {
		return l, err
	}
	value, err = beat.Get()
	l.beat = string(value)
	return l, err
}

package dserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Locked work, from the lock to the release:
//
//  1. A turn takes the message off the queue, and writes it under the lock, whose fence is that commit's versionstamp.
//     From then on only priority messages and info are handled.
//  2. The holder runs work on a copy of the state, and beats: each beat is a transaction that checks the fence, and that
//     the lock was not given up. When a beat fails or comes late, the work's context ends.
//  3. Work that breaks is counted in the lock's record and runs again after a back-off, with the same idempotency key.
//  4. The release is a turn: it checks the fence, reads the state as it then is, runs apply, and commits what that did
//     with the reply and the end of the lock. A release whose fence is not the lock's is refused.
//  5. Others look at a locked server now and then. One that sees fence and beat unmoved for a lease, by its own clock
//     and in reads that were never far apart, takes over: a new fence, one attempt more, and work runs there.
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
)

// release is the end of locked work: a turn's first and only message.
type release struct {
	env     envelope
	item    queue.Item
	fence   backend.Versionstamp
	handler *lockedHandler
	found   any
	err     error // a decision, or the last failure
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
	ctx   context.Context // ends when the lock is lost or the consumer stops
	lose  context.CancelCauseFunc
}

var (
	errLost   = errors.New("dserver: the lock was lost")
	errUnread = errors.New("dserver: the state could not be read for locked work")
)

// hold begins locked work after the transaction that took the lock. The consumer's wait group counts it.
func (c *consumer) hold(h *holder) {
	h.c = c
	h.ctx, h.lose = context.WithCancelCause(c.working)
	c.mu.Lock()
	c.holding[h.ref] = h.lock.fence
	c.mu.Unlock()
	c.wg.Go(func() {
		defer c.endHold(h)
		h.run()
	})
}

func (c *consumer) endHold(h *holder) {
	h.lose(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding[h.ref] == h.lock.fence {
		delete(c.holding, h.ref)
	}
	c.lookAt(h.ref)
}

// isHolding reports whether locked work of a server runs in this process.
func (c *consumer) isHolding(ref Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.holding[ref]
	return ok
}

// holds reports whether this process runs the work of a lock.
func (c *consumer) holds(ref Ref, fence backend.Versionstamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	held, ok := c.holding[ref]
	return ok && held == fence
}

func (h *holder) run() {
	c := h.c
	c.wg.Go(h.beat)
	if h.spent {
		h.giveUp(because(ErrFault, "the consumer vanished in each attempt"), "")
		return
	}
	for {
		found, err := h.attempt()
		var f *fault
		switch cause := context.Cause(h.ctx); {
		case errors.Is(cause, errLost):
			c.log.Warn().Stringer(logServer, h.ref).Msg("a lock was lost; its work's result is dropped")
			return
		case h.ctx.Err() != nil:
			h.vacate()
			return
		case errors.Is(err, errUnread): // work did not run, so it is no attempt; another consumer may be able to
			c.log.Error().Err(err).Stringer(logServer, h.ref).Msg("locked work cannot begin")
			h.sleep(retryInterval)
			h.vacate()
			return
		case err == nil || isDecision(err):
			if f = h.release(found, err, ""); f == nil {
				return
			}
		default:
			f = asFault(err)
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

// isDecision reports whether work's error is final. The world outside breaks by returning errors, so only *Error is.
func isDecision(err error) bool {
	var f *fault
	var e *Error
	return !errors.As(err, &f) && errors.As(err, &e)
}

func asFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	return &fault{Text: truncate(err.Error(), maxErrorText)}
}

// attempt runs work once, after its back-off.
func (h *holder) attempt() (any, error) {
	if !h.sleep(h.lock.record.Wait) {
		return nil, h.ctx.Err()
	}
	if err := h.reload(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	limit := h.def.settings.workLimit
	ctx, cancel := context.WithTimeout(context.WithValue(h.ctx, lockedKey{}, h.ref), limit)
	defer cancel()
	type end struct {
		found any
		err   error
	}
	done := make(chan end, 1)
	attempt, state := &LockedContext{ctx, h.ref, h.lock.record.Key, h.lock.record.Attempt}, h.state
	go func() {
		e := end{err: &fault{Text: "the work ended its goroutine"}}
		defer func() { done <- e }()
		e.found, e.err = h.handler.outcomeOf(attempt, state, h.env.Body)
	}()
	select {
	case e := <-done:
		return e.found, e.err
	case <-ctx.Done():
	}
	select { // work that heeds its context has a moment to say how it ended
	case e := <-done:
		return e.found, e.err
	case <-time.After(beatEvery):
	}
	left := h.c.lose(h.ref, "the work of "+h.env.Name)
	h.c.wg.Go(func() {
		<-done
		h.c.find(left)
	})
	return nil, &fault{Text: fmt.Sprintf("the work did not return within %v", limit)}
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

// beat keeps the lock. A beat that fails, or that comes so late that others may have taken over, ends the work.
func (h *holder) beat() {
	last := time.Now()
	for h.sleep(beatEvery) {
		err := h.change(func(tx backend.Tx, keys tenant) error {
			now, err := tx.Get(keys.beat()).Get()
			if err != nil {
				return err
			}
			if string(now) == vacant { // it was given up while this beat was under way
				return errLost
			}
			tx.Set(keys.beat(), []byte(rand.Text()))
			return nil
		})
		if err != nil && !errors.Is(err, errLost) && time.Since(last) < lookGap {
			continue // the store may come back in time
		}
		if err != nil || time.Since(last) > lease-beatEvery {
			h.lose(errLost)
			return
		}
		last = time.Now()
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
			Msg("locked work failed, and is tried again")
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
		h.tellHalted(h.c, f.Text)
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
func (h *holder) release(found any, err error, stack string) *fault {
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
		out := <-a.done
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

// giveUp ends the lock without a result. No apply runs that could break; should the turn fault all the same, the lock
// stays, and is taken over after a lease.
func (h *holder) giveUp(err error, stack string) { _ = h.release(nil, err, stack) }

// offerRelease gives a release to the server's next turn.
func (c *consumer) offerRelease(ref Ref, a *arrival) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
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

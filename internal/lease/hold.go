package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/stacks"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/queue"
)

// Locked work, from the lock to the release:
//
//  1. A turn takes the message off the queue, and writes it under the lock, whose fence is that commit's versionstamp,
//     with the name of the consumer that holds it. From then on only priority messages and info are handled. A consumer
//     has a bounded number of places for work (consumer/places.go): a turn without one leaves the message where it is.
//  2. The holder runs work on a copy of the state. A consumer that holds locks beats, once for all of them (beat.go).
//  3. Work that breaks is counted in the lock's record and runs again after a back-off, with the same idempotency key.
//  4. The release is a turn: it checks the fence, reads the state as it then is, runs apply, and commits what that did
//     with the reply and the end of the lock. A release whose fence is not the lock's is refused.
//  5. Others watch the beats of holders (vigil.go). One that sees a holder unmoved for a lease, by its own clock and in
//     reads that were never far apart, takes its locks over: a new fence, one attempt more, and work runs there.
//  6. When the consumer stops, no attempt begins any more: a lock that waits for one is given up, and others have it at
//     once. Work that is under way goes on, and what it finds in time is applied. Near the end of the grace its context
//     ends; then its lock is given up as well.
//  7. Work may be ended before its time, by an operator or by a handler of its server (tenant/lock_end.go): its fence is
//     gone then.
//
// | dies | what is left |
// |---|---|
// | before the lock's commit | the message is on the queue |
// | after it, or in work | the lock: another consumer takes over after a lease, and runs work again with the same key |
// | before the release's commit | the same |
// | after it | everything happened |

// These are no settings: all consumers of a store must agree on them, also those of other programs and versions. A
// consumer with a shorter term would take the locks of holders that live, whose work would then run twice; a holder with
// longer beats would lose them.
const (
	term      = 3 * time.Second
	beatEvery = term / 6
	lookEvery = term / 8 // at locks of others
	lookGap   = term / 3 // between two looks, above which a lock counts as seen for the first time
)

// holder runs the work of one lock in this process.
type holder struct {
	k       *Keeper
	ref     tenant.Ref
	def     *turn.Definition
	handler *turn.Locked
	item    queue.Item
	env     tenant.Envelope
	lock    tenant.Lock
	state   any

	spent bool            // the last attempt killed its process
	since time.Time       // when this process had it, for the beat
	ctx   context.Context // ends when the lock is lost, or some time after the consumer stopped
	lose  context.CancelCauseFunc
}

var (
	errUnread = errors.New("dserver: the state could not be read for locked work")
	errPaused = errors.New("dserver: the server is paused")
	errStops  = errors.New("dserver: the consumer stops")
)

// hold begins locked work after the transaction that took the lock. The consumer's wait group counts it.
func (k *Keeper) hold(h *holder) {
	h.k, h.since = k, time.Now()
	h.ctx, h.lose = context.WithCancelCause(k.working)
	k.mu.Lock()
	defer k.mu.Unlock()
	if other := k.holding[h.ref]; other != nil {
		other.lose(turn.ErrLost)
	}
	k.holding[h.ref] = h
	k.startBeating()
	k.wg.Go(func() {
		defer k.endHold(h)
		h.run()
	})
}

// endHold makes the server looked at: when its lock is still there, it is nobody's.
func (k *Keeper) endHold(h *holder) {
	h.lose(nil)
	k.mu.Lock()
	if k.holding[h.ref] == h {
		delete(k.holding, h.ref)
	}
	k.rest()
	k.mu.Unlock()
	k.host.Ended(h.ref)
}

// IsHolding reports whether locked work of a server runs in this process.
func (k *Keeper) IsHolding(ref tenant.Ref) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.holding[ref] != nil
}

// Holds reports whether this process runs the work of a lock.
func (k *Keeper) Holds(ref tenant.Ref, fence backend.Versionstamp) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	held := k.holding[ref]
	return held != nil && held.lock.Fence == fence
}

func (h *holder) run() {
	k := h.k
	if h.spent {
		h.endWithout(tenant.Because(tenant.ErrFault, "%s", turn.Vanished.Text), "")
		return
	}
	for {
		e, err := h.attempt()
		f := e.Fault
		switch {
		case errors.Is(context.Cause(h.ctx), turn.ErrLost):
			k.log.Warn().Stringer(logs.Server, h.ref).Msg("a lock was lost; its work's result is dropped")
			return
		case errors.Is(err, errUnread): // work did not run, so it is no attempt; another consumer may be able to
			k.log.Error().Err(err).Stringer(logs.Server, h.ref).Msg("locked work cannot begin")
			h.sleep(mailbox.RetryInterval)
			h.vacate()
			return
		case err != nil, f != nil && h.ctx.Err() != nil: // it is no attempt: its consumer stops, or the server is paused
			h.vacate()
			return
		case f == nil:
			if f = h.release(e.Found, e.Err, ""); f == nil {
				return
			}
		}
		if h.lock.Record.Attempt >= h.def.Settings.MaxAttempts {
			if h.def.Settings.Halt {
				f.Halts = true
			} else {
				h.endWithout(tenant.Because(tenant.ErrFault, "%s", f.Text), f.Stack)
				return
			}
		}
		if !h.again(f) {
			return
		}
	}
}

// attempt runs work once, after its back-off. An error says that it did not run.
func (h *holder) attempt() (turn.Ending, error) {
	if !h.backOff(h.lock.Record.Wait) {
		return turn.Ending{}, errStops
	}
	if paused, err := h.isPaused(); err != nil || paused {
		return turn.Ending{}, cmp.Or(err, errPaused)
	}
	if err := h.reload(); err != nil {
		return turn.Ending{}, fmt.Errorf("%w: %w", errUnread, err)
	}
	limit := h.def.Settings.WorkLimit
	ctx, cancel := context.WithTimeout(context.WithValue(h.ctx, lockedKey{}, h.ref), limit)
	defer cancel()
	done, began := make(chan turn.Ending, 1), time.Now()
	var goroutine atomic.Uint64
	attempt, state := &turn.WorkAttempt{
		Context: ctx, Self: h.ref, Key: h.lock.Record.Key, Number: h.lock.Record.Attempt, Message: h.env, Stamp: h.item.Stamp,
	}, h.state
	go func() {
		goroutine.Store(stacks.Goroutine())
		e := turn.Ending{Fault: &turn.Fault{Text: "the work ended its goroutine"}}
		defer func() { done <- e }()
		e = h.handler.OutcomeOf(attempt, h.k.env.Hooks, state, h.env.Body)
	}()
	select {
	case e := <-done:
		return e, nil
	case <-ctx.Done():
	}
	select { // work that heeds its context has a moment to say how it ended
	case e := <-done:
		return e, nil
	case <-time.After(h.lastMoment()):
	}
	cameBack := h.k.host.LeaveBehind(h.ref, "the work of "+h.env.Name, goroutine.Load())
	h.k.wg.Go(func() {
		<-done
		cameBack()
	})
	stack, _ := h.k.env.Process.Stacks.Where(goroutine.Load(), began)
	return turn.Ending{Fault: &turn.Fault{Text: fmt.Sprintf("the work did not return within %v", limit), Stack: stack, Hangs: true}}, nil
}

// lastMoment is how long work may take to return after its context has ended.
func (h *holder) lastMoment() time.Duration {
	if h.k.working.Err() != nil {
		return min(beatEvery, h.k.moment)
	}
	return beatEvery
}

// backOff waits before an attempt. It reports false when none may begin: the lock is lost, or the consumer stops.
func (h *holder) backOff(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.ctx.Done():
	case <-h.k.taking.Done():
	}
	return h.ctx.Err() == nil && h.k.taking.Err() == nil
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
func (h *holder) change(fn func(tx backend.Tx, keys tenant.Keys) error) error {
	keys := tenant.KeysOf(h.ref)
	ctx, cancel := context.WithTimeout(h.k.env.Base, term)
	defer cancel()
	return h.k.env.DB.Transact(ctx, func(tx backend.Tx) error {
		value, err := tx.Get(keys.Fence()).Get()
		if err != nil {
			return err
		}
		fence, err := backend.StampOf(value)
		if err != nil {
			return err
		}
		if fence != h.lock.Fence {
			return turn.ErrLost
		}
		return fn(tx, keys)
	})
}

// failure is why an attempt failed, as it is stored.
func (h *holder) failure(f *turn.Fault) tenant.Failure {
	return tenant.NewFailure(h.lock.Record.Stamp, h.def.Settings.MaxAttempts, f.Text, f.Stack)
}

// again counts a failed attempt. The lock stays.
func (h *holder) again(f *turn.Fault) bool {
	r := h.lock.Record
	r.Wait = h.def.Settings.BackOffAfter(r.Attempt)
	if r.Halted = f.Halts; !r.Halted {
		h.about(h.k.log.Warn()).Stringer(logs.Wait, r.Wait.Round(time.Millisecond)).Str(zerolog.ErrorFieldName, f.Text).
			Func(logs.WithStack(f.Hung())).Msg("locked work failed, and is tried again")
		r.Attempt++
	}
	err := h.change(func(tx backend.Tx, keys tenant.Keys) error {
		keys.SetLock(tx, r)
		keys.SetLockFailure(tx, h.failure(f))
		return nil
	})
	if err != nil {
		h.lose(turn.ErrLost)
		return false
	}
	h.lock.Record = r
	if r.Halted {
		h.tellHalted(f)
		return false
	}
	return true
}

// reload reads the state anew, as priority messages may have changed it.
func (h *holder) reload() error {
	st, err := turn.Whole(h.ctx, h.k.env.DB, h.ref)
	if err == nil {
		h.state, err = st.Decode(h.def)
	}
	return err
}

// isPaused reports whether an operator has paused the server, so that no attempt may begin. A failure to look is no reason to
// run work.
func (h *holder) isPaused() (paused bool, err error) {
	err = h.k.env.DB.Read(h.ctx, func(tx backend.ReadTx) error {
		p, err := tenant.KeysOf(h.ref).ReadPaused(tx)
		paused = p.Is()
		return err
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", errUnread, err)
	}
	return paused, err
}

// vacate gives the lock up without an attempt, so that another consumer takes it at once.
func (h *holder) vacate() {
	err := h.change(func(tx backend.Tx, keys tenant.Keys) error {
		keys.Vacate(tx)
		tenant.SetReady(tx, h.ref)
		return nil
	})
	if err != nil && !errors.Is(err, turn.ErrLost) {
		h.k.log.Warn().Err(err).Stringer(logs.Server, h.ref).Msg("a lock could not be given up; others take it after a lease")
	}
}

// release ends the lock in a turn. It returns a fault when apply broke: then the lock stays.
func (h *holder) release(found any, err *tenant.Error, stack string) *turn.Fault {
	r := &turn.Release{
		Env: h.env, Item: h.item, Fence: h.lock.Fence, Handler: h.handler,
		Found: found, Err: err, Stack: stack, Attempt: h.lock.Record.Attempt,
	}
	for {
		out := h.k.host.Release(h.ctx, h.ref, r)
		var f *turn.Fault
		switch {
		case out.Declined:
			h.vacate()
			return nil
		case errors.As(out.Err, &f):
			return f
		case out.Err == nil || errors.Is(out.Err, turn.ErrLost):
			return nil
		}
		if !h.sleep(mailbox.RetryInterval) { // the store failed
			h.vacate()
			return nil
		}
	}
}

// endWithout ends the lock without a result. No apply runs that could break; should the turn fault all the same, the lock
// stays, and is taken over.
func (h *holder) endWithout(err *tenant.Error, stack string) { _ = h.release(nil, err, stack) }

// lockedKey marks the context of locked work, with the server's Ref.
type lockedKey struct{}

// IsWorkOf reports whether a context is that of locked work of a server.
func IsWorkOf(ctx context.Context, ref tenant.Ref) bool {
	of, ok := ctx.Value(lockedKey{}).(tenant.Ref)
	return ok && of == ref
}

// about begins a line about locked work.
func (h *holder) about(line *zerolog.Event) *zerolog.Event {
	r := h.lock.Record
	return line.Stringer(logs.Server, h.ref).Str(logs.Message, r.Name).Int(logs.Attempts, r.Attempt).
		Int(logs.MaxAttempts, h.def.Settings.MaxAttempts)
}

// tellHalted logs that locked work has no attempts left, and why.
func (h *holder) tellHalted(f *turn.Fault) {
	h.about(h.k.log.Error()).Str(zerolog.ErrorFieldName, f.Text).Func(logs.WithStack(f.Hung())).
		Msg("the server halts under its lock until an operator acts")
}

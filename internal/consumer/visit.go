package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// visit is a worker's visit to one server: what comes before the turn (claim.go), the turn itself (package turn), and what
// its outcome means for when the server is next. Its steps are those of the turn's drawing: 1 and 7 are here.
type visit struct {
	turn.Turn
	c      *consumer
	s      *server
	locals []*guest // what was cut

	goroutine uint64 // that runs the turn
	guard     *guard // of that goroutine; nil: it has none yet

	handover sync.Mutex // while another goroutine takes the turn over
	left     *stray     // this goroutine, from then on

	kept   bool // a place for locked work was kept for this turn
	booked bool // it has one
}

// turn runs one turn, and says when the next one is due.
func (c *consumer) turn(t *visit) nextTurn {
	if c.options.Cold {
		t.s.State, t.Limit = turn.State{}, 1
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
		return nextTurn{after: mailbox.Jittered(c.Process.Others.Interval() / claimLooks)}
	case care == aside:
		t.giveBack(t.locals)
		return nextTurn{now: true}
	case care == alone:
		t.Limit = 1
	}
	return t.run()
}

func (t *visit) run() nextTurn {
	t.Offered = make([]*turn.Arrival, len(t.locals))
	for i, a := range t.locals {
		t.Offered[i] = &a.Arrival
	}
	for {
		err := t.Transact()
		t.parted(err == nil && t.Parted)
		if t.IsAbandoned() { // whatever the store made of that
			t.cameBack()
			return nextTurn{gone: true}
		}
		handled := 0
		if t.Batch != nil {
			handled = len(t.Batch.Results)
		}
		statement, before := t.StatementError(err)
		switch {
		case err == nil:
			return t.finish()
		case errors.Is(err, turn.ErrCut):
			t.Limit = max(1, handled)
		case errors.Is(err, turn.ErrFaulted):
			return t.faulted(t.Batch.Faulted)
		case errors.Is(err, turn.ErrLost):
			return t.lost()
		case t.Info != nil && (errors.Is(err, tenant.ErrElsewhere) || errors.Is(err, tenant.ErrPaused)):
			t.locals[0].Done <- turn.Outcome{Err: err}
			return nextTurn{}
		case statement != nil && before > 0:
			t.Limit = before
		case (turn.IsTooMuch(err) || errors.Is(err, tenant.ErrKeyReused) || statement != nil && before < 0) && handled > 1:
			t.Limit = handled / 2
		case statement != nil && statement.IsTemporary:
			return t.postponed(err)
		case statement != nil:
			t.Refusal = turn.RefusalOf(t.Batch.Results[0].Work, tenant.Because(tenant.ErrStatement, "%v", err))
		case errors.Is(err, tenant.ErrKeyReused) && handled == 1:
			t.Refusal = turn.RefusalOf(t.Batch.Results[0].Work, tenant.AsError(err))
		case turn.IsTooMuch(err) && handled == 1:
			return t.faulted(&turn.Fault{Text: t.TooOld(err).Error()})
		default:
			return t.failed(t.TooOld(err))
		}
	}
}

// cut takes the local arrivals of this moment, and notes whether the server's ready mark may be set. The end of locked
// work is alone in its turn.
func (t *visit) cut() {
	s := t.s
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	s.look, t.Marked = false, s.marked
	t.Parts = s.calm && s.quick && !t.hasRow() && s.queued-s.emptied > int64(linger)
	if s.called {
		s.called = false
		s.others().rests, s.others().row = time.Time{}, true
	}
	_, t.kept = t.c.places.kept[s.ref()]
	for len(s.arrivals) > 0 && len(t.locals) < tenant.MaxBatch {
		a := s.arrivals[0]
		if a.Released != nil && len(t.locals) > 0 {
			break
		}
		if !a.withdrawn {
			a.taken = true
			t.locals = append(t.locals, a)
		}
		s.arrivals = s.arrivals[1:]
		if a.Released != nil {
			break
		}
	}
	if len(s.arrivals) == 0 {
		s.arrivals = nil
	}
}

// finish makes the commit known: the cache, the senders, the actions, the servers that were sent to.
func (t *visit) finish() nextTurn {
	b := t.Batch
	if !t.Head.Lock.IsHeld() {
		t.c.locks.Forget(t.Ref)
	}
	if b == nil {
		return t.finishIdle()
	}
	t.isHere()
	if len(b.Results) > 0 && t.s.apart != nil {
		t.s.apart.stuck = time.Time{}
	}
	if err := t.Remember(); err != nil {
		t.c.log.Warn().Err(err).Stringer(logs.Server, t.Ref).Msg("the new version is not known; the state is read again")
	}
	t.tellLetters()
	t.tellEnded()
	t.c.count(t.Ref.Type, b.Count())
	t.s.crowded = t.Joined > 1
	handled := 0
	for _, r := range b.Results {
		if r.Arrival != nil {
			r.Arrival.Done <- r.Outcome()
			handled++
		}
	}
	if t.locals != nil && t.locals[0].Released != nil {
		t.locals[0].Done <- turn.Outcome{}
		handled++
	}
	for _, d := range t.Mine {
		t.c.Process.Deliver(d)
	}
	if b.Waits {
		t.Joined = 0 // the others go behind the message that waits
	}
	t.giveBack(t.locals[handled:])
	if t.c.Hooks != nil {
		t.tell(t.Tell)
	}
	if len(b.Actions) > 0 {
		t.act(b.Actions)
	}
	for _, p := range b.Parcels {
		t.c.Process.Wake(p.To)
	}
	if b.Locks {
		t.hold()
	}
	if t.LockEnd.Ends() {
		t.c.Process.Wake(t.Ref) // for what waited
	}
	if t.Info != nil {
		return nextTurn{}
	}
	next := t.next()
	next.took = t.Took
	return next
}

// finishIdle ends a turn that handled nothing.
func (t *visit) finishIdle() nextTurn {
	t.tellNewer()
	if t.c.Hooks != nil {
		t.tell(t.TellIdle)
	}
	t.giveBack(t.locals)
	switch {
	case !t.Head.Killed.IsZero():
		return t.bury()
	case t.IsElsewhere():
		return t.leaveElsewhere()
	}
	t.isHere()
	return t.park(t.idle())
}

// next is when the server is due again after messages were handled.
func (t *visit) next() nextTurn {
	stored := t.Stored()
	took := len(stored)
	t.PassBy(stored)
	if took > 0 || t.Batch.Released() {
		t.s.emptied = time.Now().UnixNano()
		if !t.Parted { // else it does not linger
			t.c.noteEmptied(t.Ref)
		}
	}
	switch {
	case t.Parted:
		t.c.caution.claims.Delete(t.Ref)
		return nextTurn{}
	case t.Batch.Locks: // the end of the lock makes us look
		return nextTurn{now: !t.c.locks.IsHolding(t.Ref)}
	case t.Batch.Waits && t.Head.Lock.IsHeld():
		return t.park(t.watchLock())
	case t.Batch.Waits:
		return t.park(t.awaitPlace())
	case t.Batch.Released(), t.LockEnd.Ends():
		return nextTurn{now: true}
	case took < t.Able, !t.Head.All && took > 0:
		return nextTurn{now: true}
	}
	return t.idle()
}

// idle is when a server without stored messages to handle is due again: when its back-off is over, when the lock of
// another process has to be looked at, or never. Its ready mark is cleared when its queue has been empty for a while.
func (t *visit) idle() nextTurn {
	switch {
	case !t.Def.Reads(t.Head.Meta.Schema):
		return t.rest() // with its lock, if there is one: the work could not read the state
	}
	if again, err := t.leave(); err != nil {
		return t.failed(err)
	} else if again {
		return nextTurn{now: true}
	}
	switch {
	case t.Head.Paused.Is() && (len(t.Head.Items) > 0 || t.Head.Lock.IsHeld()): // whoever resumes it makes us look
		return nextTurn{}
	case t.Head.Lock.IsHeld():
		return t.watchLock()
	case t.Waits == turn.Forever:
		return nextTurn{}
	}
	if t.Waits > 0 {
		t.s.State = turn.State{} // while it waits, the cache does not count it
		return nextTurn{after: t.Waits}
	}
	if t.IsAnothers() {
		return t.rest()
	}
	if !t.Marked {
		return nextTurn{}
	}
	if wait := linger - time.Since(time.Unix(0, t.s.emptied)); wait > 0 {
		return nextTurn{after: wait}
	}
	t.c.unmark(t.s)
	if err := t.confirmEmpty(); err != nil {
		return t.failed(err)
	}
	return nextTurn{}
}

// rest leaves a server alone that others handle. A scan comes back to it.
func (t *visit) rest() nextTurn {
	t.s.State = turn.State{}
	t.s.others().rests = time.Now().Add(restFor)
	return nextTurn{}
}

// lost ends a turn whose locked work has lost its lock: nothing of it is committed.
func (t *visit) lost() nextTurn {
	t.locals[0].Done <- turn.Outcome{Err: turn.ErrLost}
	t.giveBack(t.locals[1:])
	return nextTurn{now: true}
}

// giveBack returns arrivals that the turn did not handle: to the next turn when that is soon, else to their senders.
func (t *visit) giveBack(locals []*guest) {
	t.locals = nil
	if len(locals) == 0 {
		return
	}
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	if t.Joined == 0 || t.c.closing || t.Took > turn.Patience {
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
func (t *visit) failed(err error) nextTurn {
	if errors.Is(err, tenant.ErrState) {
		return t.unreadable(err)
	}
	t.s.State = turn.State{}
	unknown := errors.Is(err, backend.ErrCommitUnknown)
	told := fmt.Errorf("dserver: %v: %w", t.Ref, err)
	for i, a := range t.locals {
		stays := a.Info || a.Released != nil // the queue is not for them
		if stays || unknown && i < t.Joined || errors.Is(err, backend.ErrCorrupt) {
			a.Done <- turn.Outcome{Err: told}
		} else {
			a.Done <- turn.Outcome{Declined: true}
		}
	}
	t.locals = nil
	for _, d := range t.Mine {
		if unknown {
			t.c.Process.Deliver(tenant.Delivery{Call: d.Call, Err: told})
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.c.log.Error().Err(err).Stringer(logs.Server, t.Ref).Msg("a turn did not commit")
	}
	if t.c.Hooks != nil {
		t.tell(func() { t.TellWhy(err) })
	}
	t.c.fail(err)
	return nextTurn{after: mailbox.RetryInterval}
}

// bury ends the turn that met a killed server.
func (t *visit) bury() nextTurn {
	if err := tenant.Bury(t.c.Base, t.c.DB, t.Ref); err != nil {
		return t.failed(err)
	}
	return nextTurn{now: true}
}

// visit prepares a turn of a server.
func (c *consumer) visit(s *server, limit int) *visit {
	ref := s.ref()
	t := &visit{c: c, s: s}
	s.activate() // an info's is not scheduled
	t.Turn = turn.Turn{Env: &c.Env, Host: t, Def: s.def, Ref: ref, Keys: tenant.KeysOf(ref), Memory: &s.Memory, Limit: limit}
	if c.Hooks != nil {
		t.Began = time.Now()
	}
	return t
}

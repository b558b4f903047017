package dserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Context is a handler's turn. It is valid until the handler returns and is not safe for concurrent use. What it is
// asked to do is part of the turn's commit: it happens once if the handler succeeds and never if not; an impossible
// request (a message too large) fails the message. What it is asked for later, as by a goroutine that kept it, does not
// happen: the consumer logs that as an error, with the place, once for each. It is not a context.Context on purpose: outside work belongs in
// HandleLocked, as a turn may run more than once.
// The zero Context may be used to test a handler; it does nothing.
type Context struct {
	turn   context.Context
	until  time.Time // the turn's time limit
	made   context.Context
	cancel context.CancelFunc // of made
	self   Ref
	caller string // the address that an answer goes to; "" is nobody
	once   string // the idempotency key of the message
	word   string // of the key's record
	local  bool   // the message is not stored, so nobody could answer it later
	query  bool   // nothing may be changed or sent
	over   atomic.Bool
	err    error // the first impossible request
	effects
}

// effects is what handlers asked for beside changing the state.
type effects struct {
	parcels []*parcel
	answers []answer
	actions []func()
	timers  map[string]timerOp

	defers  bool // the reply comes later
	locks   bool
	unlocks *Error // why locked work ends before its time
	resets  bool
	queue   bool // a local message must take the queue's way after all
}

// answer is a reply to an address.
type answer struct {
	to    string
	reply []byte
	err   *Error
}

// add appends what a message's handler asked for to what those before it did.
func (e *effects) add(more effects) {
	e.parcels = append(e.parcels, more.parcels...)
	e.answers = append(e.answers, more.answers...)
	e.actions = append(e.actions, more.actions...)
	for name, op := range more.timers {
		e.setTimer(name, op)
	}
	e.locks = e.locks || more.locks
	e.unlocks = cmp.Or(e.unlocks, more.unlocks)
	e.resets = e.resets || more.resets
}

func (e *effects) setTimer(name string, op timerOp) {
	if e.timers == nil {
		e.timers = map[string]timerOp{}
	}
	e.timers[name] = op
}

// turnKey marks a context that came from Context.Context.
type turnKey struct{}

// Context carries the turn's time limit and values, for logs and traces. Handles refuse it: what a handler sends with
// it would not be part of the commit.
func (c *Context) Context() context.Context {
	if c.turn == nil {
		return context.WithValue(context.Background(), turnKey{}, true)
	}
	if c.made == nil && c.until.IsZero() {
		c.made = c.turn
	} else if c.made == nil {
		c.made, c.cancel = context.WithDeadline(c.turn, c.until)
	}
	return c.made
}

// end makes everything refuse that the handler may have kept.
func (c *Context) end() {
	c.over.Store(true)
	if c.cancel != nil {
		c.cancel()
	}
}

// Self is this server.
func (c *Context) Self() Ref { return c.self }

// Cast sends m to a server, this one too, as part of this turn's commit.
func (c *Context) Cast(to Ref, m any, opts ...Option) {
	if !c.usable() {
		return
	}
	p, err := prepareSend(to, m, opts)
	if err != nil {
		c.fail(err)
		return
	}
	c.parcels = append(c.parcels, p)
}

func prepareSend(to Ref, m any, opts []Option) (*parcel, error) {
	if err := to.check(); err != nil {
		return nil, err
	}
	how, err := options(opts)
	if err != nil {
		return nil, err
	}
	message, err := encodeMessage(m)
	if err != nil {
		return nil, err
	}
	return newParcel(to, how, newEnvelope(message, "")), nil
}

// AfterCommit runs fn in this process after the commit, in order, at most once: for logs, metrics and hints to caches.
// fn must not touch the state, which belongs to the next turn by then. The functions of one server run one after the
// other in this process, those of a turn after those of the turns before. After each turn the server waits 10 ms for
// them; then it goes on, so that fn may call it. It waits longer, up to a second, when the functions of 500 turns wait,
// and they do return one after the other. When the functions of 1,000 turns have not returned, those of the next turn
// are dropped, and that is logged.
func (c *Context) AfterCommit(fn func()) {
	if c.usable() {
		c.actions = append(c.actions, fn)
	}
}

// Lock commits this handler's changes, takes the message off the queue, locks the server and hands the message to its
// HandleLocked. The reply that this handler returns is dropped: the caller is answered when the work has ended. When this
// handler returns an error, that error counts as in a handler without Lock, and the server is not locked. Unlock ends the
// work before its time.
func (c *Context) Lock() {
	if c.usable() {
		c.locks = true
	}
}

// Unlock ends the locked work of this server, as part of this turn's commit. While work is under way, only messages with
// Priority and info are handled: so a timer with Priority ends what takes too long (SetTimer). The message of the work
// ends as if work had returned why as an *Error: its caller gets why, as *Error, and a message that was cast becomes a dead
// letter with why. Apply does not run, and a result that work may still return is refused. The context of the work ends
// soon, and messages that waited for the lock are handled at once. Either Unlock commits or the end of the work, never
// both. What work has done outside stays done: the payment that took too long may have been made.
//
// Unlock ends whatever work is under way, and does nothing when there is none. So keep in the state what the lock is for:
// set it where Lock is called, let the handler that unlocks look there, and in apply clear it and cancel the timer.
// Unlock is an error of the handler when why is nil, together with Lock, and in apply, which ends the work by returning.
// Do not send with Priority what locks: it waits for the lock, and what comes to unlock waits behind it.
func (c *Context) Unlock(why error) {
	if !c.usable() {
		return
	}
	if why == nil {
		c.fail(errors.New("dserver: Unlock without an error: the caller of the work has to be told something"))
		return
	}
	c.unlocks = asError(why)
}

// Reset is DServer.Reset, after this message has been answered: how a server ends its life. Soon nothing of it is stored
// any more but its dead letters and, until they expire, its idempotency keys and the index rows of its timers.
func (c *Context) Reset() {
	if c.usable() {
		c.resets = true
	}
}

// usable reports whether requests count: the zero Context does nothing.
func (c *Context) usable() bool {
	switch {
	case c.over.Load():
		c.late()
		return false
	case c.query:
		c.fail(errors.New("dserver: a query must not change or send anything"))
		return false
	}
	return c.turn != nil
}

func (c *Context) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// kept is what Keep returns.
type kept struct{ err error }

func (k *kept) Error() string { return k.err.Error() }
func (k *kept) Unwrap() error { return k.err }

// Keep makes a handler fail with err and yet commit what it changed and sent. Keep(nil) is nil.
func Keep(err error) error {
	if err == nil {
		return nil
	}
	return &kept{err}
}

func isKept(err error) bool {
	var k *kept
	return errors.As(err, &k)
}

// refuseTurn is the error of using a handle with a handler's context.
func refuseTurn(ctx context.Context, what string) error {
	if ctx.Value(turnKey{}) == nil {
		return nil
	}
	return fmt.Errorf("dserver: %s in a handler would not be part of its commit: use the handler's Context.Cast", what)
}

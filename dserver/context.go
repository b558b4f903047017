package dserver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
)

// Context is a handler's turn. It is valid until the handler returns and is not safe for concurrent use. What it is
// asked to do is part of the turn's commit: it happens once if the handler succeeds and never if not; an impossible
// request (a message too large) fails the message. It is not a context.Context on purpose: outside work does not
// belong in a transaction, which may run more than once.
// The zero Context may be used to test a handler; it does nothing.
type Context struct {
	turn    context.Context
	self    Ref
	query   bool // nothing may be changed or sent
	over    atomic.Bool
	err     error // the first impossible request
	sends   []send
	actions []func()
}

// send is a message to a server, in the turn's commit.
type send struct {
	to   Ref
	item []byte
}

// turnKey marks a context that came from Context.Context.
type turnKey struct{}

// Context carries the turn's time limit and values, for logs and traces. Handles refuse it: what a handler sends with
// it would not be part of the commit.
func (c *Context) Context() context.Context {
	if c.turn == nil {
		return context.WithValue(context.Background(), turnKey{}, true)
	}
	return c.turn
}

// Self is this server.
func (c *Context) Self() Ref { return c.self }

// Cast sends m to a server, this one too, as part of this turn's commit.
func (c *Context) Cast(to Ref, m any) {
	if !c.usable() {
		return
	}
	item, err := encodeSend(to, m)
	if err != nil {
		c.fail(err)
		return
	}
	c.sends = append(c.sends, send{to, item})
}

func encodeSend(to Ref, m any) ([]byte, error) {
	if err := to.check(); err != nil {
		return nil, err
	}
	message, err := encodeMessage(m)
	if err != nil {
		return nil, err
	}
	return newEnvelope(message, "").encode()
}

// AfterCommit runs fn in this process after the commit, in order, at most once: for logs, metrics and hints to caches.
// fn must not touch the state, which belongs to the next turn by then, and delays the next answers while it runs.
func (c *Context) AfterCommit(fn func()) {
	if c.usable() {
		c.actions = append(c.actions, fn)
	}
}

// usable reports whether requests count: the zero Context does nothing.
func (c *Context) usable() bool {
	switch {
	case c.over.Load():
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

func asKept(err error) (*kept, bool) {
	var k *kept
	ok := errors.As(err, &k)
	return k, ok
}

// refuseTurn is the error of using a handle with a handler's context.
func refuseTurn(ctx context.Context, what string) error {
	if ctx.Value(turnKey{}) == nil {
		return nil
	}
	return fmt.Errorf("dserver: %s in a handler would not be part of its commit: use the handler's Context.Cast", what)
}

package dserver

import (
	"maps"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Header gives the message a header: a pair of strings that travels with it, beside its body. It is for what is not part of
// what the message says: which request it belongs to, a trace, a tenant. The option may be given several times; of two with
// one key the last counts. Keys are compared as they are.
//
// Headers stay with their message wherever it is kept: on the queue, under After, in a timer, under a lock, in a dead letter
// and when that is retried, and in each attempt. What a handler sends, and the timers that it sets, inherit the headers of the
// message in hand; Header gives one of these another value, and an empty value takes it away. What is sent by a handle, also
// from locked work and AfterCommit functions, has those alone that it is given.
//
// A message has at most 64 headers. A key has 1 to 256 bytes, a value at most 4 KiB, and all of them 16 KiB. Both are UTF-8.
// More is an error of the send, and in a handler an error of the handler. A key of Once is not bound to the headers of its
// message.
func Header(key, value string) Option {
	return func(s *sending) {
		if s.err == nil {
			s.err = tenant.CheckHeader(key, value)
		}
		if s.how.Headers == nil {
			s.how.Headers = tenant.Headers{}
		}
		s.how.Headers[key] = value
	}
}

// outright is headers as a handle sends them: there is nothing that an empty one could take away.
func outright(h tenant.Headers) (tenant.Headers, error) {
	if len(h) == 0 {
		return nil, nil
	}
	h = tenant.Headers(nil).With(h)
	return h, h.Check()
}

// inherited is headers as a handler sends them.
func (c *Context) inherited(own tenant.Headers) (tenant.Headers, error) {
	all := c.message().Head.With(own)
	if len(own) == 0 { // those of a message that was sent
		return all, nil
	}
	return all, all.Check()
}

func (c *Context) message() *tenant.Envelope { return &c.scope.Message().Envelope }

// Header is a header of the message in hand; "" when it has none of this key.
func (c *Context) Header(key string) string { return c.message().Head[key] }

// Headers is a copy of all headers of the message in hand.
func (c *Context) Headers() map[string]string { return maps.Clone(c.message().Head) }

// Stamp names the message in hand: its place in the order of commits, as Queue and DeadLetters show it. It is zero of a
// message that was never on the queue: one that joined a turn of its sender's process, and one of Info.
func (c *Context) Stamp() backend.Versionstamp { return stampOf(c.scope.Message()) }

// Sent is when the message in hand was sent, by the sender's clock, in whole milliseconds: of a timer's, when the timer was set;
// of one with After, before it was delayed; of a dead letter that was retried, when that was.
func (c *Context) Sent() time.Time { return sentAt(c.message()) }

// Attempt is the number of this attempt at the message in hand; the first is 1. Those that were counted before it failed. A
// cast that broke without having been queued is queued, and begins with 1 again. In the apply of locked work it is the number
// of the work's attempt.
func (c *Context) Attempt() int { return c.scope.Message().Attempt }

// Header is a header of the message that the work is for; "" when it has none of this key.
func (c *LockedContext) Header(key string) string { return c.attempt.Message.Head[key] }

// Headers is a copy of all headers of the message that the work is for.
func (c *LockedContext) Headers() map[string]string { return maps.Clone(c.attempt.Message.Head) }

// Stamp names the message that the work is for, as it did on the queue.
func (c *LockedContext) Stamp() backend.Versionstamp { return c.attempt.Stamp }

// Sent is when the message that the work is for was sent, by the sender's clock.
func (c *LockedContext) Sent() time.Time { return sentAt(&c.attempt.Message) }

func stampOf(w *turn.Work) (stamp backend.Versionstamp) {
	if w.Item != nil {
		stamp = w.Item.Stamp
	}
	return stamp
}

func sentAt(e *tenant.Envelope) (at time.Time) {
	if e.Sent != 0 {
		at = time.UnixMilli(e.Sent)
	}
	return at
}

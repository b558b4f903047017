package dserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// What operators do to a server is a transaction that conflicts with the turns that it touches: of an operator and a
// consumer that take one message only one commits, and the other looks again.

// check is what a handle needs to be of use.
func (h handle) check(ctx context.Context, verb string) error {
	if err := refuseTurn(ctx, verb); err != nil {
		return err
	}
	if h.db == nil {
		return fmt.Errorf("dserver: the handle of %v has no database", h.Ref())
	}
	return h.Ref().check()
}

// lockedKey marks the context of locked work, with the server's Ref.
type lockedKey struct{}

// checkSelf refuses a call from the locked work of the server itself, which would wait for the lock's end.
func (h handle) checkSelf(ctx context.Context, how sending) error {
	if self := ctx.Value(lockedKey{}); how.priority || self == nil || self.(Ref) != h.Ref() {
		return nil
	}
	return fmt.Errorf("dserver: a call of %v from its own locked work would wait for itself: use what work is given, or Info", h.Ref())
}

// read runs fn on a snapshot.
func (h handle) read(ctx context.Context, verb string, fn func(tx backend.ReadTx, keys tenant) error) error {
	keys := tenantOf(h.Ref())
	return h.named(verb, h.db.Read(ctx, func(tx backend.ReadTx) error { return fn(tx, keys) }))
}

// change runs fn in a transaction, after which the consumers of this process look at the server.
func (h handle) change(ctx context.Context, verb string, fn func(tx backend.Tx, keys tenant) error) error {
	if err := h.check(ctx, verb); err != nil {
		return err
	}
	ref := h.Ref()
	err := h.db.Transact(ctx, func(tx backend.Tx) error { return fn(tx, tenantOf(ref)) })
	if err == nil {
		processOf(h.db).wake(ref)
	}
	return h.named(verb, err)
}

// named says what was being done, but for the library's own errors, which do.
func (h handle) named(verb string, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) && e.Code != ErrState.Code { // which does not say of which server
		return err
	}
	return fmt.Errorf("dserver: %s of %v: %w", verb, h.Ref(), err)
}

// readable is an item of the queue as operators see it. One that cannot be read is a message without a name, whose body
// is the item.
func readable(item []byte) (Message, envelope) {
	env, err := decodeEnvelope(item)
	if err != nil || env.Name == "" {
		return Message{Body: bytes.Clone(item)}, envelope{}
	}
	return env.message(), env
}

// dismissal is what has to be written when messages are removed unhandled.
type dismissal struct {
	out       outbox
	envelopes []envelope
	why       *Error
}

// dismiss prepares to tell the callers of messages that are removed unhandled. It only reads.
func dismiss(tx backend.Reader, items []queue.Item, why *Error) (dismissal, error) {
	return dismissTo(tx, items, why, nil)
}

// dismissTo is dismiss where isThere knows of processes that have a record.
func dismissTo(tx backend.Reader, items []queue.Item, why *Error, isThere func(process string) bool) (dismissal, error) {
	d := dismissal{why: why}
	for _, item := range items {
		_, env := readable(item.Body)
		d.envelopes = append(d.envelopes, env)
		d.out.add("", result{work: &work{envelope: env}, err: why}.answers())
	}
	return d, d.out.dropGone(tx, isThere)
}

// write tells them, also those that wait for the outcome of an idempotency key. A timer whose message is removed is
// stopped.
func (d dismissal) write(tx backend.Tx, keys tenant) error {
	var onces onceReads
	for _, env := range d.envelopes {
		onces.start(tx, keys, env)
	}
	for _, env := range d.envelopes {
		if err := keys.stopTimer(tx, env); err != nil {
			return err
		}
		if err := onces.conclude(tx, keys, result{work: &work{envelope: env}, err: d.why}); err != nil {
			return err
		}
	}
	return d.out.write(tx)
}

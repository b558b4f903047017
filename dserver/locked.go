package dserver

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/wire"
)

// lockedHandler is the two functions of HandleLocked.
type lockedHandler struct {
	place string
	typ   reflect.Type
	work  func(ctx *LockedContext, state any, body []byte) (found any, err error)
	apply func(ctx *Context, state any, body []byte, found any) (reply []byte, err error)
}

// LockedContext is one attempt of locked work. It ends when the lock is lost, at WorkLimit, or when the consumer stops, 9
// seconds after the end of Run's context: what work returns before that is applied.
type LockedContext struct {
	context.Context
	self    Ref
	key     string
	attempt int
}

// Self is the locked server. Calling it from its own work is refused: it would wait for itself.
func (c *LockedContext) Self() Ref { return c.self }

// IdempotencyKey is the same in all attempts for one message and differs between messages.
func (c *LockedContext) IdempotencyKey() string { return c.key }

// Attempt is the number of this attempt; the first is 1.
func (c *LockedContext) Attempt() int { return c.attempt }

// HandleLocked handles messages of type M by work outside any transaction, while the server is locked: work gets a
// copy of the state; apply gets the state as it then is and what work returned, in the commit that also unlocks.
// Without a HandleCast for M the lock is taken at once; with one, when it calls Context.Lock.
//
// Work may run more than once, with the same IdempotencyKey: after a failure, and when its process died and another
// consumer took the lock over. The commit of apply happens once. When work returns an *Error, that is its decision, and
// the message ends with it; any other error is tried again with back-off.
func HandleLocked[S, M, T any](
	work func(ctx *LockedContext, s S, m M) (T, error),
	apply func(ctx *Context, s *S, m M, t T) error,
) Part[S] {
	place := caller()
	return part[S](func(d *definition) {
		h := newHandler[M](d, place)
		if _, ok := any(*new(M)).(answered); ok {
			panic(fmt.Sprintf("dserver: %v returns something, so it needs HandleLockedCall, not HandleLocked at %s", h.typ, place))
		}
		d.addLocked(h.name, newLocked(h, work, func(ctx *Context, s *S, m M, t T) ([]byte, error) {
			return nil, apply(ctx, s, m, t)
		}))
	})
}

// HandleLockedCall is HandleLocked for messages with a reply: apply returns it.
func HandleLockedCall[S any, M Request[R], T, R any](
	work func(ctx *LockedContext, s S, m M) (T, error),
	apply func(ctx *Context, s *S, m M, t T) (R, error),
) Part[S] {
	place := caller()
	return part[S](func(d *definition) {
		h := newHandler[M](d, place)
		if err := wire.Of(reflect.TypeFor[R]()).Err(); err != nil {
			panic(fmt.Sprintf("dserver: the reply to %v cannot be sent: %v (handler at %s)", h.typ, err, place))
		}
		d.addLocked(h.name, newLocked(h, work, func(ctx *Context, s *S, m M, t T) ([]byte, error) {
			reply, err := apply(ctx, s, m, t)
			if err != nil {
				return nil, err
			}
			return encodeReply(reply)
		}))
	})
}

func newLocked[S, M, T any](
	h *handler,
	work func(ctx *LockedContext, s S, m M) (T, error),
	apply func(ctx *Context, s *S, m M, t T) ([]byte, error),
) *lockedHandler {
	return &lockedHandler{
		place: h.place, typ: h.typ,
		work: func(ctx *LockedContext, state any, body []byte) (any, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			return work(ctx, *state.(*S), m)
		},
		apply: func(ctx *Context, state any, body []byte, found any) ([]byte, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			t, _ := found.(T) // a nil interface is no T
			return apply(ctx, state.(*S), m, t)
		},
	}
}

func (d *definition) addLocked(name string, l *lockedHandler) {
	if other := d.locked[name]; other != nil {
		panic(fmt.Sprintf("dserver: %q has two HandleLocked for %s, at %s and at %s", d.name, name, other.place, l.place))
	}
	d.locked[name] = l
}

// ending is how one attempt of work ended: with what it found, with a decision, or with a fault. Nothing of the user's
// is called to tell which: an error's methods were called where their panics end.
type ending struct {
	found any
	err   *Error // a decision
	fault *fault
}

// outcomeOf runs work once. It is the one place in which a panic of work, and of its error's methods, ends.
func (l *lockedHandler) outcomeOf(ctx *LockedContext, state any, body []byte) (e ending) {
	defer func() {
		if p := recover(); p != nil {
			e = ending{fault: panicked(p)}
		}
	}()
	found, err := l.work(ctx, state, body)
	return endingOf(found, err)
}

// endingOf says what work's error is. The world outside breaks by returning errors, so only *Error is a decision.
func endingOf(found any, err error) ending {
	var f *fault
	var decision *Error
	switch {
	case err == nil:
		return ending{found: found}
	case errors.As(err, &f) && f != nil:
		return ending{fault: f}
	case errors.As(err, &decision) && decision != nil:
		return ending{err: asError(err)}
	}
	return ending{fault: &fault{Text: truncate(err.Error(), maxErrorText)}}
}

// lockRecord is a lock, beside its fence and its beat. The message is kept apart, as it may be large. Its field names
// are part of the stored format.
type lockRecord struct {
	Name    string        `cbor:"name"`  // of the message
	Stamp   [12]byte      `cbor:"stamp"` // of the message on the queue
	Key     string        `cbor:"key"`   // the idempotency key
	Since   int64         `cbor:"since"` // Unix milliseconds
	Attempt int           `cbor:"attempt"`
	Wait    time.Duration `cbor:"wait,omitempty"` // before the attempt, nanoseconds
	Halted  bool          `cbor:"halted,omitempty"`
}

// lock is what a turn reads of a lock.
type lock struct {
	record lockRecord
	fence  backend.Versionstamp // of the transaction that took it
	beat   string               // changes while its holder lives; vacant when the holder gave it up
}

func (l lock) isHeld() bool { return !l.fence.IsZero() }

const vacant = ""

package dserver

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/internal/wire"
)

// LockedContext is one attempt of locked work. It ends when the lock is lost, at WorkLimit, or when the consumer stops, 9
// seconds after the end of Run's context: what work returns before that is applied.
type LockedContext struct {
	context.Context
	attempt turn.WorkAttempt
}

// Self is the locked server. Calling it from its own work is refused: it would wait for itself.
func (c *LockedContext) Self() Ref { return Ref(c.attempt.Self) }

// IdempotencyKey is the same in all attempts for one message and differs between messages.
func (c *LockedContext) IdempotencyKey() string { return c.attempt.Key }

// Attempt is the number of this attempt; the first is 1.
func (c *LockedContext) Attempt() int { return c.attempt.Number }

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
	return part[S](func(d *turn.Definition) {
		h := newHandler(d, place, reflect.TypeFor[M](), *new(M))
		if _, ok := any(*new(M)).(answered); ok {
			panic(fmt.Sprintf("dserver: %v returns something, so it needs HandleLockedCall, not HandleLocked at %s", h.GoType, place))
		}
		addLocked(d, h.Name, newLocked(h, work, func(ctx *Context, s *S, m M, t T) ([]byte, error) {
			return nil, inert(apply(ctx, s, m, t))
		}))
	})
}

// HandleLockedCall is HandleLocked for messages with a reply: apply returns it.
func HandleLockedCall[S any, M Request[R], T, R any](
	work func(ctx *LockedContext, s S, m M) (T, error),
	apply func(ctx *Context, s *S, m M, t T) (R, error),
) Part[S] {
	place := caller()
	return part[S](func(d *turn.Definition) {
		h := newHandler(d, place, reflect.TypeFor[M](), *new(M))
		if err := wire.Of(reflect.TypeFor[R]()).Err(); err != nil {
			panic(fmt.Sprintf("dserver: the reply to %v cannot be sent: %v (handler at %s)", h.GoType, err, place))
		}
		addLocked(d, h.Name, newLocked(h, work, func(ctx *Context, s *S, m M, t T) ([]byte, error) {
			reply, err := apply(ctx, s, m, t)
			return encodedReply(reply, err)
		}))
	})
}

func newLocked[S, M, T any](
	h *turn.Handler,
	work func(ctx *LockedContext, s S, m M) (T, error),
	apply func(ctx *Context, s *S, m M, t T) ([]byte, error),
) *turn.Locked {
	return &turn.Locked{
		Place: h.Place, GoType: h.GoType,
		Work: func(a *turn.WorkAttempt, state any, body []byte) (any, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			found, err := work(&LockedContext{a.Context, *a}, *state.(*S), m)
			return found, decision(err)
		},
		Apply: func(s *turn.Scope, state any, body []byte, found any) ([]byte, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			t, _ := found.(T) // a nil interface is no T
			return apply(&Context{s}, state.(*S), m, t)
		},
	}
}

func addLocked(d *turn.Definition, name string, l *turn.Locked) {
	if other := d.Locked[name]; other != nil {
		panic(fmt.Sprintf("dserver: %q has two HandleLocked for %s, at %s and at %s", d.Name, name, other.Place, l.Place))
	}
	d.Locked[name] = l
}

// decision is work's error as the rooms below know it: an *Error, and nothing else, is a decision.
func decision(err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e != nil {
		return asError(err)
	}
	return err
}

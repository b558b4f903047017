package dserver

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/internal/wire"
)

// HandleCast handles messages of type M, which have no reply. In a handler s is the current state, its own to change;
// its map fields are never nil. It may run again for the same message, so it touches nothing but s and ctx, and it has 4
// seconds.
//
// When fn returns nil, its changes and what it sent are committed. When it returns an error, they are rolled back: the
// message is a dead letter, or its caller gets the error if it was sent by [DServer.Call]. An error of [Keep] is treated
// likewise, but the changes are committed. When fn panics, or does not return in time, all is rolled back and tried again,
// [Settings].MaxAttempts times; then the message is a dead letter, and a caller gets [ErrFault].
func HandleCast[S, M any](fn func(ctx *Context, s *S, m M) error) Part[S] {
	place := caller()
	return part[S](func(d *turn.Definition) {
		h := newHandler(d, place, reflect.TypeFor[M](), *new(M))
		if _, ok := any(*new(M)).(answered); ok {
			panic(fmt.Sprintf("dserver: %v returns something, so it needs HandleCall, not HandleCast at %s", h.GoType, place))
		}
		h.Run = func(s *turn.Scope, state any, body []byte) ([]byte, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			return nil, inert(fn(&Context{s}, state.(*S), m))
		}
		addHandler(d, d.Handlers, h)
	})
}

// HandleCall handles messages of type M, which are answered with the R that M's Returns[R] says.
// The reply is encoded when fn returns, so it may be a part of the state. A reply that is too large, or that could not be
// read again, is an error, as if fn had returned that error.
func HandleCall[S any, M Request[R], R any](fn func(ctx *Context, s *S, m M) (R, error)) Part[S] {
	place := caller()
	return part[S](func(d *turn.Definition) {
		h := newHandler(d, place, reflect.TypeFor[M](), *new(M))
		h.Replies = true
		if err := wire.Of(reflect.TypeFor[R]()).Err(); err != nil {
			panic(fmt.Sprintf("dserver: the reply to %v cannot be sent: %v (handler at %s)", h.GoType, err, place))
		}
		h.Run = func(s *turn.Scope, state any, body []byte) ([]byte, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			reply, err := fn(&Context{s}, state.(*S), m)
			return encodedReply(reply, err)
		}
		addHandler(d, d.Handlers, h)
	})
}

// HandleInfo handles messages that are sent by Info. They are not queued and not durable, and do not wait for a lock.
func HandleInfo[S, M any](fn func(ctx *Context, s *S, m M) error) Part[S] {
	place := caller()
	return part[S](func(d *turn.Definition) {
		h := newHandler(d, place, reflect.TypeFor[M](), *new(M))
		h.Run = func(s *turn.Scope, state any, body []byte) ([]byte, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			return nil, inert(fn(&Context{s}, state.(*S), m))
		}
		addHandler(d, d.Infos, h)
	})
}

// newHandler checks the type of a message, of which zero is the zero value.
func newHandler(d *turn.Definition, place string, t reflect.Type, zero any) *turn.Handler {
	fail := func(format string, args ...any) {
		panic(fmt.Sprintf("dserver: "+format, args...) + fmt.Sprintf(" (a handler of %q at %s)", d.Name, place))
	}
	switch t.Kind() {
	case reflect.Pointer:
		fail("%v is a pointer: a message is a value", t)
	case reflect.Interface:
		fail("%v is an interface: a message has a type of its own", t)
	}
	k := kindOf(t)
	if err := k.wire.Err(); err != nil {
		fail("the message %v cannot be sent: %v", t, err)
	}
	name, err := k.nameOf(zero)
	if err != nil {
		panic(fmt.Sprintf("%v (a handler of %q at %s)", err, d.Name, place))
	}
	return &turn.Handler{Name: name, GoType: t, Place: place}
}

func addHandler(d *turn.Definition, handlers map[string]*turn.Handler, h *turn.Handler) {
	other := handlers[h.Name]
	switch {
	case other == nil:
		handlers[h.Name] = h
	case other.GoType == h.GoType:
		panic(fmt.Sprintf("dserver: %q has two handlers for %v, at %s and at %s", d.Name, h.GoType, other.Place, h.Place))
	default:
		panic(fmt.Sprintf("dserver: two messages of %q are named %s: %v at %s and %v at %s; give one a MessageName",
			d.Name, h.Name, other.GoType, other.Place, h.GoType, h.Place))
	}
}

// decodeMessage reads a message for a handler. Its error is a fault: somebody else may be able to read it.
func decodeMessage[M any](body []byte) (M, error) {
	var m M
	if err := wire.Decode(body, &m); err != nil {
		return m, undecoded(reflect.TypeFor[M](), err)
	}
	return m, nil
}

// undecoded is the fault of a message that cannot be decoded. Its text is logged, so nothing of the message may stand in
// it: errors of times, and of types of the program's own, quote what they could not read. They are for who reads the
// dead letter, which has the message as well.
func undecoded(t reflect.Type, err error) *turn.Fault {
	f := &turn.Fault{Text: fmt.Sprintf("decode: it is no %v", t), Stack: err.Error()}
	var kind *cbor.UnmarshalTypeError
	var p *wire.Panic
	switch {
	case errors.As(err, &kind):
		f.Text += ": " + kind.Error()
	case errors.As(err, &p):
		f.Text += ": a method of its type panicked"
		f.Stack += "\n" + string(p.Stack)
	default:
		f.Text += ": what says why may quote it, so only its dead letter has that"
	}
	return f
}

// encodedReply is what a handler returned.
func encodedReply(reply any, err error) ([]byte, error) {
	if err != nil {
		return nil, inert(err)
	}
	b, err := encodeReply(reply)
	return b, inert(err)
}

func encodeReply(reply any) ([]byte, error) {
	if reply == nil {
		return nil, errors.New("dserver: nil as a reply: it has no type")
	}
	return encodeValue(wire.Of(reflect.TypeOf(reply)), "the reply", reply)
}

// inert is what a handler returned as an error that the rooms below know. The methods of the program's errors are asked
// here, where their panics are the handler's.
func inert(err error) error {
	if err == nil { // before anything is put on the heap
		return nil
	}
	var f *turn.Fault
	var k *keptError
	var inner *turn.Kept // within an interceptor's
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &k), errors.As(err, &inner):
		return &turn.Kept{Err: asError(err)}
	}
	return asError(err)
}

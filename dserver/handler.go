package dserver

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/internal/wire"
)

// handler runs the function that a definition has for a message.
type handler struct {
	name  string
	place string
	typ   reflect.Type
	call  bool // its reply type is not nothing
	run   func(ctx *Context, state any, body []byte) (reply []byte, err error)
}

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
	return part[S](func(d *definition) {
		h := newHandler[M](d, place)
		if _, ok := any(*new(M)).(answered); ok {
			panic(fmt.Sprintf("dserver: %v returns something, so it needs HandleCall, not HandleCast at %s", h.typ, place))
		}
		h.run = func(ctx *Context, state any, body []byte) ([]byte, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			return nil, fn(ctx, state.(*S), m)
		}
		addHandler(d, d.handlers, h)
	})
}

// HandleCall handles messages of type M, which are answered with the R that M's Returns[R] says.
// The reply is encoded when fn returns, so it may be a part of the state. A reply that is too large, or that could not be
// read again, is an error, as if fn had returned that error.
func HandleCall[S any, M Request[R], R any](fn func(ctx *Context, s *S, m M) (R, error)) Part[S] {
	place := caller()
	return part[S](func(d *definition) {
		h := newHandler[M](d, place)
		h.call = true
		if err := wire.Of(reflect.TypeFor[R]()).Err(); err != nil {
			panic(fmt.Sprintf("dserver: the reply to %v cannot be sent: %v (handler at %s)", h.typ, err, place))
		}
		h.run = func(ctx *Context, state any, body []byte) ([]byte, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			reply, err := fn(ctx, state.(*S), m)
			if err != nil {
				return nil, err
			}
			return encodeReply(reply)
		}
		addHandler(d, d.handlers, h)
	})
}

// HandleInfo handles messages that are sent by Info. They are not queued and not durable, and do not wait for a lock.
func HandleInfo[S, M any](fn func(ctx *Context, s *S, m M) error) Part[S] {
	place := caller()
	return part[S](func(d *definition) {
		h := newHandler[M](d, place)
		h.run = func(ctx *Context, state any, body []byte) ([]byte, error) {
			m, err := decodeMessage[M](body)
			if err != nil {
				return nil, err
			}
			return nil, fn(ctx, state.(*S), m)
		}
		addHandler(d, d.infos, h)
	})
}

// newHandler checks a message's type.
func newHandler[M any](d *definition, place string) *handler {
	t := reflect.TypeFor[M]()
	fail := func(format string, args ...any) {
		panic(fmt.Sprintf("dserver: "+format, args...) + fmt.Sprintf(" (a handler of %q at %s)", d.name, place))
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
	name, err := k.nameOf(*new(M))
	if err != nil {
		panic(fmt.Sprintf("%v (a handler of %q at %s)", err, d.name, place))
	}
	return &handler{name: name, typ: t, place: place}
}

func addHandler(d *definition, handlers map[string]*handler, h *handler) {
	other := handlers[h.name]
	switch {
	case other == nil:
		handlers[h.name] = h
	case other.typ == h.typ:
		panic(fmt.Sprintf("dserver: %q has two handlers for %v, at %s and at %s", d.name, h.typ, other.place, h.place))
	default:
		panic(fmt.Sprintf("dserver: two messages of %q are named %s: %v at %s and %v at %s; give one a MessageName",
			d.name, h.name, other.typ, other.place, h.typ, h.place))
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
func undecoded(t reflect.Type, err error) *fault {
	f := &fault{Text: fmt.Sprintf("decode: it is no %v", t), Stack: err.Error()}
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

func encodeReply(reply any) ([]byte, error) {
	if reply == nil {
		return nil, errors.New("dserver: nil as a reply: it has no type")
	}
	return encodeValue(wire.Of(reflect.TypeOf(reply)), "the reply", reply)
}

// fault is a failure that is no decision of the handler: the message is tried again.
type fault struct {
	Text  string
	Stack string
	hangs bool // Stack is of a goroutine that has not returned: nothing of the message is in it
	halts bool // it was the last attempt, and the server stops
}

func (f *fault) Error() string { return f.Text }

// hung is where something has not returned. Other stacks may quote the message, so they are for its dead letter alone.
func (f *fault) hung() string {
	if f.hangs {
		return f.Stack
	}
	return ""
}

func panicked(p any) *fault {
	return &fault{Text: fmt.Sprintf("panic: %v", p), Stack: string(debug.Stack())}
}

// invoke runs one handler, and makes a fault of its panic. No method of the error that it returns is the program's: they
// are asked here, where they may panic.
func invoke(h *handler, ctx *Context, state any, body []byte) (reply []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, panicked(p)
		}
	}()
	reply, err = h.run(ctx, state, body)
	return reply, inert(err)
}

// inert is err as an error of the library's own.
func inert(err error) error {
	var f *fault
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case isKept(err):
		return &kept{asError(err)}
	}
	return asError(err)
}

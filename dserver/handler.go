package dserver

import (
	"fmt"
	"reflect"
	"runtime/debug"
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
// The reply is encoded when fn returns, so it may be a part of the state.
func HandleCall[S any, M Request[R], R any](fn func(ctx *Context, s *S, m M) (R, error)) Part[S] {
	place := caller()
	return part[S](func(d *definition) {
		h := newHandler[M](d, place)
		h.call = true
		if err := checkStorable(reflect.TypeFor[R]()); err != nil {
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

// HandleInfo handles messages that are sent by Info: not queued, not durable, past the lock.
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
	if err := checkStorable(t); err != nil {
		fail("the message %v cannot be sent: %v", t, err)
	}
	name, err := messageName(t, *new(M))
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
	if err := decoder.Unmarshal(body, &m); err != nil {
		return m, &fault{Text: fmt.Sprintf("decode: %v", err)}
	}
	return m, nil
}

func encodeReply(reply any) ([]byte, error) {
	b, err := encoder.Marshal(reply)
	if err != nil {
		return nil, fmt.Errorf("encode the reply: %w", err)
	}
	return b, checkSize("the reply", b)
}

// fault is a failure that is no decision of the handler: the message is tried again.
type fault struct {
	Text  string
	Stack string
	later bool // another consumer may be able to: wait long
	halts bool // it was the last attempt, and the server stops
}

func (f *fault) Error() string { return f.Text }

func panicked(p any) *fault {
	return &fault{Text: fmt.Sprintf("panic: %v", p), Stack: string(debug.Stack())}
}

// invoke runs one handler, and makes a fault of its panic.
func invoke(h *handler, ctx *Context, state any, body []byte) (reply []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, panicked(p)
		}
	}()
	return h.run(ctx, state, body)
}

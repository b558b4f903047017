package dserver

import (
	"context"
	"errors"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// intercepted is a database with interceptors. What is asked of it as a store is asked of the one inside.
type intercepted struct {
	backend.Database
	hooks *hooks
}

var _ backend.Reporter = (*intercepted)(nil)

// Report implements [backend.Reporter] as the database inside does, if it does.
func (i *intercepted) Report(to func(what error)) (stop func()) {
	if r, ok := i.Database.(backend.Reporter); ok {
		return r.Report(to)
	}
	return func() {}
}

// inside is the database itself, by which a process knows it, and the interceptors that it was given; nil for none.
func inside(db backend.Database) (backend.Database, *hooks) {
	if i, ok := db.(*intercepted); ok {
		return i.Database, i.hooks
	}
	return db, nil
}

// plain is the database itself.
func plain(db backend.Database) backend.Database {
	inner, _ := inside(db)
	return inner
}

// hooks is interceptors as the rooms below ask them: each of their kinds made one function, nil where nobody has one.
type hooks struct {
	all     []Interceptor
	send    around[*Send]
	handle  around[*Handling]
	work    around[*Handling]
	sent    []func(Sent)
	turned  []func(*Turn)
	enabled []func(context.Context) bool // of those with functions that run around something; nil: one of them always does
}

// around is a function of an interceptor.
type around[T any] func(ctx context.Context, about T, next func(context.Context) error) error

func newHooks(all []Interceptor) *hooks {
	h := &hooks{all: all}
	var sends []around[*Send]
	var handles, works []around[*Handling]
	for _, i := range all {
		sends, handles, works = with(sends, i.Send), with(handles, i.Handle), with(works, i.Work)
		if i.Sent != nil {
			h.sent = append(h.sent, i.Sent)
		}
		if i.Turned != nil {
			h.turned = append(h.turned, i.Turned)
		}
	}
	h.send, h.handle, h.work = chained(sends), chained(handles), chained(works)
	h.enabled = enabledOf(all)
	return h
}

func with[T any](list []around[T], one around[T]) []around[T] {
	if one == nil {
		return list
	}
	return append(list, one)
}

// enabledOf is what to ask before anything runs around a send or a handler; nil when that is not to be asked.
func enabledOf(all []Interceptor) (enabled []func(context.Context) bool) {
	for _, i := range all {
		switch runs := i.Send != nil || i.Handle != nil || i.Work != nil; {
		case runs && i.Enabled == nil:
			return nil
		case runs:
			enabled = append(enabled, i.Enabled)
		}
	}
	return enabled
}

// wanted reports whether a function of the interceptors is to run around something that has these headers.
func (h *hooks) wanted(ctx context.Context, head tenant.Headers) bool {
	if h.enabled == nil || len(head) > 0 {
		return true
	}
	for _, isEnabled := range h.enabled {
		if isEnabled(ctx) {
			return true
		}
	}
	return false
}

// chained is functions within each other, the first outermost.
func chained[T any](list []around[T]) around[T] {
	if len(list) < 2 {
		return append(list, nil)[0]
	}
	outer, inner := list[0], chained(list[1:])
	return func(ctx context.Context, about T, next func(context.Context) error) error {
		return outer(ctx, about, func(ctx context.Context) error { return inner(ctx, about, next) })
	}
}

// asHooks is nil where there are none.
func (h *hooks) asHooks() turn.Hooks {
	if h == nil {
		return nil
	}
	return h
}

// hooksOf is the interceptors that a handle or a turn was given, when one of them is around sends or told of them; else nil.
func hooksOf(given turn.Hooks) *hooks {
	if h, ok := given.(*hooks); ok && (h.send != nil || h.sent != nil) {
		return h
	}
	return nil
}

var (
	errNotSent   = errors.New("dserver: nothing was sent: an interceptor neither called next nor returned an error")
	errSentTwice = errors.New("dserver: an interceptor called next twice, or when it had returned")
)

// outgoing is a send through interceptors, made for each.
type outgoing struct {
	Send
	do     func(ctx context.Context, head tenant.Headers) error // what next does
	called bool
	failed error // what next returned
}

// through sends by the interceptors.
func (h *hooks) through(ctx context.Context, s *outgoing) error {
	err := h.send(ctx, &s.Send, s.next)
	called := s.called
	s.called = true
	switch {
	case err == nil && s.failed != nil: // nobody is told that something was sent that was not
		return s.failed
	case err == nil && !called:
		return errNotSent
	}
	return err
}

// next is what the interceptors call.
func (s *outgoing) next(ctx context.Context) error {
	if s.called {
		return errSentTwice
	}
	s.called = true
	head, err := s.made()
	if err == nil {
		err = s.do(ctx, head)
	}
	s.failed = err
	return err
}

var errOtherContext = errors.New("dserver: an interceptor called next with a context that was not made of the one it was given")

// handling is a handler within interceptors, made for each message.
type handling struct {
	Handling
	scope   *turn.Scope
	handler *turn.Around
}

// Handles is part of turn.Hooks.
func (h *hooks) Handles(s *turn.Scope) bool {
	return h.handle != nil && h.wanted(s.Base(), s.Message().Envelope.Head)
}

// Handle is part of turn.Hooks.
func (h *hooks) Handle(s *turn.Scope, handler *turn.Around) error {
	about := &handling{handlingOf(Ref(s.Self()), s.Message()), s, handler}
	about.Run = s.Run()
	return inert(h.handle(s.Context(), &about.Handling, about.next))
}

// next is what the interceptors call.
func (h *handling) next(ctx context.Context) error {
	if !h.scope.Carry(ctx) {
		return errOtherContext
	}
	return outward(h.handler.Run())
}

// Work is part of turn.Hooks.
func (h *hooks) Work(a *turn.WorkAttempt, work *turn.Around) error {
	if h.work == nil || !h.wanted(a.Context, a.Message.Head) {
		return work.Run()
	}
	about := Handling{
		Server: Ref(a.Self), Message: a.Message.Name, Stamp: a.Stamp, Sent: sentAt(&a.Message), Attempt: a.Number, Run: 1,
		Call: a.Message.From != "", Timer: a.Message.Timer, headers: a.Message.Head,
	}
	return decision(h.work(a.Context, &about, func(ctx context.Context) error {
		a.Context = ctx
		return outward(work.Run())
	}))
}

// Turned is part of turn.Hooks.
func (h *hooks) Turned(r turn.Report) {
	if h.turned == nil {
		return
	}
	t := Turn{
		Server: Ref(r.Server), Began: r.Began, Conflicts: r.Conflicts, Handlers: r.Handlers, Commit: r.Commit, Cached: r.Cached,
		TookOver: r.TookOver, Err: public(r.Err), Messages: make([]Handled, len(r.Messages)),
	}
	for i, m := range r.Messages {
		t.Messages[i] = Handled{
			Handling: handlingOf(t.Server, m.Work), Err: (*Error)(m.Err), Faulted: m.Faulted, DeadLetter: m.DeadLetter, Locks: m.Locks,
			Took: m.Took,
		}
	}
	for _, told := range h.turned {
		told(&t)
	}
}

func handlingOf(server Ref, w *turn.Work) Handling {
	e := &w.Envelope
	return Handling{
		Server: server, Message: e.Name, Stamp: stampOf(w), Sent: sentAt(e), Attempt: w.Attempt, Call: w.IsCall(),
		Info: w.Arrival != nil && w.Arrival.Info, Timer: e.Timer, Apply: w.Released != nil, headers: e.Head,
	}
}

// outward is an error of a handler, or of work, as interceptors see it.
func outward(err error) error {
	if err == nil {
		return nil
	}
	var f *turn.Fault
	if errors.As(err, &f) {
		return &chain{err, &Error{Code: ErrFault.Code, Text: f.Text}}
	}
	return public(err)
}

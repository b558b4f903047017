package dserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/internal/consumer"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/wire"
)

// DServer is a handle to one server: a value without a process, safe for concurrent use. It is not for handlers, whose
// Context.Cast is part of their commit: its methods refuse a context that comes from Context.Context.
// Messages and replies are encoded at once, so what was passed may be changed as soon as a method returns.
type DServer[S any] struct{ handle }

// handle is all of a DServer that does not depend on the type of its state: it is compiled once, and not for each such type.
type handle struct{ at consumer.Handle }

// Ref is the server's name.
func (s *handle) Ref() Ref { return Ref(s.at.Ref) }

// Cast sends m. When it returns nil, m is durable and will take effect once, after every message to this server that was
// acknowledged before. A definition that has handlers refuses a message without one (ErrNoHandler). When Cast returns an
// error, m was not sent, with one exception: after backend.ErrCommitUnknown (ctx ended during the commit) that is not
// known. Where this may happen, send with Once, so that m can be sent again. Where the definition has Settings.MaxQueued,
// Cast does not wait for room: it is ErrQueueFull, and may be tried again after a pause.
func (s *handle) Cast(ctx context.Context, m any, opts ...Option) error {
	message, how, err := s.prepare(ctx, "Cast", m, opts)
	if err != nil {
		return err
	}
	if h := hooksOf(s.at.Hooks); h != nil {
		return s.castThrough(ctx, h, message, how)
	}
	return public(s.at.Cast(ctx, message, how))
}

// CastAll sends messages in one commit, in order, with nothing in between. Once gives the batch one key: all of it is new,
// or none. Of a queue with a bound (Settings.MaxQueued) the batch needs one free place: it is sent whole, or it is
// ErrQueueFull and nothing was sent.
func (s *handle) CastAll(ctx context.Context, ms []any, opts ...Option) error {
	messages := make([]tenant.Message, len(ms))
	var how tenant.How
	for i, m := range ms {
		message, options, err := s.prepare(ctx, "CastAll", m, opts)
		if err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, len(ms), err)
		}
		how, messages[i] = options, message
	}
	if h := hooksOf(s.at.Hooks); h != nil && len(messages) > 0 {
		return s.castAllThrough(ctx, h, messages, how)
	}
	return public(s.at.CastAll(ctx, messages, how))
}

// Call sends m and waits until it has taken effect, durably. Then it decodes the answer into reply, a pointer, or drops it
// when reply is nil. Any message can be called, one without a reply too, for which reply is nil. What the handler returned
// as error comes back as *Error.
//
// Call waits for as long as ctx lasts. When ctx ends, m is not withdrawn and may yet take effect. Where that may happen,
// send with Once, so that the same call can be made again. Without a consumer and without a deadline Call waits for ever.
// If no process was seen that runs the type, the error at the deadline says so. When the queue is full
// (Settings.MaxQueued), Call does not wait but is ErrQueueFull, and nothing was sent.
func (s *handle) Call(ctx context.Context, m, reply any, opts ...Option) error {
	message, how, err := s.prepare(ctx, "Call", m, opts)
	if err != nil {
		return err
	}
	if reply != nil && s.at.Def.HasNoReply(message.Name) {
		return fmt.Errorf("dserver: nothing was sent: %s has no reply: call it with nil for one", message.Name)
	}
	body, err := s.call(ctx, message, how)
	switch {
	case err != nil || reply == nil:
		return err
	case body == nil:
		return public(tenant.Because(tenant.ErrNoReply, "%v has handled %s, which has no reply: call it with nil for one", s.Ref(), message.Name))
	}
	if err := wire.Decode(body, reply); err != nil {
		return fmt.Errorf("dserver: decode the reply of %v, which has handled %s: %w", s.Ref(), message.Name, err)
	}
	return nil
}

// Call is DServer.Call with the reply's type inferred from m.
func Call[S, R any](ctx context.Context, s *DServer[S], m Request[R], opts ...Option) (R, error) {
	var reply R
	err := s.Call(ctx, m, &reply, opts...)
	return reply, err
}

// prepare checks what can be checked before anything is sent.
func (s *handle) prepare(ctx context.Context, verb string, m any, opts []Option) (tenant.Message, tenant.How, error) {
	how, err := options(opts)
	if err != nil {
		return tenant.Message{}, how, err
	}
	if how.Headers, err = outright(how.Headers); err != nil {
		return tenant.Message{}, how, err
	}
	message, err := s.encode(ctx, verb, m)
	if err != nil {
		return tenant.Message{}, how, err
	}
	return message, how, public(s.at.Def.Accepts(message.Name))
}

func (s *handle) encode(ctx context.Context, verb string, m any) (tenant.Message, error) {
	if err := s.check(ctx, verb); err != nil {
		return tenant.Message{}, err
	}
	return encodeMessage(m)
}

// check is what a handle needs to be of use.
func (s *handle) check(ctx context.Context, verb string) error {
	if err := refuseTurn(ctx, verb); err != nil {
		return err
	}
	if s.at.DB == nil {
		return fmt.Errorf("dserver: the handle of %v has no database", s.Ref())
	}
	return s.at.Ref.Check()
}

// Info runs m's HandleInfo in a turn of its own, at once and in this process: it waits neither for the queue nor for a
// lock, and needs no consumer. When it returns nil, the change is durable. When this process dies before that commit,
// the message never was (at most once). An error of the handler comes back as *Error, and its changes are rolled back,
// unless it is an error of Keep. The handle's definition must have the handler (ErrNoHandler). Options other than Header are
// refused.
func (s *handle) Info(ctx context.Context, m any, opts ...Option) error {
	how, err := options(opts)
	if err == nil && !how.IsPlain() {
		err = errors.New("dserver: Info takes no option but Header: its message is not queued")
	}
	if err == nil {
		how.Headers, err = outright(how.Headers)
	}
	if err != nil {
		return err
	}
	message, err := s.encode(ctx, "Info", m)
	if err != nil {
		return err
	}
	if h := hooksOf(s.at.Hooks); h != nil {
		return s.infoThrough(ctx, h, message, how)
	}
	return public(s.at.Info(ctx, message, how.Headers))
}

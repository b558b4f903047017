package dserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// DServer is a handle to one server: a value without a process, safe for concurrent use. It is for outside of handlers
// (there, Context.Cast is part of the commit): its methods refuse a context that comes from Context.Context.
// Messages and replies are encoded at once, so what was passed may be changed as soon as a method returns.
type DServer[S any] struct{ handle }

// handle is a DServer without its type parameter.
type handle struct {
	db  backend.Database
	def *definition
	id  string
}

// Ref is the server's name.
func (h handle) Ref() Ref { return Ref{h.def.name, h.id} }

// Cast sends m. When it returns nil, m is durable and will take effect once, after all that were sent before it
// returned. A definition that has handlers refuses a message without one (ErrNoHandler). When it returns an error m
// was not sent, but for backend.ErrCommitUnknown (ctx ended during the commit).
func (s *DServer[S]) Cast(ctx context.Context, m any) error {
	message, err := s.prepare(ctx, "Cast", m)
	if err != nil {
		return err
	}
	if out := s.inline(ctx, message, false); !out.declined {
		return out.err
	}
	return s.push(ctx, newEnvelope(message, ""))
}

// CastAll sends messages as one atomic push, in order, with nothing in between.
func (s *DServer[S]) CastAll(ctx context.Context, ms []any) error {
	envelopes := make([]envelope, len(ms))
	for i, m := range ms {
		message, err := s.prepare(ctx, "CastAll", m)
		if err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, len(ms), err)
		}
		envelopes[i] = newEnvelope(message, "")
	}
	if len(ms) == 0 {
		return nil
	}
	return s.push(ctx, envelopes...)
}

// Call sends m and waits until it has taken effect, durably; then it decodes the answer into reply, a pointer, or
// drops it when reply is nil. Any message can be called, one without a reply too. What the handler returned as error
// comes back as *Error. The wait is as long as ctx: when it ends, m is not withdrawn and may yet take effect.
// Without a consumer and a deadline it waits for ever.
func (s *DServer[S]) Call(ctx context.Context, m, reply any) error {
	body, err := s.call(ctx, m)
	if err != nil || reply == nil || body == nil {
		return err
	}
	if err := decoder.Unmarshal(body, reply); err != nil {
		return fmt.Errorf("dserver: decode the reply of %v: %w", s.Ref(), err)
	}
	return nil
}

// Call is DServer.Call with the reply's type inferred from m.
func Call[S, R any](ctx context.Context, s *DServer[S], m Request[R]) (R, error) {
	var reply R
	err := s.Call(ctx, m, &reply)
	return reply, err
}

// prepare checks what can be checked before anything is sent.
func (h handle) prepare(ctx context.Context, verb string, m any) (Message, error) {
	if err := h.check(ctx, verb); err != nil {
		return Message{}, err
	}
	message, err := encodeMessage(m)
	if err != nil {
		return Message{}, err
	}
	return message, h.def.accepts(message.Name)
}

// inline lets the message join a turn of this process, when a consumer of it runs the type.
func (h handle) inline(ctx context.Context, m Message, call bool) outcome {
	c := processOf(h.db).consumerOf(h.def.name)
	if c == nil || len(m.Body) > maxLocalBytes {
		return outcome{declined: true}
	}
	if err := ctx.Err(); err != nil {
		return outcome{err: fmt.Errorf("dserver: %s was not sent: %w", m.Name, err)}
	}
	a := newArrival(m, call)
	s := c.offer(h.Ref(), a)
	if s == nil {
		return outcome{declined: true}
	}
	return c.await(ctx, s, a)
}

func (h handle) call(ctx context.Context, m any) ([]byte, error) {
	message, err := h.prepare(ctx, "Call", m)
	if err != nil {
		return nil, err
	}
	if out := h.inline(ctx, message, true); !out.declined {
		return out.reply, out.err
	}
	return h.callQueued(ctx, message)
}

// callQueued pushes the call and waits for its answer in the mailbox of this process.
func (h handle) callQueued(ctx context.Context, m Message) ([]byte, error) {
	p, release := acquireProcess(h.db)
	defer release()
	call := p.expect()
	defer p.forget(call)
	a := p.announce()
	err := h.pushWith(ctx, a.write, []envelope{newEnvelope(m, address(p.id, call.number))})
	a.ended(err)
	if err != nil {
		return nil, err
	}
	d, err := p.await(ctx, call)
	if err != nil {
		return nil, fmt.Errorf("dserver: call %s of %v: %w", m.Name, h.Ref(), err)
	}
	return d.reply, d.err
}

// push appends messages to the queue, in one commit with all that makes them found: the ready mark and the bell.
func (h handle) push(ctx context.Context, envelopes ...envelope) error {
	return h.pushWith(ctx, func(backend.Tx) {}, envelopes)
}

// pushWith is push with further writes.
func (h handle) pushWith(ctx context.Context, also func(tx backend.Tx), envelopes []envelope) error {
	items := make([][]byte, len(envelopes))
	for i, e := range envelopes {
		item, err := e.encode()
		if err != nil {
			return err
		}
		items[i] = item
	}
	ref := h.Ref()
	err := h.db.Transact(ctx, func(tx backend.Tx) error {
		if err := tenantOf(ref).queue().Push(tx, queue.Normal, items...); err != nil {
			return err
		}
		setReady(tx, ref)
		also(tx)
		return nil
	})
	if err != nil {
		return h.pushError(ctx, err)
	}
	processOf(h.db).wake(ref)
	return nil
}

func (h handle) pushError(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, backend.ErrCommitUnknown) {
		return fmt.Errorf("dserver: nothing was sent to %v: %w", h.Ref(), err)
	}
	return fmt.Errorf("dserver: send to %v: %w", h.Ref(), err)
}

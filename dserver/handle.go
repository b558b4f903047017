package dserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/wire"
)

// DServer is a handle to one server: a value without a process, safe for concurrent use. It is not for handlers, whose
// Context.Cast is part of their commit: its methods refuse a context that comes from Context.Context.
// Messages and replies are encoded at once, so what was passed may be changed as soon as a method returns.
type DServer[S any] struct{ handle }

// handle is a DServer without its type parameter.
type handle struct {
	db  backend.Database
	def *definition
	id  string
}

// Ref is the server's name.
func (s *DServer[S]) Ref() Ref { return s.handle.Ref() }

func (h handle) Ref() Ref { return Ref{h.def.name, h.id} }

// Cast sends m. When it returns nil, m is durable and will take effect once, after every message to this server that was
// acknowledged before. A definition that has handlers refuses a message without one (ErrNoHandler). When Cast returns an
// error, m was not sent, with one exception: after backend.ErrCommitUnknown (ctx ended during the commit) that is not
// known. Where this may happen, send with Once, so that m can be sent again.
func (s *DServer[S]) Cast(ctx context.Context, m any, opts ...Option) error {
	message, how, err := s.prepare(ctx, "Cast", m, opts)
	if err != nil {
		return err
	}
	if how.isPlain() {
		if out := s.inline(ctx, message, false); !out.declined {
			return out.err
		}
	}
	_, err = s.push(ctx, how, newEnvelope(message, ""))
	return err
}

// CastAll sends messages in one commit, in order, with nothing in between. Once gives the batch one key: all of it is new,
// or none.
func (s *DServer[S]) CastAll(ctx context.Context, ms []any, opts ...Option) error {
	envelopes := make([]envelope, len(ms))
	var how sending
	for i, m := range ms {
		message, options, err := s.prepare(ctx, "CastAll", m, opts)
		if err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, len(ms), err)
		}
		how, envelopes[i] = options, newEnvelope(message, "")
	}
	if len(ms) == 0 {
		return nil
	}
	_, err := s.push(ctx, how, envelopes...)
	return err
}

// Call sends m and waits until it has taken effect, durably. Then it decodes the answer into reply, a pointer, or drops it
// when reply is nil. Any message can be called, one without a reply too, for which reply is nil. What the handler returned
// as error comes back as *Error.
//
// Call waits for as long as ctx lasts. When ctx ends, m is not withdrawn and may yet take effect. Where that may happen,
// send with Once, so that the same call can be made again. Without a consumer and without a deadline Call waits for ever.
// If no process was seen that runs the type, the error at the deadline says so.
func (s *DServer[S]) Call(ctx context.Context, m, reply any, opts ...Option) error {
	message, how, err := s.prepare(ctx, "Call", m, opts)
	if err != nil {
		return err
	}
	if reply != nil && s.def.hasNoReply(message.Name) {
		return fmt.Errorf("dserver: nothing was sent: %s has no reply: call it with nil for one", message.Name)
	}
	body, err := s.call(ctx, message, how)
	switch {
	case err != nil || reply == nil:
		return err
	case body == nil:
		return fmt.Errorf("dserver: %v has handled %s, which has no reply: call it with nil for one", s.Ref(), message.Name)
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
func (h handle) prepare(ctx context.Context, verb string, m any, opts []Option) (Message, sending, error) {
	how, err := options(opts)
	if err != nil {
		return Message{}, how, err
	}
	message, err := h.encode(ctx, verb, m)
	if err != nil {
		return Message{}, how, err
	}
	return message, how, h.def.accepts(message.Name)
}

func (h handle) encode(ctx context.Context, verb string, m any) (Message, error) {
	if err := h.check(ctx, verb); err != nil {
		return Message{}, err
	}
	return encodeMessage(m)
}

// inline lets the message join a turn of this process, when a consumer of it runs the type. A worker runs it, never the
// sender's goroutine: a handler may not return, and may end its goroutine, and neither may become its sender's.
func (h handle) inline(ctx context.Context, m Message, call bool) outcome {
	c := processOf(h.db).consumerOf(h.def.name)
	if c == nil || len(m.Body) > maxLocalBytes || c.types[h.def.name].def.locked[m.Name] != nil {
		return outcome{declined: true}
	}
	if err := ctx.Err(); err != nil {
		return outcome{err: fmt.Errorf("dserver: %s was not sent: %w", m.Name, err)}
	}
	if isTaken, err := c.takes(ctx, h.def.name, m.Name, call); err != nil || !isTaken {
		return outcome{declined: err == nil, err: err}
	}
	a := newArrival(m, call)
	if !c.offer(h.Ref(), a) {
		return outcome{declined: true}
	}
	return c.await(ctx, a)
}

func (h handle) call(ctx context.Context, message Message, how sending) ([]byte, error) {
	if err := h.checkSelf(ctx, how); err != nil {
		return nil, err
	}
	if how.isPlain() {
		if out := h.inline(ctx, message, true); !out.declined {
			return out.reply, out.err
		}
	}
	return h.callQueued(ctx, message, how)
}

// callQueued pushes the call and waits for its answer in the mailbox of this process.
func (h handle) callQueued(ctx context.Context, m Message, how sending) ([]byte, error) {
	p, release := acquireProcess(h.db)
	defer release()
	if err := h.checkHandler(p); err != nil {
		return nil, err
	}
	call := p.expect(h.Ref())
	defer p.forget(call)
	a := p.announce(call)
	known, err := h.pushWith(ctx, a.write, how, newEnvelope(m, address(p.id, call.secret)))
	a.ended(err)
	if err != nil {
		return nil, err
	}
	if known != nil {
		return h.awaitOnce(ctx, p, how.once, known.Word)
	}
	d, err := p.await(ctx, call)
	if err != nil && errors.Is(err, ctx.Err()) {
		return nil, fmt.Errorf("dserver: %v has not answered %s%s: %w", h.Ref(), m.Name, h.absence(ctx, p), err)
	}
	if err != nil {
		return nil, fmt.Errorf("dserver: call %s of %v: %w", m.Name, h.Ref(), err)
	}
	return d.reply, d.err
}

// absence is what to add to the error of a call whose time is over. Who gives up by hand is not kept waiting for it.
func (h handle) absence(ctx context.Context, p *process) string {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ""
	}
	if text := p.absence(h.def.name); text != "" {
		return text
	}
	return h.blindness()
}

// push appends messages to the queue, in one commit with all that makes them found. It returns what is known of their
// idempotency key when that was sent before, and then sends nothing.
func (h handle) push(ctx context.Context, how sending, envelopes ...envelope) (*onceRecord, error) {
	return h.pushWith(ctx, func(backend.Tx) error { return nil }, how, envelopes...)
}

// pushWith is push with further writes.
func (h handle) pushWith(ctx context.Context, also func(tx backend.Tx) error, how sending, envelopes ...envelope) (*onceRecord, error) {
	p := newParcel(h.Ref(), how, envelopes...)
	err := h.db.Transact(ctx, func(tx backend.Tx) error {
		p.look(tx)
		if err := p.write(tx); err != nil {
			return err
		}
		return also(tx)
	})
	if err != nil {
		return nil, h.pushError(ctx, err)
	}
	processOf(h.db).wake(h.Ref())
	return p.known, nil
}

func (h handle) pushError(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, backend.ErrCommitUnknown) {
		return fmt.Errorf("dserver: nothing was sent to %v: %w", h.Ref(), err)
	}
	return fmt.Errorf("dserver: send to %v: %w", h.Ref(), err)
}

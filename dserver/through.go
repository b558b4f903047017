package dserver

import (
	"context"

	"github.com/dserver-go/dserver/internal/tenant"
)

// What handles send through interceptors. It stands apart, so that without any nothing is made for them: no function below
// keeps the handle, which so need not be on the heap.

// sending is what interceptors see of a send.
func (s *DServer[S]) sending(verb string, m tenant.Message, how tenant.How) *Send {
	return &Send{To: s.Ref(), Verb: verb, Message: m.Name, Count: 1, After: max(0, how.After), headers: how.Headers}
}

func (s *DServer[S]) castThrough(ctx context.Context, h *hooks, m tenant.Message, how tenant.How) error {
	at := s.at
	return h.through(ctx, s.sending("Cast", m, how), func(ctx context.Context, head tenant.Headers) error {
		how.Headers = head
		return public(at.Cast(ctx, m, how))
	})
}

func (s *DServer[S]) castAllThrough(ctx context.Context, h *hooks, ms []tenant.Message, how tenant.How) error {
	at, about := s.at, s.sending("CastAll", ms[0], how)
	about.Count = len(ms)
	return h.through(ctx, about, func(ctx context.Context, head tenant.Headers) error {
		how.Headers = head
		return public(at.CastAll(ctx, ms, how))
	})
}

func (s *DServer[S]) call(ctx context.Context, m tenant.Message, how tenant.How) ([]byte, error) {
	if h := hooksOf(s.at.Hooks); h != nil {
		return s.callThrough(ctx, h, m, how)
	}
	reply, err := s.at.Call(ctx, m, how)
	return reply, public(err)
}

func (s *DServer[S]) callThrough(ctx context.Context, h *hooks, m tenant.Message, how tenant.How) (reply []byte, err error) {
	at := s.at
	err = h.through(ctx, s.sending("Call", m, how), func(ctx context.Context, head tenant.Headers) (err error) {
		how.Headers = head
		reply, err = at.Call(ctx, m, how)
		return public(err)
	})
	return reply, err
}

func (s *DServer[S]) infoThrough(ctx context.Context, h *hooks, m tenant.Message, how tenant.How) error {
	at := s.at
	return h.through(ctx, s.sending("Info", m, how), func(ctx context.Context, head tenant.Headers) error {
		return public(at.Info(ctx, m, head))
	})
}

// castThrough sends from a handler.
func (c *Context) castThrough(h *hooks, to Ref, m tenant.Message, how tenant.How) {
	about := &Send{To: to, Verb: "Cast", Message: m.Name, Count: 1, After: max(0, how.After), From: c.Self(), headers: how.Headers}
	c.sendThrough(h, about, func(head tenant.Headers) {
		how.Headers = head
		c.scope.Send(tenant.NewParcel(tenant.Ref(to), how, tenant.NewEnvelope(m, "")))
	})
}

func (c *Context) sendThrough(h *hooks, about *Send, send func(head tenant.Headers)) {
	err := h.through(c.Context(), about, func(_ context.Context, head tenant.Headers) error {
		send(head)
		return nil
	})
	if err != nil {
		c.scope.Fail(err)
	}
}

package dserver

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
)

// What handles send through interceptors. It stands apart, so that without any nothing is made for them: no function below
// keeps the handle, which so need not be on the heap.

// about is what interceptors see of a send.
func about(to, from Ref, verb string, m tenant.Message, how tenant.How) Send {
	return Send{To: to, From: from, Verb: verb, Message: m.Name, Count: 1, After: max(0, how.After), headers: how.Headers}
}

func (s *DServer[S]) castThrough(ctx context.Context, h *hooks, m tenant.Message, how tenant.How) error {
	at := s.at
	return h.through(ctx, &outgoing{Send: about(s.Ref(), Ref{}, "Cast", m, how), do: func(ctx context.Context, head tenant.Headers) error {
		return public(at.Cast(ctx, m, how.With(head)))
	}})
}

func (s *DServer[S]) castAllThrough(ctx context.Context, h *hooks, ms []tenant.Message, how tenant.How) error {
	at, about := s.at, about(s.Ref(), Ref{}, "CastAll", ms[0], how)
	about.Count = len(ms)
	return h.through(ctx, &outgoing{Send: about, do: func(ctx context.Context, head tenant.Headers) error {
		return public(at.CastAll(ctx, ms, how.With(head)))
	}})
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
	err = h.through(ctx, &outgoing{Send: about(s.Ref(), Ref{}, "Call", m, how), do: func(ctx context.Context, head tenant.Headers) (err error) {
		reply, err = at.Call(ctx, m, how.With(head))
		return public(err)
	}})
	return reply, err
}

func (s *DServer[S]) infoThrough(ctx context.Context, h *hooks, m tenant.Message, how tenant.How) error {
	at := s.at
	return h.through(ctx, &outgoing{Send: about(s.Ref(), Ref{}, "Info", m, how), do: func(ctx context.Context, head tenant.Headers) error {
		return public(at.Info(ctx, m, head))
	}})
}

// castThrough sends from a handler.
func (c *Context) castThrough(h *hooks, to Ref, m tenant.Message, how tenant.How) {
	c.sendThrough(h, about(to, c.Self(), "Cast", m, how), func(head tenant.Headers) {
		c.scope.Send(tenant.NewParcel(tenant.Ref(to), how.With(head), tenant.NewEnvelope(m, "")))
	})
}

func (c *Context) setTimerThrough(h *hooks, name string, d time.Duration, m tenant.Message, how tenant.How) {
	about := about(c.Self(), c.Self(), "SetTimer", m, how)
	about.After = d
	c.sendThrough(h, about, func(head tenant.Headers) { c.scope.SetTimer(name, d, m, how.With(head)) })
}

func (c *Context) sendThrough(h *hooks, about Send, send func(head tenant.Headers)) {
	err := h.through(c.Context(), &outgoing{Send: about, do: func(_ context.Context, head tenant.Headers) error {
		send(head)
		return nil
	}})
	if err != nil {
		c.scope.Fail(err)
	}
}

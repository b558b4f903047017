package dserver

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
)

// What handles send where there are interceptors. It stands apart, so that without any nothing is made for them: no function
// below keeps the handle, which so need not be on the heap. Nor is anything made where interceptors are told of sends, and none
// runs around them.

// about is what interceptors see of a send.
func about(to, from Ref, verb string, m tenant.Message, how tenant.How) Send {
	return Send{To: to, From: from, Verb: verb, Message: m.Name, Count: 1, After: max(0, how.After), headers: how.Headers}
}

// sends reports whether interceptors run around a send.
func (h *hooks) sends(ctx context.Context, s *Send) bool {
	return h.send != nil && h.wanted(ctx, s.headers)
}

// over tells that a send is over, which began at a moment.
func (h *hooks) over(s Send, began time.Time, err error) {
	if h.sent == nil {
		return
	}
	sent := Sent{Send: s, Err: err}
	if s.From == (Ref{}) {
		sent.Took = time.Since(began)
	}
	for _, told := range h.sent {
		told(sent)
	}
}

func (s *handle) castThrough(ctx context.Context, h *hooks, m tenant.Message, how tenant.How) (err error) {
	about, began := about(s.Ref(), Ref{}, "Cast", m, how), time.Now()
	if h.sends(ctx, &about) {
		err = s.castAround(ctx, h, about, m, how)
	} else {
		err = public(s.at.Cast(ctx, m, how))
	}
	h.over(about, began, err)
	return err
}

func (s *handle) castAround(ctx context.Context, h *hooks, about Send, m tenant.Message, how tenant.How) error {
	at := s.at
	return h.through(ctx, &outgoing{Send: about, do: func(ctx context.Context, head tenant.Headers) error {
		return public(at.Cast(ctx, m, how.With(head)))
	}})
}

func (s *handle) castAllThrough(ctx context.Context, h *hooks, ms []tenant.Message, how tenant.How) (err error) {
	about, began := about(s.Ref(), Ref{}, "CastAll", ms[0], how), time.Now()
	about.Count = len(ms)
	if h.sends(ctx, &about) {
		at := s.at
		err = h.through(ctx, &outgoing{Send: about, do: func(ctx context.Context, head tenant.Headers) error {
			return public(at.CastAll(ctx, ms, how.With(head)))
		}})
	} else {
		err = public(s.at.CastAll(ctx, ms, how))
	}
	h.over(about, began, err)
	return err
}

func (s *handle) call(ctx context.Context, m tenant.Message, how tenant.How) (reply []byte, err error) {
	h := hooksOf(s.at.Hooks)
	if h == nil {
		reply, err = s.at.Call(ctx, m, how)
		return reply, public(err)
	}
	about, began := about(s.Ref(), Ref{}, "Call", m, how), time.Now()
	if h.sends(ctx, &about) {
		reply, err = s.callAround(ctx, h, about, m, how)
	} else {
		reply, err = s.at.Call(ctx, m, how)
		err = public(err)
	}
	h.over(about, began, err)
	return reply, err
}

func (s *handle) callAround(ctx context.Context, h *hooks, about Send, m tenant.Message, how tenant.How) (reply []byte, err error) {
	at := s.at
	err = h.through(ctx, &outgoing{Send: about, do: func(ctx context.Context, head tenant.Headers) (err error) {
		reply, err = at.Call(ctx, m, how.With(head))
		return public(err)
	}})
	return reply, err
}

func (s *handle) infoThrough(ctx context.Context, h *hooks, m tenant.Message, how tenant.How) (err error) {
	about, began := about(s.Ref(), Ref{}, "Info", m, how), time.Now()
	if h.sends(ctx, &about) {
		at := s.at
		err = h.through(ctx, &outgoing{Send: about, do: func(ctx context.Context, head tenant.Headers) error {
			return public(at.Info(ctx, m, head))
		}})
	} else {
		err = public(s.at.Info(ctx, m, how.Headers))
	}
	h.over(about, began, err)
	return err
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
	var err error
	if ctx := c.Context(); h.sends(ctx, &about) {
		err = c.sendAround(ctx, h, about, send)
	} else {
		send(about.headers)
	}
	h.over(about, time.Time{}, err)
	if err != nil {
		c.scope.Fail(err)
	}
}

func (c *Context) sendAround(ctx context.Context, h *hooks, about Send, send func(head tenant.Headers)) error {
	return h.through(ctx, &outgoing{Send: about, do: func(_ context.Context, head tenant.Headers) error {
		send(head)
		return nil
	}})
}

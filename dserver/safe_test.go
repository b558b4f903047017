package dserver_test

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Safe is the state of a server that uses every feature, and remembers by its id each message that took effect.
type Safe struct {
	Seen  map[string]int
	Cents int64
}

// Messages to a safe. An id that begins with "refused" is refused after it left a trace.
type (
	Stow struct{ ID string }
	Grab struct {
		dserver.Returns[string]
		ID string
	}
	Remit struct { // sends a Take
		ID, To, Key string
		Cents       int64
		After       time.Duration
		Urgent      bool
	}
	Take struct {
		ID    string
		Cents int64
	}
	Wind struct { // sets a timer that stows its id and " rang"
		ID, Name string
		In       time.Duration
	}
	Unwind struct{ ID, Name string }
	Toil   struct { // locked work
		dserver.Returns[string]
		ID string
	}
	Defer struct { // is answered by another server
		dserver.Returns[string]
		ID, By string
	}
	Answer struct {
		ID string
		To dserver.From[string]
	}
	Explode struct{ ID string }
	Halt    struct{ ID string } // ends the locked work
)

var safe = dserver.Define[Safe]("safe")

// safes is all that a safe can do, where toil does the locked work.
func safes(toil func(ctx *dserver.LockedContext, s Safe, m Toil) (string, error)) *dserver.Definition[Safe] {
	return safe.With(
		dserver.HandleCast(func(_ *dserver.Context, s *Safe, m Stow) error { return s.see(m.ID) }),
		dserver.HandleCall(func(_ *dserver.Context, s *Safe, m Grab) (string, error) { return m.ID, s.see(m.ID) }),
		dserver.HandleCast(remit),
		dserver.HandleCast(func(_ *dserver.Context, s *Safe, m Take) error {
			s.Cents += m.Cents
			return s.see(m.ID)
		}),
		dserver.HandleCast(func(ctx *dserver.Context, s *Safe, m Wind) error {
			ctx.SetTimer(m.Name, m.In, Stow{m.ID + " rang"})
			return s.see(m.ID)
		}),
		dserver.HandleCast(func(ctx *dserver.Context, s *Safe, m Unwind) error {
			ctx.CancelTimer(m.Name)
			return s.see(m.ID)
		}),
		dserver.HandleLockedCall(toil, func(_ *dserver.Context, s *Safe, m Toil, found string) (string, error) {
			return found, s.see(m.ID)
		}),
		dserver.HandleCall(func(ctx *dserver.Context, s *Safe, m Defer) (string, error) {
			ctx.Cast(safe.Ref(m.By), Answer{m.ID + " answered", dserver.ReplyLater(ctx, m)})
			return "", s.see(m.ID)
		}),
		dserver.HandleCast(func(ctx *dserver.Context, s *Safe, m Answer) error {
			m.To.Reply(ctx, strings.TrimSuffix(m.ID, " answered"))
			return s.see(m.ID)
		}),
		dserver.HandleCast(func(ctx *dserver.Context, s *Safe, m Halt) error {
			ctx.Unlock(errDenied)
			return s.see(m.ID)
		}),
		dserver.HandleCast(func(_ *dserver.Context, s *Safe, m Explode) error {
			_ = s.see(m.ID)
			panic("it explodes at " + m.ID)
		}),
	)
}

func (s *Safe) see(id string) error {
	s.Seen[id]++
	if strings.HasPrefix(id, "refused") {
		return errDenied
	}
	return nil
}

func remit(ctx *dserver.Context, s *Safe, m Remit) error {
	s.Cents -= m.Cents
	var opts []dserver.Option
	if m.Key != "" {
		opts = append(opts, dserver.Once(m.Key))
	}
	if m.After > 0 {
		opts = append(opts, dserver.After(m.After))
	}
	if m.Urgent {
		opts = append(opts, dserver.Priority())
	}
	ctx.Cast(safe.Ref(m.To), Take{cmp.Or(m.Key, m.ID) + " passed", m.Cents}, opts...)
	return s.see(m.ID)
}

// easyToil is locked work whose first attempt fails when its id says so.
func easyToil(ctx *dserver.LockedContext, _ Safe, m Toil) (string, error) {
	switch {
	case strings.HasPrefix(m.ID, "refused"):
		return "", errDenied
	case strings.HasPrefix(m.ID, "clumsy") && ctx.Attempt() == 1:
		return "", errors.New("the first attempt fails")
	}
	return m.ID, nil
}

// expectSeen waits until a safe has seen exactly this, each once, and stays so for a while.
func expectSeen(t testing.TB, s *dserver.DServer[Safe], want ...string) {
	t.Helper()
	var got Safe
	eventually(t, "all is seen", func() bool {
		var err error
		got, err = s.State(t.Context())
		return err == nil && len(got.Seen) >= len(want)
	})
	for _, id := range want {
		if got.Seen[id] != 1 {
			t.Errorf("%s took effect %d times", id, got.Seen[id])
		}
	}
	if len(got.Seen) != len(want) {
		t.Errorf("seen %v, want %q", got.Seen, want)
	}
}

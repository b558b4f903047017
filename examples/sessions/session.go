package main

import (
	"maps"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Session is the state of one visitor's session.
type Session struct {
	Values map[string]string
	Counts map[string]int64
	Until  time.Time // when it expires; zero when it has not begun, or has ended
}

// Begin begins a session.
type Begin struct{ Values map[string]string }

// Set changes some values of a session, and leaves the others.
type Set struct{ Values map[string]string }

// Count adds to a count of a session, and is answered with the sum.
type Count struct {
	dserver.Returns[int64]
	What string
	By   int64
}

// Touch says that the session is used.
type Touch struct{}

// expire is sent by the timer of a session that nobody used.
type expire struct{}

// ErrEnded refuses to use a session that has ended, or that never began. All messages but Begin are sent by calls: the
// refusal goes to the caller, and nothing is stored of it. A cast would be kept as a dead letter.
var ErrEnded = &dserver.Error{Code: "ended", Text: "the session has ended"}

// Sessions is the address of sessions.
var Sessions = dserver.Define[Session]("session")

// Expiring is sessions that expire when they have not been used for a while. Messages say what changes, such as "one
// more": a session that was read, changed and written back as a whole would lose what another tab did in between.
func Expiring(idle time.Duration) *dserver.Definition[Session] {
	return Sessions.With(
		dserver.HandleCast(func(ctx *dserver.Context, s *Session, m Begin) error {
			s.Values = m.Values
			s.slide(ctx, idle)
			return nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, s *Session, m Set) error {
			if !s.Lives() {
				return ErrEnded
			}
			maps.Copy(s.Values, m.Values)
			s.slide(ctx, idle)
			return nil
		}),
		dserver.HandleCall(func(ctx *dserver.Context, s *Session, m Count) (int64, error) {
			if !s.Lives() {
				return 0, ErrEnded
			}
			s.Counts[m.What] += m.By
			s.slide(ctx, idle)
			return s.Counts[m.What], nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, s *Session, _ Touch) error {
			if !s.Lives() {
				return ErrEnded
			}
			s.slide(ctx, idle)
			return nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, _ *Session, _ expire) error {
			ctx.Reset() // nothing is left of it
			return nil
		}),
	)
}

// Lives reports whether the session has begun and not expired: also while no consumer runs, and no timer fires.
func (s *Session) Lives() bool { return time.Now().Before(s.Until) }

// IsStale reports whether the session has to be touched, or would expire before it was idle for long enough.
func (s *Session) IsStale(idle time.Duration) bool { return time.Until(s.Until) < idle }

// slide moves the end of a session. It has a tenth of the idle time to spare, so that few of many requests write.
func (s *Session) slide(ctx *dserver.Context, idle time.Duration) {
	if !s.IsStale(idle) {
		return
	}
	life := idle + idle/10
	s.Until = time.Now().Add(life)
	ctx.SetTimer("expire", life, expire{})
}

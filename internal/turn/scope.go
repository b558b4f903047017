package turn

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Scope is what a handler's turn can be asked for while the handler runs. It is not safe for concurrent use. A nil scope
// does nothing.
type Scope struct {
	turn    context.Context
	until   time.Time // the turn's time limit
	made    context.Context
	limit   *limited // of made
	self    tenant.Ref
	message *Work // in hand; nil of a Query
	run     int   // of the turn's handlers; the first is 1
	hooks   Hooks // that run around the handler; nil: none
	local   bool  // the message is not stored, so nobody could answer it later
	query   bool  // nothing may be changed or sent
	over    atomic.Bool
	err     error // the first impossible request
	effects
}

// effects is what handlers asked for beside changing the state.
type effects struct {
	Parcels    []*tenant.Parcel
	answers    []tenant.Answer
	Actions    []func()
	timers     map[string]tenant.TimerOp
	statements []backend.Statement

	defers  bool // the reply comes later
	Locks   bool
	unlocks *tenant.Error // why locked work ends before its time
	resets  bool
	queue   bool // a local message must take the queue's way after all
}

// add appends what a message's handler asked for to what those before it did.
func (e *effects) add(more effects) {
	e.Parcels = append(e.Parcels, more.Parcels...)
	e.answers = append(e.answers, more.answers...)
	e.Actions = append(e.Actions, more.Actions...)
	e.statements = append(e.statements, more.statements...)
	for name, op := range more.timers {
		e.setTimer(name, op)
	}
	e.Locks = e.Locks || more.Locks
	e.unlocks = cmp.Or(e.unlocks, more.unlocks)
	e.resets = e.resets || more.resets
}

func (e *effects) setTimer(name string, op tenant.TimerOp) {
	if e.timers == nil {
		e.timers = map[string]tenant.TimerOp{}
	}
	e.timers[name] = op
}

// turnKey marks a context of a turn.
type turnKey struct{}

// IsTurn reports whether a context is that of a turn: what is sent with it would not be part of the commit.
func IsTurn(ctx context.Context) bool { return ctx.Value(turnKey{}) != nil }

// Base is Context without the turn's time limit, for which nothing is made.
func (s *Scope) Base() context.Context { return s.turn }

// Context carries the turn's time limit and values.
func (s *Scope) Context() context.Context {
	if s == nil {
		return context.WithValue(context.Background(), turnKey{}, true)
	}
	if s.made == nil && s.until.IsZero() {
		s.made = s.turn
	} else if s.made == nil {
		s.limit = &limited{Context: s.turn, until: s.until}
		s.made = s.limit
	}
	return s.made
}

// end makes everything refuse that the handler may have kept.
func (s *Scope) end() {
	s.over.Store(true)
	if s.limit != nil {
		s.limit.end()
	}
}

// Carry makes the handler's context one that was made of it, and reports whether it was.
func (s *Scope) Carry(ctx context.Context) bool {
	if !IsTurn(ctx) {
		return false
	}
	s.made = ctx
	return true
}

// Run is the number of this run of the turn's handlers; the first is 1.
func (s *Scope) Run() int { return s.run }

// Hooks is what the program has around its handlers; nil when that is nothing.
func (s *Scope) Hooks() Hooks { return s.hooks }

// Self is the server whose turn it is.
func (s *Scope) Self() tenant.Ref {
	if s == nil {
		return tenant.Ref{}
	}
	return s.self
}

// Message is the message in hand; one without a name where there is none. It must not be changed.
func (s *Scope) Message() *Work {
	if s == nil || s.message == nil {
		return &Work{Attempt: 1}
	}
	return s.message
}

// Usable reports whether requests count. Those of a turn that is over are logged.
func (s *Scope) Usable() bool {
	switch {
	case s == nil:
		return false
	case s.over.Load():
		s.late()
		return false
	case s.query:
		s.Fail(errQueryChanges)
		return false
	}
	return true
}

// Fail fails the message, as something impossible was asked for.
func (s *Scope) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// What follows is part of the turn's commit. It is asked for where Usable is true.

// Send sends a parcel.
func (s *Scope) Send(p *tenant.Parcel) { s.Parcels = append(s.Parcels, p) }

// Answer answers a caller, with a reply or an error.
func (s *Scope) Answer(to string, reply []byte, err *tenant.Error) {
	s.answers = append(s.answers, tenant.Answer{To: to, Reply: reply, Err: err})
}

// AfterCommit runs fn after the commit, at most once.
func (s *Scope) AfterCommit(fn func()) { s.Actions = append(s.Actions, fn) }

// Exec runs a statement in the commit.
func (s *Scope) Exec(x backend.Statement) { s.statements = append(s.statements, x) }

// SetTimer sends a message to the server when d has passed. It replaces the timer of that name.
func (s *Scope) SetTimer(name string, d time.Duration, m tenant.Message, how tenant.How) {
	s.setTimer(name, tenant.NewTimer(name, d, m, how))
}

// CancelTimer stops a timer.
func (s *Scope) CancelTimer(name string) { s.setTimer(name, tenant.TimerOp{}) }

// Lock hands the message to its locked work.
func (s *Scope) Lock() { s.Locks = true }

// Unlock ends the locked work of this server.
func (s *Scope) Unlock(why *tenant.Error) { s.unlocks = why }

// Reset removes the state after the message.
func (s *Scope) Reset() { s.resets = true }

// ReplyLater keeps the call open, and returns its caller's address; "" is nobody.
func (s *Scope) ReplyLater() (address string) {
	s.defers = true
	s.queue = s.local // nobody else could answer a caller that has no address
	m := s.Message().Envelope
	if m.From != "" && m.Once != "" {
		return m.From + tenant.KeyMarker + tenant.OnceAddress{Ref: s.self, Key: m.Once, Word: m.Word}.String()
	}
	return m.From
}

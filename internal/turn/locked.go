package turn

import (
	"context"
	"errors"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// WorkAttempt is one attempt of locked work.
type WorkAttempt struct {
	Context context.Context // ends when the lock is lost, when the time is up, or when the consumer stops
	Self    tenant.Ref
	Key     string // the idempotency key: the same in all attempts for one message
	Number  int    // the first is 1
	Message tenant.Envelope
	Stamp   backend.Versionstamp // that the message had on the queue
}

// Ending is how one attempt of work ended: with what it found, with a decision, or with a fault. Nothing of the user's
// is called to tell which: an error's methods were called where their panics end.
type Ending struct {
	Found any
	Err   *tenant.Error // a decision
	Fault *Fault
}

// OutcomeOf runs work once. It is the one place in which a panic of work, and of its error's methods, ends.
func (l *Locked) OutcomeOf(a *WorkAttempt, hooks Hooks, state any, body []byte) (e Ending) {
	defer func() {
		if p := recover(); p != nil {
			e = Ending{Fault: Panicked(p)}
		}
	}()
	found, err := l.work(hooks, a, state, body)
	return endingOf(found, err)
}

// endingOf says what work's error is. The world outside breaks by returning errors, so only *Error is a decision.
func endingOf(found any, err error) Ending {
	if err == nil {
		return Ending{Found: found}
	}
	f := asFault(err)
	var decision *tenant.Error
	switch {
	case f != nil:
		return Ending{Fault: f}
	case errors.As(err, &decision) && decision != nil:
		return Ending{Err: decision}
	}
	return Ending{Fault: &Fault{Text: tenant.Truncate(err.Error(), tenant.MaxErrorText)}}
}

// Release is the end of locked work: a turn's first and only message.
type Release struct {
	Env     tenant.Envelope
	Item    queue.Item
	Fence   backend.Versionstamp
	Handler *Locked
	Found   any
	Err     *tenant.Error // a decision, or the last failure
	Stack   string
	Attempt int
}

// apply is what the turn runs for the message.
func (r *Release) apply() *Handler {
	return &Handler{Run: func(s *Scope, state any, body []byte) ([]byte, error) {
		return r.Handler.Apply(s, state, body, r.Found)
	}}
}

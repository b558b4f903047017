package dserver

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
)

// DeadLetter is a message that failed for good or was refused, and why. It is kept beside the queue for an operator.
type DeadLetter struct {
	Stamp    backend.Versionstamp // when it was pushed, in commit order; names it
	Message  Message              // without a Name when it cannot be read: then Body is all that is stored
	Headers  map[string]string    // that it was sent with
	Err      Error
	Stack    string // of a panic; of a message that could not be decoded, why
	Attempts int
	Since    time.Time // when it became a dead letter, by the clock of the consumer
}

func publicLetter(d operate.DeadLetter) DeadLetter {
	return DeadLetter{
		Stamp: d.Stamp, Message: Message(d.Message), Headers: d.Headers, Err: Error(d.Err), Stack: d.Stack, Attempts: d.Attempts,
		Since: d.Since,
	}
}

// DeadLetters yields the server's dead letters, oldest first. An error ends it. It reads page by page, so the loop may
// take its time; letters that come or go meanwhile may be missed.
func (s *handle) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return listed(ctx, s, "DeadLetters", operate.Server.DeadLetters, publicLetter)
}

// DeadLetter returns the dead letter of this stamp, or ErrNotFound.
func (s *handle) DeadLetter(ctx context.Context, stamp backend.Versionstamp) (DeadLetter, error) {
	if err := s.check(ctx, "DeadLetter"); err != nil {
		return DeadLetter{}, err
	}
	d, err := s.operated(ctx).DeadLetter(ctx, stamp)
	if err != nil {
		return DeadLetter{}, public(err)
	}
	return publicLetter(d), nil
}

// Retry sends a dead letter's Message again with its Headers, which both may have been edited, and removes the letter, in one
// commit. The message
// goes to the end of the queue, or with Priority ahead of it; other options are refused. Nobody waits for its answer any
// more. It is ErrNotFound when the letter is gone, so of two Retries at once only one sends. A message that this program
// cannot read is sent as it is stored, for a consumer that can read it; to edit it, give it a Name.
func (s *handle) Retry(ctx context.Context, d DeadLetter, opts ...Option) error {
	_, err := s.Requeue(ctx, d, opts...)
	return err
}

// Requeue is Retry, and returns the stamp that names the message on the queue.
func (s *handle) Requeue(ctx context.Context, d DeadLetter, opts ...Option) (backend.Versionstamp, error) {
	how, err := options(opts)
	if err == nil && (how.Once != "" || how.After != 0 || how.Headers != nil) {
		err = errors.New("dserver: Retry takes no option but Priority")
	}
	var head tenant.Headers
	if err == nil {
		head, err = outright(d.Headers)
	}
	if err != nil {
		return backend.Versionstamp{}, err
	}
	message := tenant.Message(d.Message)
	if message.Name != "" {
		if message, _, err = s.prepare(ctx, "Retry", d.Message, nil); err != nil {
			return backend.Versionstamp{}, err
		}
	}
	if err := s.check(ctx, "Retry"); err != nil {
		return backend.Versionstamp{}, err
	}
	stamp, err := s.operated(ctx).Retry(ctx, d.Stamp, message, head, how.Lane())
	return stamp, public(err)
}

// Discard removes a dead letter. It is ErrNotFound when the letter is gone.
func (s *handle) Discard(ctx context.Context, d DeadLetter) error {
	return s.change(ctx, "Discard", func(s operate.Server, ctx context.Context) error { return s.Discard(ctx, d.Stamp) })
}

package dserver

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
)

// Queued is a message that waits on a server's queue.
type Queued struct {
	Stamp    backend.Versionstamp // its place in the order of commits; names it
	Priority bool                 // it is ahead of those that are not
	Call     bool                 // somebody waits for the answer
	Sent     time.Time            // by the sender's clock
	Message  Message              // without a Name when it cannot be read: then Body is all that is stored
	Headers  map[string]string    // that it was sent with
}

func publicQueued(q operate.Queued) Queued {
	return Queued{Stamp: q.Stamp, Priority: q.Priority, Call: q.Call, Sent: q.Sent, Message: Message(q.Message), Headers: q.Headers}
}

// Queue yields the messages that wait, in the order in which they will be taken. An error ends it. It reads page by page,
// so the loop may take its time; messages that come or go meanwhile may be missed.
func (s *DServer[S]) Queue(ctx context.Context) iter.Seq2[Queued, error] {
	return listed(ctx, s, "Queue", func(s operate.Server) iter.Seq2[operate.Queued, error] { return s.Queue(ctx) }, publicQueued)
}

// Queued returns the message of this stamp, or ErrNotFound when it does not wait any more.
func (s *DServer[S]) Queued(ctx context.Context, stamp backend.Versionstamp) (Queued, error) {
	if err := s.check(ctx, "Queued"); err != nil {
		return Queued{}, err
	}
	q, err := s.operated().Queued(ctx, stamp)
	if err != nil {
		return Queued{}, public(err)
	}
	return publicQueued(q), nil
}

// Withdraw takes the message of this stamp off the queue, unhandled. The caller that waits for it, if any, gets
// ErrWithdrawn, in the same commit. It is ErrNotFound when the message does not wait any more: either Withdraw takes a
// message or the turn that handles it, never both. The order of the others does not change.
func (s *DServer[S]) Withdraw(ctx context.Context, stamp backend.Versionstamp) error {
	return s.change(ctx, "Withdraw", func(s operate.Server) error { return s.Withdraw(ctx, stamp) })
}

package dserver

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
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
func (s *handle) Queue(ctx context.Context) iter.Seq2[Queued, error] {
	return listed(ctx, s, "Queue", operate.Server.Queue, publicQueued)
}

// Queued returns the message of this stamp, or ErrNotFound when it does not wait any more.
func (s *handle) Queued(ctx context.Context, stamp backend.Versionstamp) (Queued, error) {
	if err := s.check(ctx, "Queued"); err != nil {
		return Queued{}, err
	}
	q, err := s.operated(ctx).Queued(ctx, stamp)
	if err != nil {
		return Queued{}, public(err)
	}
	return publicQueued(q), nil
}

// Mend puts m in the place of a message that waits, as Queue or Queued returned it: a poison message is mended where it stands,
// and those behind it keep their order. The message keeps its stamp, its lane, its caller, its idempotency key and its timer,
// and has all its attempts again; what it halted goes on. m is a message of the program, or a Message; its caller gets the
// reply to m.
//
// It is ErrNotFound when the message does not wait any more: either Mend changes a message or the turn that takes it comes
// first, never both. It is ErrChanged when somebody else has mended it since it was read: read it again. A message under a lock
// is not on the queue: Unlock makes it a dead letter, which Retry sends again. After backend.ErrCommitUnknown call it again: it
// is done, ErrChanged or ErrNotFound.
func (s *handle) Mend(ctx context.Context, q Queued, m any) error {
	message, _, err := s.prepare(ctx, "Mend", m, nil)
	if err != nil {
		return err
	}
	return public(s.operated(ctx).Mend(ctx, q.Stamp, tenant.Message(q.Message), message))
}

// Withdraw takes the message of this stamp off the queue, unhandled. The caller that waits for it, if any, gets
// ErrWithdrawn, in the same commit. It is ErrNotFound when the message does not wait any more: either Withdraw takes a
// message or the turn that handles it, never both. The order of the others does not change.
func (s *handle) Withdraw(ctx context.Context, stamp backend.Versionstamp) error {
	return s.change(ctx, "Withdraw", func(s operate.Server, ctx context.Context) error { return s.Withdraw(ctx, stamp) })
}

package dserver

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/internal/operate"
)

// Delayed is what was sent with After and is not due yet: one message, or those of a CastAll.
type Delayed struct {
	ID       string    // names it until it is due
	Due      time.Time // when it is put on the queue; zero when an older version sent it
	Priority bool
	Call     bool              // somebody waits for the answer
	Sent     time.Time         // by the sender's clock
	Messages []Message         // without a Name where one cannot be read: then Body is all that is stored
	Headers  map[string]string // of each of them
}

func publicDelayed(d operate.Delayed) Delayed {
	public := Delayed{ID: d.ID, Due: d.Due, Priority: d.Priority, Call: d.Call, Sent: d.Sent, Headers: d.Headers}
	for _, m := range d.Messages {
		public.Messages = append(public.Messages, Message(m))
	}
	return public
}

// Delayed yields what was sent with After and is not due yet, in no order. An error ends it. It reads page by page, so the
// loop may take its time; what comes or goes meanwhile may be missed.
func (s *handle) Delayed(ctx context.Context) iter.Seq2[Delayed, error] {
	return listed(ctx, s, "Delayed", operate.Server.Delayed, publicDelayed)
}

// WithdrawDelayed removes what was sent with After, by its ID. The caller that waits for it, if any, gets ErrWithdrawn,
// in the same commit. It is ErrNotFound when it does not wait for its time any more: then it is on the queue, was handled
// or is gone. Either WithdrawDelayed takes it or the consumer that queues it, never both.
func (s *handle) WithdrawDelayed(ctx context.Context, id string) error {
	return s.change(ctx, "WithdrawDelayed", func(s operate.Server, ctx context.Context) error { return s.WithdrawDelayed(ctx, id) })
}

package dserver

import (
	"context"
	"iter"

	"github.com/dserver-go/dserver/internal/operate"
	"github.com/dserver-go/dserver/internal/tenant"
)

// actorKey is the key of the actor in a context.
type actorKey struct{}

// WithActor says who operates, for what is done with the context: a person, perhaps with the host, such as "ada@ops-1". Each act
// (Withdraw, Mend, Retry, Discard, Unlock, Pause, Resume, Pin, Reset, Kill, SetState and the like) is then written down in its
// own commit, with what was before and after, and Audit lists it. Without an actor nothing is written down. The name is not
// checked: it is for those who trust each other. At most 1 KiB of it is kept.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, tenant.Truncate(actor, tenant.MaxNameBytes))
}

// operated is the server for its operators.
func (s *handle) operated(ctx context.Context) operate.Server {
	actor, _ := ctx.Value(actorKey{}).(string)
	return operate.Server{DB: s.at.DB, Ref: s.at.Ref, Actor: actor}
}

// change checks a handle before an operator's transaction.
func (s *handle) change(ctx context.Context, verb string, change func(operate.Server, context.Context) error) error {
	if err := s.check(ctx, verb); err != nil {
		return err
	}
	return public(change(s.operated(ctx), ctx))
}

// listed is what the room below lists, as users see it. It is not inlined: each type of a state would have it, and several times.
//
//go:noinline
func listed[From, To any](
	ctx context.Context, s *handle, verb string, list func(operate.Server, context.Context) iter.Seq2[From, error], as func(From) To,
) iter.Seq2[To, error] {
	return func(yield func(To, error) bool) {
		var none To
		if err := s.check(ctx, verb); err != nil {
			yield(none, err)
			return
		}
		for item, err := range list(s.operated(ctx), ctx) {
			if err != nil {
				yield(none, public(err))
				return
			}
			if !yield(as(item), nil) {
				return
			}
		}
	}
}

package dserver

import (
	"context"
	"iter"

	"github.com/dserver-go/dserver/internal/operate"
)

// operated is the server for its operators.
func (s *DServer[S]) operated() operate.Server { return operate.Server{DB: s.at.DB, Ref: s.at.Ref} }

// change checks a handle before an operator's transaction.
func (s *DServer[S]) change(ctx context.Context, verb string, change func(operate.Server) error) error {
	if err := s.check(ctx, verb); err != nil {
		return err
	}
	return public(change(s.operated()))
}

// listed is what the room below lists, as users see it.
func listed[S, From, To any](
	ctx context.Context, s *DServer[S], verb string, list func(operate.Server) iter.Seq2[From, error], as func(From) To,
) iter.Seq2[To, error] {
	return func(yield func(To, error) bool) {
		var none To
		if err := s.check(ctx, verb); err != nil {
			yield(none, err)
			return
		}
		for item, err := range list(s.operated()) {
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

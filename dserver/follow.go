package dserver

import (
	"context"
	"iter"

	"github.com/dserver-go/dserver/internal/follow"
)

// Follow yields the server's state: at once, and then after each commit that changed it, by whatever process. It needs no
// consumer in this one. States that come while the body of the loop runs may be missed, but for the last, which never is. A
// server without a state, which has handled nothing or was reset or killed, is the zero state. Each state is a copy, the loop's
// own to change, and has all entries of tracked collections: of a large state, FollowQuery a part.
//
//	for state, err := range visits.Follow(ctx) {
//		if err != nil {
//			return err
//		}
//		show(state)
//	}
//
// The loop has no end but the body's own, and two errors after which nothing can come: ctx has ended, which is yielded as its
// error, or the database is closed (backend.ErrClosed). Any other error is yielded in the place of a state, and who goes on
// with the loop has it tried again: after an error of the store, each second; after ErrState, with the next state. When it is
// over, the state is yielded again.
//
// All that follow a server in a process, by FollowQuery as well, share one watch of the store and one read for each state. Nothing
// is read while the bodies of all their loops run, and nothing is left when the last has ended.
func (s *DServer[S]) Follow(ctx context.Context) iter.Seq2[S, error] {
	return func(yield func(S, error) bool) {
		var none S
		if err := s.check(ctx, "Follow"); err != nil {
			yield(none, err)
			return
		}
		for st, err := range follow.States(ctx, s.at.DB, s.at.Ref) {
			state := none
			if err == nil && !st.Version.IsZero() {
				state, err = s.typed(st)
			}
			if !yield(state, public(err)) {
				return
			}
		}
	}
}

// FollowQuery yields what Query answers to m: at once, and then whenever the answer is another one. Its handler runs for each
// loop, on the goroutine of the loop and as Query runs it, after each commit that changed the state, unless that came while the
// body of the loop ran; the last answer is never missed. An error of the handler is an answer, and is yielded when it is another
// one: who goes on with the loop gets the next. So is ErrState. What else is said of Follow holds here as well.
//
// Of a state with tracked collections the handler reads what it asks for, each time: that is a read for each loop, and not
// all of the state.
func FollowQuery[S, R any](ctx context.Context, s *DServer[S], m Request[R]) iter.Seq2[R, error] {
	message, err := s.encode(ctx, "FollowQuery", m)
	if err == nil {
		err = public(s.at.Def.Replies(message.Name))
	}
	return func(yield func(R, error) bool) {
		var none R
		if err != nil {
			yield(none, err)
			return
		}
		for a, err := range follow.Answers(ctx, s.at.DB, s.at.Def, s.at.Ref, message) {
			reply := none
			if err == nil {
				err = a.Err
			}
			if err == nil {
				reply, err = decodedReply[R](s.at.Ref, a.Reply)
			}
			if !yield(reply, public(err)) {
				return
			}
		}
	}
}

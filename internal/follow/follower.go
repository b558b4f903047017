package follow

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// States yields the state of a server, now and whenever it is another one. One of version zero is none. Its rows are the
// loop's own. An error comes in the place of a state, and who goes on gets the state again when it can be read; it ends the loop
// when ctx has ended, or the database is closed. There is no other end.
func States(ctx context.Context, db backend.Database, ref tenant.Ref) iter.Seq2[turn.State, error] {
	return func(yield func(turn.State, error) bool) {
		f := begin(place{db, ref}, true)
		defer f.end()
		for {
			st, err := f.next(ctx)
			if !yield(st, err) || isOver(ctx, err) {
				return
			}
		}
	}
}

// Answers yields what a query answers, now and whenever that is something else. Its errors are those of States; what the
// handler refuses, and what is wrong with it or with the state, is an answer.
func Answers(ctx context.Context, db backend.Database, def *turn.Definition, ref tenant.Ref, m tenant.Message) iter.Seq2[turn.Answer, error] {
	return func(yield func(turn.Answer, error) bool) {
		q := query{follower: begin(place{db, ref}, !def.Form.Tracks()), def: def, message: m}
		defer q.end()
		var last *turn.Answer
		for {
			a, err := q.answer(ctx)
			if err == nil && last != nil && a.IsAs(*last) {
				continue
			}
			if last = &a; err != nil {
				last = nil
			}
			if !yield(a, err) || isOver(ctx, err) {
				return
			}
		}
	}
}

// isOver reports whether nothing can come after an error.
func isOver(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, backend.ErrClosed))
}

// follower is one of the followers of a feed.
type follower struct {
	feed  *feed
	whole bool   // it wants the rows
	need  uint64 // the first look that counts
	told  bool   // it was told a state, the last of which is
	last  backend.Versionstamp
	after uint64 // the look of which it was told an error; 0: of none
}

func begin(at place, whole bool) *follower {
	f := join(at, whole)
	return &follower{feed: f, whole: whole, need: f.ask()}
}

func (f *follower) end() { f.feed.leave(f.whole) }

// next waits for something that it was not told yet.
func (f *follower) next(ctx context.Context) (turn.State, error) {
	for {
		if err := ctx.Err(); err != nil {
			return turn.State{}, tenant.Doing("follow", f.feed.at.ref, err)
		}
		found, news := f.feed.latest()
		if f.isNews(found) {
			return f.take(found)
		}
		select {
		case <-ctx.Done():
		case <-news:
		case f.feed.lead <- struct{}{}:
			f.feed.advance(ctx, found)
		}
	}
}

func (f *follower) isNews(found sight) bool {
	switch {
	case found.number < f.need:
		return false
	case found.err != nil:
		return found.number > f.after
	}
	return !f.told || found.state.Version != f.last
}

// take is what the follower is told of a look.
func (f *follower) take(found sight) (turn.State, error) {
	if found.err != nil {
		f.told, f.after = false, found.number
		return turn.State{}, found.err
	}
	f.told, f.last = true, found.state.Version
	st := found.state
	if st.Rows != nil {
		st.Rows = st.Rows.Clone()
	}
	return st, nil
}

// query is a follower that asks.
type query struct {
	*follower
	def     *turn.Definition
	message tenant.Message
	failed  bool // the last time, by an error of the store
}

// answer waits for another state, and asks it. Where the state has tracked collections, the query reads what it needs in a
// snapshot of its own, which may be later.
func (q *query) answer(ctx context.Context) (a turn.Answer, err error) {
	at := q.feed.at
	if q.failed {
		q.pause(ctx)
	}
	st, err := q.next(ctx)
	if err != nil {
		return a, err
	}
	if q.whole {
		return turn.AskWhole(ctx, st, q.def, at.ref, q.message), nil
	}
	a, err = turn.Ask(ctx, at.db, q.def, at.ref, q.message)
	q.failed = err != nil
	return a, err
}

// pause waits after an error that only this query had, and makes the next state news, whatever it is.
func (q *query) pause(ctx context.Context) {
	timer := time.NewTimer(mailbox.Jittered(mailbox.RetryInterval))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		q.failed, q.told, q.need = false, false, q.feed.ask()
	}
}

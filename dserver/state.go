package dserver

import (
	"context"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/statediff"
)

// Versioned is State with the version that it has. Without a state it is the zero S and version, and no error.
func (s *DServer[S]) Versioned(ctx context.Context) (state S, version backend.Versionstamp, err error) {
	if err := s.check(ctx, "Versioned"); err != nil {
		return state, version, err
	}
	st, err := turn.Whole(ctx, s.at.DB, s.at.Ref)
	if err != nil || st.Version.IsZero() {
		return state, version, public(err)
	}
	state, err = s.typed(st)
	return state, st.Version, err
}

// SetState makes state the server's, if the server still has the version that was seen, which Versioned returned: zero is that
// there was none. It is written as a turn would write it, only what differs, under the version that it returns; when nothing
// differs, nothing is written. No handler runs, and nobody is told.
//
// It is ErrChanged when the state has another version: some turn, or somebody else, has written it since. Pause the server
// first where turns are faster than you. A lock is no hindrance, as what locked work found is applied to the state of then. It
// is ErrState where a newer version of the program wrote the state. After backend.ErrCommitUnknown call it again: it is done,
// or ErrChanged. A handle that is made from a Ref does not know the type of the state: it has ChangeState.
func (s *DServer[S]) SetState(ctx context.Context, seen backend.Versionstamp, state S) (backend.Versionstamp, error) {
	if err := s.check(ctx, "SetState"); err != nil {
		return seen, err
	}
	version, err := s.operated(ctx).SetState(ctx, s.at.Def, seen, &state)
	return version, public(err)
}

// ChangeState is SetState of one place in a state, without its type: for tools. What it may change statediff.Change says. The
// program may read the state in another way than it looks: look at it afterwards.
func (s *handle) ChangeState(ctx context.Context, seen backend.Versionstamp, c statediff.Change) (backend.Versionstamp, error) {
	if err := s.check(ctx, "ChangeState"); err != nil {
		return seen, err
	}
	version, err := s.operated(ctx).ChangeState(ctx, seen, c)
	return version, public(err)
}

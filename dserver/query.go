package dserver

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/internal/wire"
	"github.com/dserver-go/dserver/statediff"
)

// Query runs m's HandleCall on a snapshot of the committed state, at once and in this process. It waits neither for the
// queue nor for a lock, needs no consumer and stores nothing. So it sees what has taken effect, and not what is queued.
// A handler that changes or sends anything fails. The handle's definition must have the handler (ErrNoHandler).
func Query[S, R any](ctx context.Context, s *DServer[S], m Request[R]) (R, error) {
	var reply R
	message, err := s.encode(ctx, "Query", m)
	if err != nil {
		return reply, err
	}
	body, err := turn.Query(ctx, s.at.DB, s.at.Def, s.at.Ref, message)
	if err != nil {
		return reply, public(err)
	}
	if err := wire.Decode(body, &reply); err != nil {
		return reply, fmt.Errorf("dserver: decode the reply of %v: %w", s.Ref(), err)
	}
	return reply, nil
}

// State returns a copy of the committed state, or ErrNotFound when the server has none. It reads all of it, the entries
// of tracked collections as well: of a large one, ask by a Query.
func (s *DServer[S]) State(ctx context.Context) (S, error) {
	var none S
	if err := s.check(ctx, "State"); err != nil {
		return none, err
	}
	st, err := turn.Whole(ctx, s.at.DB, s.at.Ref)
	if err != nil {
		return none, public(err)
	}
	if st.Version.IsZero() {
		return none, public(tenant.Because(tenant.ErrNotFound, "%v has no state", s.Ref()))
	}
	return s.decode(st)
}

// decode is a state that was read whole.
func (s *DServer[S]) decode(st turn.State) (S, error) {
	if s.at.Def.Form == nil {
		return genericState[S](st.Rows)
	}
	value, err := st.Decode(s.at.Def)
	if err != nil {
		var none S
		return none, public(tenant.Doing("read the state", s.at.Ref, err))
	}
	return *value.(*S), nil
}

// genericState is a state without its Go type: maps and slices, of whatever statediff.Generic makes of the rows.
func genericState[S any](rows *statediff.Rows) (S, error) {
	var none S
	value, err := statediff.Generic(rows)
	if err != nil {
		return none, fmt.Errorf("%w: %w", backend.ErrCorrupt, err)
	}
	if value == nil {
		return none, nil
	}
	s, ok := value.(S)
	if !ok {
		return none, fmt.Errorf("dserver: a state without a definition is a %T, not a %T", value, none)
	}
	return s, nil
}

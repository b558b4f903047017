package dserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// Query runs m's HandleCall on a snapshot of the state, here and now: past the queue and the lock, without a consumer,
// storing nothing. It sees what has taken effect, not what is queued. A handler that changes or sends anything fails.
// The handle's definition must have the handler (ErrNoHandler).
func Query[S, R any](ctx context.Context, s *DServer[S], m Request[R]) (R, error) {
	var reply R
	body, err := s.query(ctx, m)
	if err != nil {
		return reply, err
	}
	if err := decoder.Unmarshal(body, &reply); err != nil {
		return reply, fmt.Errorf("dserver: decode the reply of %v: %w", s.Ref(), err)
	}
	return reply, nil
}

func (h handle) query(ctx context.Context, m any) ([]byte, error) {
	message, err := h.prepare(ctx, "Query", m)
	if err != nil {
		return nil, err
	}
	handler := h.def.handlers[message.Name]
	if handler == nil || !handler.call {
		return nil, because(ErrNoHandler, "this definition of %q has no HandleCall for %s: query through the one that has", h.def.name, message.Name)
	}
	_, rows, err := h.rows(ctx)
	if err != nil {
		return nil, err
	}
	value, err := decodeState(h.def, rows)
	if err != nil {
		return nil, err
	}
	return h.runQuery(ctx, handler, message, rows, value)
}

func (h handle) runQuery(ctx context.Context, handler *handler, m Message, rows *statediff.Rows, value any) ([]byte, error) {
	c := &Context{turn: context.WithValue(ctx, turnKey{}, true), self: h.Ref(), query: true}
	reply, err := invoke(handler, c, value, m.Body)
	c.over.Store(true)
	var f *fault
	switch {
	case errors.As(err, &f):
		return nil, because(ErrFault, "%s", f.Text)
	case err != nil:
		return nil, asError(err)
	case c.err != nil:
		return nil, c.err
	}
	edits, err := h.def.schema.Diff(rows, value)
	if err != nil || len(edits) > 0 {
		return nil, fmt.Errorf("dserver: the handler of %s changed the state: Query is for those that only read", m.Name)
	}
	return reply, nil
}

// State returns a copy of the committed state, or ErrNotFound when the server has none.
func (s *DServer[S]) State(ctx context.Context) (S, error) {
	var none S
	if err := refuseTurn(ctx, "State"); err != nil {
		return none, err
	}
	version, rows, err := s.rows(ctx)
	if err != nil {
		return none, err
	}
	if version.IsZero() {
		return none, because(ErrNotFound, "%v has no state", s.Ref())
	}
	if s.def.schema == nil {
		return genericState[S](rows)
	}
	value, err := decodeState(s.def, rows)
	if err != nil {
		return none, err
	}
	return *value.(*S), nil
}

// rows reads the committed state in one snapshot.
func (h handle) rows(ctx context.Context) (version backend.Versionstamp, rows *statediff.Rows, err error) {
	if err := h.Ref().check(); err != nil {
		return version, nil, err
	}
	keys := tenantOf(h.Ref())
	err = h.db.Read(ctx, func(tx backend.ReadTx) error {
		stamp := tx.Get(keys.version())
		if rows, err = loadRows(tx, keys); err != nil {
			return err
		}
		value, err := stamp.Get()
		if err != nil {
			return err
		}
		version, err = backend.StampOf(value)
		return err
	})
	if err != nil {
		return version, nil, fmt.Errorf("dserver: %v: %w", h.Ref(), err)
	}
	return version, rows, nil
}

package dserver

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/wire"
)

// Query runs m's HandleCall on a snapshot of the committed state, at once and in this process. It waits neither for the
// queue nor for a lock, needs no consumer and stores nothing. So it sees what has taken effect, and not what is queued.
// A handler that changes or sends anything fails. The handle's definition must have the handler (ErrNoHandler).
func Query[S, R any](ctx context.Context, s *DServer[S], m Request[R]) (R, error) {
	var reply R
	body, err := s.query(ctx, m)
	if err != nil {
		return reply, err
	}
	if err := wire.Decode(body, &reply); err != nil {
		return reply, fmt.Errorf("dserver: decode the reply of %v: %w", s.Ref(), err)
	}
	return reply, nil
}

func (h handle) query(ctx context.Context, m any) ([]byte, error) {
	message, err := h.encode(ctx, "Query", m)
	if err != nil {
		return nil, err
	}
	handler := h.def.handlers[message.Name]
	if handler == nil || !handler.call {
		return nil, because(ErrNoHandler, "this definition of %q has no HandleCall for %s: query through the one that has", h.def.name, message.Name)
	}
	var reply []byte
	var answer error // the handler's, or what is wrong with it
	keys := tenantOf(h.Ref())
	err = h.db.Read(ctx, func(tx backend.ReadTx) error {
		st, err := h.committed(tx, keys)
		if err != nil {
			return err
		}
		value, err := st.decode(h.def)
		if err != nil {
			return err
		}
		entries := &loader{root: keys.state(), tx: tx}
		if err := st.bind(h.def, value, entries); err != nil {
			return err
		}
		reply, answer = h.runQuery(ctx, handler, message, st, value)
		return entries.failure()
	})
	if err != nil {
		return nil, h.named("query", err)
	}
	return reply, answer
}

func (h handle) runQuery(ctx context.Context, handler *handler, m Message, st state, value any) ([]byte, error) {
	c := &Context{turn: context.WithValue(ctx, turnKey{}, true), self: h.Ref(), query: true}
	before, err := st.diff(h.def, value)
	if err != nil {
		return nil, err
	}
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
	after, err := st.diff(h.def, value)
	if err != nil || !reflect.DeepEqual(before, after) {
		return nil, fmt.Errorf("dserver: the handler of %s changed the state: Query is for those that only read", m.Name)
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
	st, err := s.whole(ctx)
	if err != nil {
		return none, err
	}
	if st.version.IsZero() {
		return none, because(ErrNotFound, "%v has no state", s.Ref())
	}
	if s.def.schema == nil {
		return genericState[S](st.rows)
	}
	value, err := st.decode(s.def)
	if err != nil {
		return none, s.named("read the state", err)
	}
	return *value.(*S), nil
}

// whole reads the committed state in one snapshot.
func (h handle) whole(ctx context.Context) (st state, err error) {
	err = h.read(ctx, "read the state", func(tx backend.ReadTx, keys tenant) error {
		st, err = readState(tx, keys, func(int) []backend.Range { return allRows(keys) })
		return err
	})
	return st, err
}

// committed reads the state as a turn would: without the entries of tracked collections.
func (h handle) committed(tx backend.Reader, keys tenant) (state, error) {
	return readState(tx, keys, func(schema int) []backend.Range { return h.def.ownRows(keys, schema) })
}

func readState(tx backend.Reader, keys tenant, where func(schema int) []backend.Range) (st state, err error) {
	version, about := tx.Get(keys.version()), tx.Get(keys.meta())
	value, err := about.Get()
	if err != nil {
		return st, err
	}
	if value != nil {
		if err := decodeRecord(value, &st.meta); err != nil {
			return st, err
		}
	}
	if value, err = version.Get(); err != nil {
		return st, err
	}
	if st.version, err = backend.StampOf(value); err != nil {
		return st, err
	}
	st.rows, err = loadRows(tx, keys, where(st.meta.Schema))
	return st, err
}

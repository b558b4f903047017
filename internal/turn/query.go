package turn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/statediff"
)

// Query runs the handler of a message on a snapshot of the committed state. It fails when the handler changes anything.
func Query(ctx context.Context, db backend.Database, def *Definition, ref tenant.Ref, message tenant.Message) ([]byte, error) {
	handler := def.Handlers[message.Name]
	if handler == nil || !handler.Replies {
		return nil, tenant.Because(tenant.ErrNoHandler, "this definition of %q has no HandleCall for %s: query through the one that has", def.Name, message.Name)
	}
	var reply []byte
	var answer error // the handler's, or what is wrong with it
	keys := tenant.KeysOf(ref)
	err := db.Read(ctx, func(tx backend.ReadTx) error {
		st, err := committed(tx, keys, def)
		if err != nil {
			return err
		}
		value, err := st.Decode(def)
		if err != nil {
			return err
		}
		entries := &Loader{root: keys.State(), tx: tx}
		if err := st.bind(def, value, entries); err != nil {
			return err
		}
		reply, answer = runQuery(ctx, def, ref, handler, message, st, value)
		return entries.failure()
	})
	if err != nil {
		return nil, tenant.Doing("query", ref, err)
	}
	return reply, answer
}

func runQuery(ctx context.Context, def *Definition, ref tenant.Ref, handler *Handler, m tenant.Message, st State, value any) ([]byte, error) {
	s := &Scope{turn: context.WithValue(ctx, turnKey{}, true), self: ref, query: true}
	before, err := st.diff(def, value)
	if err != nil {
		return nil, err
	}
	reply, err := invoke(handler, s, value, m.Body)
	s.over.Store(true)
	f := asFault(err)
	switch {
	case f != nil:
		return nil, tenant.Because(tenant.ErrFault, "%s", f.Text)
	case err != nil:
		return nil, tenant.AsError(err)
	case s.err != nil:
		return nil, s.err
	}
	after, err := st.diff(def, value)
	if err != nil || !slices.EqualFunc(before, after, sameEdit) {
		return nil, fmt.Errorf("dserver: the handler of %s changed the state: Query is for those that only read", m.Name)
	}
	return reply, nil
}

func sameEdit(a, b statediff.Edit) bool {
	return a.Key == b.Key && a.Clear == b.Clear && bytes.Equal(a.Value, b.Value)
}

var errQueryChanges = errors.New("dserver: a query must not change or send anything")

// committed reads the state as a turn would: without the entries of tracked collections.
func committed(tx backend.Reader, keys tenant.Keys, def *Definition) (State, error) {
	return readState(tx, keys, func(schema int) []backend.Range { return def.ownRows(keys, schema) })
}

func readState(tx backend.Reader, keys tenant.Keys, where func(schema int) []backend.Range) (st State, err error) {
	version, about := tx.Get(keys.Version()), tx.Get(keys.Meta())
	value, err := about.Get()
	if err != nil {
		return st, err
	}
	if value != nil {
		if err := tenant.DecodeRecord(value, &st.Meta); err != nil {
			return st, err
		}
	}
	if value, err = version.Get(); err != nil {
		return st, err
	}
	if st.Version, err = backend.StampOf(value); err != nil {
		return st, err
	}
	st.Rows, err = LoadRows(tx, keys, where(st.Meta.Schema))
	return st, err
}

// Whole reads the committed state in one snapshot.
func Whole(ctx context.Context, db backend.Database, ref tenant.Ref) (st State, err error) {
	keys := tenant.KeysOf(ref)
	err = db.Read(ctx, func(tx backend.ReadTx) (err error) {
		st, err = readState(tx, keys, func(int) []backend.Range { return AllRows(keys) })
		return err
	})
	return st, tenant.Doing("read the state", ref, err)
}

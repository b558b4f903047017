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
	a, err := Ask(ctx, db, def, ref, message)
	if err != nil {
		return nil, err
	}
	return a.Reply, a.Err
}

// Answer is what a query found in one state: a reply, or why there is none.
type Answer struct {
	Reply []byte
	Err   error // the handler's, or what is wrong with it, or why the state could not be read by this program
}

// IsAs reports whether both say the same.
func (a Answer) IsAs(b Answer) bool {
	if a.Err != nil && b.Err != nil {
		return a.Err.Error() == b.Err.Error()
	}
	return a.Err == nil && b.Err == nil && bytes.Equal(a.Reply, b.Reply)
}

// Ask is Query, which tells an answer from an error of the store.
func Ask(ctx context.Context, db backend.Database, def *Definition, ref tenant.Ref, message tenant.Message) (a Answer, err error) {
	if err := def.Replies(message.Name); err != nil {
		return a, err
	}
	keys := tenant.KeysOf(ref)
	err = db.Read(ctx, func(tx backend.ReadTx) error {
		st, err := committed(tx, keys, def)
		if err != nil {
			return err
		}
		entries := &Loader{root: keys.State(), tx: tx}
		a = st.ask(ctx, def, ref, message, entries)
		return entries.failure()
	})
	return a, tenant.Doing("query", ref, err)
}

// AskWhole is Ask of a state of which all rows are there. It reads nothing, and takes the rows for itself.
func AskWhole(ctx context.Context, st State, def *Definition, ref tenant.Ref, message tenant.Message) Answer {
	if err := def.Replies(message.Name); err != nil {
		return Answer{Err: err}
	}
	return st.ask(ctx, def, ref, message, &Loader{})
}

// Replies is ErrNoHandler where no query of a message can be answered.
func (d *Definition) Replies(name string) error {
	if handler := d.Handlers[name]; handler != nil && handler.Replies {
		return nil
	}
	return tenant.Because(tenant.ErrNoHandler, "this definition of %q has no HandleCall for %s: query through the one that has", d.Name, name)
}

func (s State) ask(ctx context.Context, def *Definition, ref tenant.Ref, message tenant.Message, entries *Loader) Answer {
	value, err := s.Decode(def)
	if err == nil {
		err = s.bind(def, value, entries)
	}
	if err != nil {
		return Answer{Err: tenant.Doing("query", ref, err)}
	}
	reply, err := runQuery(ctx, def, ref, def.Handlers[message.Name], message, s, value)
	return Answer{reply, err}
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
	rows := startRows(tx, keys, def.ownRows(keys, def.Version))
	st, err := readAbout(tx, keys)
	if err != nil {
		return st, err
	}
	if st.Meta.Schema != def.Version && def.Form != nil && def.Form.Tracks() {
		rows = startRows(tx, keys, def.ownRows(keys, st.Meta.Schema))
	}
	st.Rows, err = rows()
	return st, err
}

// readAbout reads what is stored of a state beside its rows.
func readAbout(tx backend.Reader, keys tenant.Keys) (st State, err error) {
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
	st.Version, err = backend.StampOf(value)
	return st, err
}

// Whole reads the committed state in one snapshot.
func Whole(ctx context.Context, db backend.Database, ref tenant.Ref) (st State, err error) {
	keys := tenant.KeysOf(ref)
	err = db.Read(ctx, func(tx backend.ReadTx) (err error) {
		st, err = ReadWhole(tx, keys)
		return err
	})
	return st, tenant.Doing("read the state", ref, err)
}

// ReadWhole reads the committed state. The version tells whether it is still the same.
func ReadWhole(tx backend.Reader, keys tenant.Keys) (State, error) {
	rows := startRows(tx, keys, AllRows(keys))
	st, err := readAbout(tx, keys)
	if err != nil {
		return st, err
	}
	st.Rows, err = rows()
	return st, err
}

package turn

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/statediff"
)

// State is what a consumer knows of a server's state: the rows as they are committed under a version, and a Go value.
// The rows are the truth. The value is a handler's to change, and is given up when a handler fails.
type State struct {
	tenant.Known // the version is zero: the server has none
	quiet        quiet
	Rows         *statediff.Rows
	value        any // *S; nil when it must be decoded from rows
}

// LoadRows reads the committed rows, all of them, or without those of the tracked collections of def. The version decides
// whether they are still right, so it is what must be a conflict, and the rows are read as a snapshot.
func LoadRows(tx backend.Reader, keys tenant.Keys, ranges []backend.Range) (*statediff.Rows, error) {
	return startRows(tx, keys, ranges)()
}

// startRows begins LoadRows, so that what is read meanwhile is the same trip to a store.
func startRows(tx backend.Reader, keys tenant.Keys, ranges []backend.Range) (load func() (*statediff.Rows, error)) {
	reads := make([]backend.Future[[]backend.KeyValue], len(ranges))
	for i, r := range ranges {
		reads[i] = tx.GetRange(r, backend.RangeOptions{Snapshot: true})
	}
	return func() (*statediff.Rows, error) {
		root := keys.State()
		rows := statediff.NewRows()
		for _, read := range reads {
			pairs, err := read.Get()
			if err != nil {
				return nil, fmt.Errorf("load state: %w", err)
			}
			for _, pair := range pairs {
				rows.Set(string(pair.Key[len(root):]), pair.Value)
			}
		}
		return rows, nil
	}
}

// AllRows is where a whole state is.
func AllRows(keys tenant.Keys) []backend.Range { return []backend.Range{keys.State().Tree()} }

// ownRows is where a state is that a turn loads: without what its tracked collections load when they are asked. The rows
// of another version are read whole.
func (d *Definition) ownRows(keys tenant.Keys, schema int) []backend.Range {
	if d.Form == nil || !d.Form.Tracks() || schema != d.Version {
		return AllRows(keys)
	}
	root := keys.State()
	var ranges []backend.Range
	for _, r := range d.Form.Ranges() {
		ranges = append(ranges, backend.Range{Begin: root.Join(backend.Key(r.Begin)), End: root.Join(backend.Key(r.End))})
	}
	return ranges
}

// Decode makes a value of the rows that no handler has touched.
func (s State) Decode(def *Definition) (any, error) {
	if !s.Version.IsZero() && s.Meta.Schema != def.Version {
		return decodeOlder(def, s.Meta.Schema, s.Rows)
	}
	return decodeRows(def, s.Rows)
}

// decodeRows makes a value of rows. A type of the user's that panics when it reads what it wrote cannot read it.
func decodeRows(def *Definition, rows *statediff.Rows) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			value, err = nil, errUnreadable(def, rows, fmt.Errorf("panic: %v", p), "mend the method that reads it")
		}
	}()
	value = def.Form.New()
	if err := def.Form.Decode(rows, value); err != nil {
		return nil, errUnreadable(def, rows, err, fmt.Sprintf("it was stored as schema version %d; give the field back its type, or another name, "+
			"or write an Upgrade[Old](%d, ...) with the type as it was (Define at %s)", def.Version, def.Version, def.Place))
	}
	return value, nil
}

// diff is what has to be written for value to be the state: all of it when the rows have an older form, of which then goes
// what the older version knew and this one does not.
func (s State) diff(def *Definition, value any) ([]statediff.Edit, error) {
	if s.Version.IsZero() || s.Meta.Schema == def.Version {
		return def.Form.Diff(s.Rows, value)
	}
	return def.Form.Rewrite(s.Rows, def.Upgrades[s.Meta.Schema].Form, value)
}

// bind lets the tracked collections of a value load their entries. Those of an upgraded value hold all of theirs.
func (s State) bind(def *Definition, value any, l *Loader) error {
	if s.Version.IsZero() || s.Meta.Schema == def.Version {
		return def.Form.Bind(value, l)
	}
	return nil
}

// withEdits is a copy of rows after edits.
func withEdits(rows *statediff.Rows, edits []statediff.Edit) *statediff.Rows {
	changed := rows.Clone()
	changed.Apply(edits)
	return changed
}

// writeEdits stores what statediff asks for.
func writeEdits(tx backend.Tx, root backend.Key, edits []statediff.Edit) {
	for _, e := range edits {
		key := root.Join(backend.Key(e.Key))
		switch e.Clear {
		case statediff.None:
			tx.Set(key, e.Value)
		case statediff.Only:
			tx.Clear(key.Only())
		case statediff.Tree:
			tx.Clear(key.Tree())
		}
	}
}

package dserver

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// state is what a consumer knows of a server's state: the rows as they are committed under a version, and a Go value.
// The rows are the truth. The value is a handler's to change, and is given up when a handler fails.
type state struct {
	version backend.Versionstamp // zero: the server has none
	meta    meta
	quiet   quiet
	rows    *statediff.Rows
	value   any // *S; nil when it must be decoded from rows
}

// loadRows reads the committed rows, all of them, or without those of the tracked collections of def. The version decides
// whether they are still right, so it is what must be a conflict, and the rows are read as a snapshot.
func loadRows(tx backend.Reader, keys tenant, ranges []backend.Range) (*statediff.Rows, error) {
	reads := make([]backend.Future[[]backend.KeyValue], len(ranges))
	for i, r := range ranges {
		reads[i] = tx.GetRange(r, backend.RangeOptions{Snapshot: true})
	}
	root := keys.state()
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

// allRows is where a whole state is.
func allRows(keys tenant) []backend.Range { return []backend.Range{keys.state().Tree()} }

// ownRows is where a state is that a turn loads: without what its tracked collections load when they are asked. The rows
// of another version are read whole.
func (d *definition) ownRows(keys tenant, schema int) []backend.Range {
	if d.schema == nil || !d.schema.Tracks() || schema != d.version {
		return allRows(keys)
	}
	root := keys.state()
	var ranges []backend.Range
	for _, r := range d.schema.Ranges() {
		ranges = append(ranges, backend.Range{Begin: root.Join(backend.Key(r.Begin)), End: root.Join(backend.Key(r.End))})
	}
	return ranges
}

// decode makes a value of the rows that no handler has touched.
func (s state) decode(def *definition) (any, error) {
	if !s.version.IsZero() && s.meta.Schema != def.version {
		return decodeOlder(def, s.meta.Schema, s.rows)
	}
	return decodeRows(def, s.rows)
}

// decodeRows makes a value of rows. A type of the user's that panics when it reads what it wrote cannot read it.
func decodeRows(def *definition, rows *statediff.Rows) (value any, err error) {
	defer func() {
		if p := recover(); p != nil {
			value, err = nil, errUnreadable(def, rows, fmt.Errorf("panic: %v", p), "mend the method that reads it")
		}
	}()
	value = def.schema.New().Interface()
	if err := def.schema.Decode(rows, value); err != nil {
		return nil, errUnreadable(def, rows, err, fmt.Sprintf("it was stored as schema version %d; give the field back its type, or another name, "+
			"or write an Upgrade[Old](%d, ...) with the type as it was (Define at %s)", def.version, def.version, def.place))
	}
	return value, nil
}

// diff is what has to be written for value to be the state: all of it when the rows have an older form, of which then goes
// what the older version knew and this one does not.
func (s state) diff(def *definition, value any) ([]statediff.Edit, error) {
	if s.version.IsZero() || s.meta.Schema == def.version {
		return def.schema.Diff(s.rows, value)
	}
	return def.schema.Rewrite(s.rows, def.upgrades[s.meta.Schema].schema, value)
}

// bind lets the tracked collections of a value load their entries. Those of an upgraded value hold all of theirs.
func (s state) bind(def *definition, value any, l *loader) error {
	if s.version.IsZero() || s.meta.Schema == def.version {
		return def.schema.Bind(value, l)
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

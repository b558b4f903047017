package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// What the members of a group have read, read again while the clock's lock is held: 3 of commit.go.

// noLook is what is known without a look.
type noLook struct{}

func (noLook) Value(backend.Key) ([]byte, error)               { return nil, errNeedsLook }
func (noLook) Pairs(backend.Range) ([]backend.KeyValue, error) { return nil, errNeedsLook }

// current is what the members of a group have read, read again under the clock's lock.
type current struct {
	ctx    context.Context
	conn   *connection
	values map[string][]byte
	ranges map[string]int // the place of a range in pairs, by its ends
	pairs  [][]backend.KeyValue
}

// look takes the lock and reads again what the members have read. It reports whether the row of this session's last commit
// is there.
func (w *writer) look(members []*occ.Tx) (now *current, clock int64, isOurs bool, err error) {
	c, ctx := w.conn, w.db.life
	now = &current{ctx: ctx, conn: c, values: map[string][]byte{}, ranges: map[string]int{}}
	var keys, begins, ends array
	for _, t := range members {
		t.Expects(func(key backend.Key, _ []byte) {
			if _, isKnown := now.values[string(key)]; !isKnown && len(key) < headBytes {
				now.values[string(key)] = nil
				keys.add(key)
			}
		}, func(r backend.Range, _ []backend.KeyValue) {
			if _, isKnown := now.ranges[rangeName(r)]; !isKnown && !isLong(r) {
				now.ranges[rangeName(r)] = begins.count
				begins.add(r.Begin)
				ends.add(r.End)
			}
		})
	}
	now.pairs = make([][]backend.KeyValue, begins.count)
	b := &bundle{c: c}
	b.begin()
	if c.isPooled {
		b.add(c.sql.settings)
	}
	b.add(c.sql.bound)
	b.add(c.sql.lock)
	first := len(b.sqls)
	b.add(c.sql.clock, int64Parameter(w.session), int64Parameter(w.last))
	if keys.count > 0 {
		b.add(c.sql.keys, keys.parameter())
	}
	if begins.count > 0 {
		b.add(c.sql.ranges, begins.parameter(), ends.parameter())
	}
	results, err := b.send(ctx)
	if err != nil {
		return nil, 0, false, err
	}
	taken := now.read(results, first, keys.count > 0)
	return now, taken >> 1, taken&1 == 1, results.Close()
}

// read reads the answers to the clock, the keys and the ranges, which come after so many others.
func (n *current) read(results *pgconn.MultiResultReader, first int, hasKeys bool) (taken int64) {
	for ; first > 0 && results.NextResult(); first-- {
		_, _ = results.ResultReader().Close() // an error is that of the batch
	}
	if results.NextResult() {
		taken = firstOf(results.ResultReader())
	}
	if hasKeys && results.NextResult() {
		for _, kv := range pairsOf(results.ResultReader()) {
			n.values[string(kv.Key)] = kv.Value
		}
	}
	if results.NextResult() {
		for result := results.ResultReader(); result.NextRow(); {
			row := result.Values()
			i := int64Of(row[0]) - 1
			n.pairs[i] = append(n.pairs[i], backend.KeyValue{Key: slices.Clone(row[1]), Value: notNull(slices.Clone(row[2]))})
		}
	}
	return taken
}

// firstOf is the number that a result brings.
func firstOf(result *pgconn.ResultReader) (n int64) {
	for result.NextRow() {
		n = int64Of(result.Values()[0])
	}
	return n
}

func rangeName(r backend.Range) string {
	return fmt.Sprint(len(r.Begin), " ", string(r.Begin), string(r.End))
}

func isLong(r backend.Range) bool { return len(r.Begin) > headBytes || len(r.End) > headBytes }

// Value implements [occ.Current].
func (n *current) Value(key backend.Key) ([]byte, error) {
	if len(key) < headBytes {
		return n.values[string(key)], nil
	}
	q := &query{r: key.Only(), isKey: true}
	err := n.conn.read(n.ctx, []*query{q}, false)
	return q.value, err
}

// Pairs implements [occ.Current]. Where long keys are in the range it is read as a transaction reads it.
func (n *current) Pairs(r backend.Range) ([]backend.KeyValue, error) {
	if place, isKnown := n.ranges[rangeName(r)]; isKnown && !slices.ContainsFunc(n.pairs[place], isHead) {
		return n.pairs[place], nil
	}
	q := &query{r: r}
	err := n.conn.read(n.ctx, []*query{q}, false)
	return q.pairs, err
}

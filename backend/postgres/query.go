package postgres

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// query is a read that was started.
type query struct {
	r     backend.Range // of a key, its own
	o     backend.RangeOptions
	isKey bool

	isDone bool
	value  []byte
	pairs  []backend.KeyValue
	cut    bool
	err    error
}

// read carries out queries in one round trip, after the begin of their transaction where isFirst says so.
func (c *connection) read(ctx context.Context, queries []*query, isFirst bool) error {
	var asks []ask
	if isFirst {
		begin := c.sql.begin
		if c.isDirty {
			begin, c.isDirty = c.sql.chain, false
		}
		asks = append(asks, ask{sql: begin})
		if c.isPooled {
			asks = append(asks, ask{sql: c.sql.settings})
		}
	}
	asks = c.askFor(asks, queries)
	var b pgconn.Batch
	for _, a := range asks {
		if err := c.prepare(ctx, a.sql); err != nil {
			return err
		}
		c.add(&b, a.sql, a.parameters...)
	}
	results := c.pg.ExecBatch(ctx, &b)
	for i := 0; i < len(asks) && results.NextResult(); i++ {
		result := results.ResultReader()
		if asks[i].take != nil {
			asks[i].take(result)
		}
		_, _ = result.Close() // an error is that of the batch
	}
	if err := results.Close(); err != nil {
		return err
	}
	c.isDirty = c.isDirty || isFirst
	for _, q := range queries {
		if err := c.complete(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// ask is a statement, and who reads its answer.
type ask struct {
	sql        string
	parameters [][]byte
	take       func(*pgconn.ResultReader)
}

// askFor adds the statements for queries: one for all that are alike, as far as there are any.
func (c *connection) askFor(asks []ask, queries []*query) []ask {
	if len(queries) == 1 {
		return append(asks, c.askOne(queries[0]))
	}
	alike := map[string][]*query{}
	for _, q := range queries {
		sql := c.sql.of(q)
		alike[sql] = append(alike[sql], q)
	}
	for sql, queries := range alike {
		switch {
		case len(queries) == 1 || sql == c.sql.backward || sql == c.sql.backwardBytes:
			for _, q := range queries {
				asks = append(asks, c.askOne(q))
			}
		case sql == c.sql.get:
			asks = append(asks, c.askKeys(queries))
		case sql == c.sql.forward:
			asks = append(asks, askRanges(c.sql.scans, queries))
		default:
			asks = append(asks, askRanges(c.sql.scansBytes, queries))
		}
	}
	return asks
}

func (c *connection) askOne(q *query) ask {
	sql, parameters := c.queryOf(q, stored(q.r))
	return ask{sql, parameters, q.take}
}

// askKeys asks for several keys.
func (c *connection) askKeys(queries []*query) ask {
	var keys array
	byKey := make(map[string][]*query, len(queries))
	for _, q := range queries {
		key := string(q.r.Begin)
		if byKey[key] == nil {
			keys.add(q.r.Begin)
		}
		byKey[key] = append(byKey[key], q)
	}
	return ask{c.sql.keys, [][]byte{keys.parameter()}, func(result *pgconn.ResultReader) {
		for result.NextRow() {
			row := result.Values()
			for _, q := range byKey[string(row[0])] {
				q.value = append([]byte{}, row[1]...)
			}
		}
	}}
}

// askRanges asks for several ranges, forwards.
func askRanges(sql string, queries []*query) ask {
	begins, ends := array{}, array{}
	limits, sizes := array{oid: oidInt8}, array{oid: oidInt8}
	for _, q := range queries {
		r := stored(q.r)
		begins.add(r.Begin)
		ends.add(r.End)
		limits.add(int64Parameter(int64(cmp.Or(q.pageRows(), math.MaxInt64))))
		sizes.add(int64Parameter(int64(q.o.Bytes)))
	}
	parameters := [][]byte{begins.parameter(), ends.parameter(), limits.parameter(), sizes.parameter()}
	return ask{sql, parameters, func(result *pgconn.ResultReader) {
		found := make([]pairs, len(queries))
		for result.NextRow() {
			row := result.Values()
			found[int64Of(row[0])-1].add(row[1], row[2])
		}
		for i, q := range queries {
			q.pairs = found[i].all
			if !slices.IsSortedFunc(q.pairs, comparePairs) { // no plan is known that does this
				slices.SortFunc(q.pairs, comparePairs)
			}
		}
	}}
}

func comparePairs(a, b backend.KeyValue) int { return a.Key.Compare(b.Key) }

// of is the statement that carries out q.
func (s *statements) of(q *query) string {
	switch {
	case q.isKey && len(q.r.Begin) < headBytes:
		return s.get
	case q.o.Bytes > 0 && q.o.Reverse:
		return s.backwardBytes
	case q.o.Bytes > 0:
		return s.forwardBytes
	case q.o.Reverse:
		return s.backward
	}
	return s.forward
}

// queryOf is the statement that carries out q, for the rows of r.
func (c *connection) queryOf(q *query, r backend.Range) (sql string, parameters [][]byte) {
	sql = c.sql.of(q)
	if sql == c.sql.get {
		return sql, [][]byte{notNull(q.r.Begin)}
	}
	var limit []byte
	if n := q.pageRows(); n > 0 {
		limit = int64Parameter(int64(n))
	}
	parameters = [][]byte{notNull(r.Begin), r.End, limit}
	if q.o.Bytes > 0 {
		parameters = append(parameters, int64Parameter(int64(q.o.Bytes)))
	}
	return sql, parameters
}

// pageRows is how many rows one statement brings at most; 0 is no limit.
func (q *query) pageRows() int {
	if q.o.Limit == 0 && q.o.Bytes > 0 {
		return pageRows
	}
	return q.o.Limit
}

// notNull is b, which the driver would take for NULL where it is nil.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// take reads the answer to q.
func (q *query) take(result *pgconn.ResultReader) {
	if q.isKey && len(q.r.Begin) < headBytes {
		for result.NextRow() {
			q.value = append([]byte{}, result.Values()[0]...)
		}
	} else {
		q.pairs = pairsOf(result)
	}
}

// complete does what is left after the first page of a range: the long keys in it, and the rest of it, where the page
// and not the range had an end.
func (c *connection) complete(ctx context.Context, q *query) error {
	if q.isKey && len(q.r.Begin) < headBytes {
		return nil
	}
	page := q.pairs
	rest := stored(q.r)
	if !slices.ContainsFunc(page, isHead) { // as is usual
		if q.cut = occ.Reached(q.o, len(page), sizeOf(page)); q.cut || !q.isFull(page) {
			return nil
		}
	}
	q.pairs = nil
	for {
		if err := c.expand(ctx, q, page); err != nil {
			return err
		}
		if q.cut || !q.isFull(page) {
			break
		}
		if rest = beyond(rest, page[len(page)-1].Key, q.o.Reverse); rest.IsEmpty() {
			break
		}
		var err error
		if page, err = c.page(ctx, q, rest); err != nil {
			return err
		}
	}
	if q.isKey && len(q.pairs) > 0 {
		q.value = q.pairs[0].Value
	}
	return nil
}

// expand adds a page to the pairs of q, with what is stored for the heads in it, until a limit of q is reached.
func (c *connection) expand(ctx context.Context, q *query, page []backend.KeyValue) error {
	size := sizeOf(q.pairs)
	for i := range page {
		found := page[i : i+1]
		if isHead(page[i]) {
			var err error
			if found, err = c.longs(ctx, page[i].Key, q); err != nil {
				return err
			}
		}
		for _, kv := range found {
			q.pairs = append(q.pairs, kv)
			size += len(kv.Key) + len(kv.Value)
			if q.cut = occ.Reached(q.o, len(q.pairs), size); q.cut {
				return nil
			}
		}
	}
	return nil
}

// isFull reports whether a page had an end of its own, so that there may be more.
func (q *query) isFull(page []backend.KeyValue) bool {
	rows := q.pageRows()
	return rows > 0 && len(page) >= rows || q.o.Bytes > 0 && sizeOf(page) >= q.o.Bytes
}

// isHead reports whether a row stands for the long keys that begin with its own.
func isHead(kv backend.KeyValue) bool { return len(kv.Key) == headBytes }

func sizeOf(pairs []backend.KeyValue) int {
	n := 0
	for _, kv := range pairs {
		n += len(kv.Key) + len(kv.Value)
	}
	return n
}

// page reads the next rows of q, those of r.
func (c *connection) page(ctx context.Context, q *query, r backend.Range) ([]backend.KeyValue, error) {
	var b pgconn.Batch
	sql, parameters := c.queryOf(q, r)
	if err := c.prepare(ctx, sql); err != nil { // it may have been asked for with others
		return nil, err
	}
	c.add(&b, sql, parameters...)
	results := c.pg.ExecBatch(ctx, &b)
	var pairs []backend.KeyValue
	if results.NextResult() {
		pairs = pairsOf(results.ResultReader())
	}
	return pairs, results.Close()
}

// beyond is the part of r that is still to be read after the row of last.
func beyond(r backend.Range, last backend.Key, reverse bool) backend.Range {
	if reverse {
		return backend.Range{Begin: r.Begin, End: last}
	}
	return backend.Range{Begin: last.Only().End, End: r.End}
}

// stored is the range of the rows of kv that hold r: its own, or from the head of its begin to that of its end.
func stored(r backend.Range) backend.Range {
	if len(r.Begin) > headBytes {
		r.Begin = r.Begin[:headBytes]
	}
	if len(r.End) > headBytes {
		r.End = r.End[:headBytes:headBytes].Only().End
	}
	return r
}

// longs reads the keys of q's range that have this head.
func (c *connection) longs(ctx context.Context, head backend.Key, q *query) ([]backend.KeyValue, error) {
	if err := c.prepare(ctx, c.sql.longs); err != nil {
		return nil, err
	}
	var b pgconn.Batch
	c.add(&b, c.sql.longs, head, notNull(q.r.Begin), q.r.End)
	results := c.pg.ExecBatch(ctx, &b)
	var pairs []backend.KeyValue
	if results.NextResult() {
		pairs = pairsOf(results.ResultReader())
	}
	if q.o.Reverse {
		slices.Reverse(pairs)
	}
	return pairs, results.Close()
}

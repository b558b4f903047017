package postgres

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
)

// connection is one to the server, with the statements that it has prepared. It belongs to one goroutine at a time.
type connection struct {
	pg   *pgconn.PgConn
	o    *options
	sql  *statements
	made map[string]string // the names of the statements that are prepared

	isPooled bool      // by something that refuses settings at the start: they are set in each transaction
	isBroken bool      // it is closed, and not used again
	isDirty  bool      // a transaction was begun, and is still open when nobody uses it any more
	usedAt   time.Time // when a transaction gave it back
	warned   bool      // the server has warned of something since the flag was taken down
}

// statements are what is sent, in the words of one schema.
type statements struct {
	// Of a snapshot.
	begin, chain, settings, get, forward, forwardBytes, backward, backwardBytes, longs string
	scans, scansBytes                                                                  string

	// Of a commit, in their order.
	beginCommit, bound, lock, relax, clock, keys, ranges, compare         string
	advance, leap, forget, wipe, wipeLong, remove, set, add, long, commit string

	raise, resolve, look, hear, enter string
}

// A range that stops after so many bytes looks at the lengths of what its limit lets it look at: without a limit, of so
// many rows.
const pageRows = 1000

func newStatements(o *options) *statements {
	const page = `SELECT k, v FROM (SELECT k, v, sum(octet_length(k) + octet_length(v)) OVER (ORDER BY k %[1]s
		ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - octet_length(k) - octet_length(v) AS before
		FROM (SELECT k, v FROM $S.kv WHERE k >= $1 AND k < $2 ORDER BY k %[1]s LIMIT $3) AS page) AS sums
		WHERE before < $4 ORDER BY k %[1]s`
	s := &statements{
		begin:         "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
		chain:         "ROLLBACK AND CHAIN",
		settings:      "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)",
		get:           "SELECT v FROM $S.kv WHERE k = $1",
		forward:       "SELECT k, v FROM $S.kv WHERE k >= $1 AND k < $2 ORDER BY k LIMIT $3",
		backward:      "SELECT k, v FROM $S.kv WHERE k >= $1 AND k < $2 ORDER BY k DESC LIMIT $3",
		forwardBytes:  fmt.Sprintf(page, ""),
		backwardBytes: fmt.Sprintf(page, "DESC"),
		longs:         "SELECT head || rest, v FROM $S.long WHERE head = $1 AND head || rest >= $2 AND head || rest < $3 ORDER BY rest",
		resolve:       "SELECT $S.resolve($1, $2)",
		look:          "SELECT $S.look()",
		hear:          "SELECT $S.hear($1)",
		enter:         "SELECT $S.enter($1)",
	}
	const many = `SELECT r.i, o.k, o.v FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[])
		WITH ORDINALITY AS r (b, e, n, m, i), LATERAL (%s) AS o`
	s.scans = fmt.Sprintf(many, forMany.Replace(s.forward))
	s.scansBytes = fmt.Sprintf(many, forMany.Replace(s.forwardBytes))
	s.ofCommit()
	for _, q := range []*string{&s.get, &s.forward, &s.backward, &s.forwardBytes, &s.backwardBytes, &s.longs, &s.scans,
		&s.scansBytes, &s.lock, &s.bound, &s.clock, &s.keys, &s.ranges, &s.compare, &s.advance, &s.leap, &s.forget, &s.wipe,
		&s.wipeLong, &s.remove, &s.set, &s.add, &s.long, &s.raise, &s.resolve, &s.look, &s.hear, &s.enter} {
		*q = o.expand(*q)
	}
	return s
}

// forMany makes a statement one for each row of r.
var forMany = strings.NewReplacer("$1", "r.b", "$2", "r.e", "$3", "r.n", "$4", "r.m")

// ofCommit are the statements of commit.go:
//
//   - bound bounds how long the server waits for the second step of a commit, and lock takes the clock's lock;
//   - clock is twice the clock, plus one where the row of this session's last commit is there; keys and ranges are read
//     again;
//   - compare fails where a key has not the value that is expected, or a range not as many rows;
//   - advance moves the clock, writes the row of the commit and notifies other sessions that listen. It tells where the
//     clock was, and whether others listen. Where the clock is not the one that is expected, or the row of the last commit
//     is not there, it fails; leap does so where the clock has passed the one that is given;
//   - raise moves the clock as far as an attempt would have moved it, so that it fails when it comes later;
//   - the others write. Of a head that stands at an end of a range, only a part may be in the range.
func (s *statements) ofCommit() {
	s.beginCommit = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
	s.lock = "SELECT pg_advisory_xact_lock($L, '$S.clock'::regclass::oid::integer)"
	s.bound = "SELECT set_config('idle_in_transaction_session_timeout', '$T', true)"
	s.relax = "SELECT set_config('synchronous_commit', 'off', true)"
	const ours = "EXISTS (SELECT FROM $S.commits WHERE session = $1 AND attempt = $2::bigint)"
	s.clock = "SELECT last_value * 2 + " + ours + "::integer FROM $S.clock"
	s.keys = "SELECT k, v FROM $S.kv WHERE k = ANY ($1)"
	s.ranges = "SELECT r.i, o.k, o.v FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS r (b, e, i), " +
		"LATERAL (SELECT k, v FROM $S.kv WHERE k >= r.b AND k < r.e ORDER BY k) AS o ORDER BY r.i, o.k"
	s.compare = "SELECT CASE WHEN EXISTS (SELECT FROM unnest($1::bytea[], $2::bytea[]) AS e (k, v) " +
		"WHERE (SELECT o.v FROM $S.kv AS o WHERE o.k = e.k) IS DISTINCT FROM e.v) " +
		"OR EXISTS (SELECT FROM unnest($3::bytea[], $4::bytea[], $5::bigint[]) AS r (b, e, n) WHERE " +
		"(SELECT count(*) FROM (SELECT FROM $S.kv WHERE k >= r.b AND k < r.e LIMIT r.n + 1) AS o) <> r.n) " +
		"THEN $S.moved() END"
	const advance = "WITH commit AS (INSERT INTO $S.commits VALUES ($1, $3)) " +
		"SELECT last_value, CASE WHEN last_value %s $4 AND ($2::bigint < 0 OR " + ours + ") THEN setval('$S.clock', $5::bigint) " +
		"ELSE $S.moved() END, CASE WHEN EXISTS (SELECT FROM $S.sessions WHERE hears AND id <> $1) " +
		"THEN (pg_notify('$C', $1 || ' ' || $5::bigint || ' ' || coalesce($6, '*')) IS NOT NULL)::integer + 1 " +
		"ELSE 0 END FROM $S.clock"
	s.advance, s.leap = fmt.Sprintf(advance, "="), fmt.Sprintf(advance, "<=")
	s.raise = "SELECT setval('$S.clock', greatest(last_value, $1::bigint)) FROM $S.clock"
	s.forget = "DELETE FROM $S.commits WHERE session = $1 AND attempt > $2 AND attempt <= $3"
	s.wipe = "WITH r AS (SELECT * FROM unnest($1::bytea[], $2::bytea[]) AS r (b, e)), " +
		"part AS (DELETE FROM $S.long USING r WHERE head >= b AND head < e) " +
		"DELETE FROM $S.kv USING r WHERE k >= b AND k < e"
	s.wipeLong = "WITH part AS (DELETE FROM $S.long WHERE head >= substring($1::bytea FROM 1 FOR $H) " +
		"AND head <= substring($2::bytea FROM 1 FOR $H) AND head || rest >= $1 AND head || rest < $2) " +
		"DELETE FROM $S.kv WHERE k >= $1 AND k < $2 AND (octet_length(k) < $H OR " +
		"NOT EXISTS (SELECT FROM $S.long WHERE head = k AND NOT (head || rest >= $1 AND head || rest < $2)))"
	s.remove = "DELETE FROM $S.kv WHERE k = ANY ($1)"
	s.set = "INSERT INTO $S.kv SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
	s.add = "INSERT INTO $S.kv AS o SELECT * FROM unnest($1::bytea[], $2::bytea[]) " +
		"ON CONFLICT (k) DO UPDATE SET v = $S.plus(o.v, excluded.v) RETURNING k, v"
	s.long = "SELECT $S.write_long($1, $2, $3, $4)"
	s.commit = "COMMIT"
}

// settings keep the planner from reading a table as a whole, as it would while it is small: the plan would stay when the
// table has grown. A pooler may refuse them.
var settings = map[string]string{ //nolint:gochecknoglobals // a constant
	"enable_seqscan": "off", "enable_bitmapscan": "off", "jit": "off",
}

// connect opens a connection.
func (db *DB) connect(ctx context.Context) (*connection, error) { return db.connectTo(ctx, db.config) }

func (db *DB) connectTo(ctx context.Context, config *pgconn.Config) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	c := &connection{o: &db.options, sql: db.sql, made: map[string]string{}}
	config = config.Copy()
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { c.warned = c.warned || n.SeverityUnlocalized == "WARNING" }
	config.OnNotification = db.heard
	if db.options.dial != nil {
		config.DialFunc = db.options.dial
	}
	plain := maps.Clone(config.RuntimeParams)
	maps.Copy(config.RuntimeParams, settings)
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil && codeOf(err) == codeUnknownParameter {
		config.RuntimeParams, c.isPooled = plain, true
		pg, err = pgconn.ConnectConfig(ctx, config)
	}
	if err != nil {
		return nil, judge("connect", err)
	}
	c.pg = pg
	if pg.ParameterStatus("in_hot_standby") == "on" { // what it has is old
		c.close()
		return nil, &standby{}
	}
	return c, nil
}

// close ends the connection. What is under way on it ends in the server by itself.
func (c *connection) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	_ = c.pg.Close(ctx) // nothing waits for it
}

// The limits of what a connection's begin and end take.
const (
	connectWait = 10 * time.Second
	closeWait   = 100 * time.Millisecond
)

// script runs statements that bring no rows.
func (c *connection) script(ctx context.Context, sql string) error {
	return c.pg.Exec(ctx, sql).Close()
}

// row runs a statement that is used seldom and returns its first row.
func (c *connection) row(ctx context.Context, sql string) ([][]byte, error) {
	result := c.pg.ExecParams(ctx, sql, nil, nil, nil, resultsBinary).Read()
	switch {
	case result.Err != nil:
		return nil, result.Err
	case len(result.Rows) == 0:
		return nil, errors.New("postgres: no row where one has to be")
	}
	// The texts among them are the same in both formats.
	return result.Rows[0], nil
}

var resultsBinary = []int16{1} //nolint:gochecknoglobals // a constant

// allBinary are the formats of so many parameters.
func allBinary(n int) []int16 {
	if n == 0 {
		return nil
	}
	return resultsBinary // one stands for all
}

// prepare prepares a statement if it is not.
func (c *connection) prepare(ctx context.Context, sql string) error {
	if c.o.unprepared || c.made[sql] != "" {
		return nil
	}
	name := fmt.Sprint("dserver", len(c.made))
	if _, err := c.pg.Prepare(ctx, name, sql, nil); err != nil {
		return err
	}
	c.made[sql] = name
	return nil
}

// bundle is several statements that go out together.
type bundle struct {
	c          *connection
	isBegun    bool // a transaction that a COMMIT has to end
	sqls       []string
	parameters [][][]byte
}

// begin begins the transaction of a commit. It sees what was committed before each of its statements, whatever the isolation
// is elsewhere.
func (b *bundle) begin() {
	b.add(b.c.sql.beginCommit)
	b.isBegun = true
}

func (b *bundle) add(sql string, parameters ...[]byte) {
	b.sqls = append(b.sqls, sql)
	b.parameters = append(b.parameters, parameters)
}

// send prepares what is not, and sends all of it. Without a BEGIN in it, it is one transaction.
func (b *bundle) send(ctx context.Context) (*pgconn.MultiResultReader, error) {
	if err := b.c.prepareAll(ctx, b.sqls...); err != nil {
		return nil, err
	}
	var batch pgconn.Batch
	for i, sql := range b.sqls {
		b.c.add(&batch, sql, b.parameters[i]...)
	}
	return b.c.pg.ExecBatch(ctx, &batch), nil
}

// add puts a statement into a batch. It is prepared.
func (c *connection) add(b *pgconn.Batch, sql string, parameters ...[]byte) {
	if c.o.unprepared {
		b.ExecParams(sql, parameters, nil, allBinary(len(parameters)), resultsBinary)
		return
	}
	b.ExecPrepared(c.made[sql], parameters, allBinary(len(parameters)), resultsBinary)
}

// one runs a prepared statement of its own and returns the number that it brings.
func (c *connection) one(ctx context.Context, sql string, parameters ...[]byte) (int64, error) {
	if err := c.prepare(ctx, sql); err != nil {
		return 0, err
	}
	var result *pgconn.ResultReader
	if c.o.unprepared {
		result = c.pg.ExecParams(ctx, sql, parameters, nil, allBinary(len(parameters)), resultsBinary)
	} else {
		result = c.pg.ExecPrepared(ctx, c.made[sql], parameters, allBinary(len(parameters)), resultsBinary)
	}
	n, isThere := int64(0), false
	for result.NextRow() {
		n, isThere = int64Of(result.Values()[0]), true
	}
	_, err := result.Close()
	if err == nil && !isThere {
		err = errors.New("postgres: no row where one has to be")
	}
	return n, err
}

// int64Of reads an integer of the server's, of four or eight bytes.
func int64Of(b []byte) int64 {
	switch len(b) {
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b)))
	case 8:
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func int64Parameter(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// The types of what arrays hold.
const (
	oidBytea = 17
	oidInt8  = 20
)

// array is a parameter that holds several, as the protocol has it, of bytea where nothing else is said.
type array struct {
	bytes    []byte
	count    int
	oid      uint32
	hasNulls byte
}

const arrayHead = 20 // dimensions, whether there is a null, type, length, first index

func (a *array) add(element []byte) {
	if a.bytes == nil {
		a.bytes = make([]byte, arrayHead, arrayHead+64)
	}
	a.bytes = binary.BigEndian.AppendUint32(a.bytes, uint32(len(element)))
	a.bytes = append(a.bytes, element...)
	a.count++
}

// addOrNull adds a NULL for nil.
func (a *array) addOrNull(element []byte) {
	a.add(element)
	if element == nil {
		binary.BigEndian.PutUint32(a.bytes[len(a.bytes)-4:], math.MaxUint32)
		a.hasNulls = 1
	}
}

// parameter is the array.
func (a *array) parameter() []byte {
	if a.count == 0 {
		return []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(cmp.Or(a.oid, oidBytea))}
	}
	binary.BigEndian.PutUint32(a.bytes[0:], 1)
	binary.BigEndian.PutUint32(a.bytes[4:], uint32(a.hasNulls))
	binary.BigEndian.PutUint32(a.bytes[8:], cmp.Or(a.oid, oidBytea))
	binary.BigEndian.PutUint32(a.bytes[12:], uint32(a.count))
	binary.BigEndian.PutUint32(a.bytes[16:], 1)
	return a.bytes
}

// pairsOf reads the pairs that a statement brings.
func pairsOf(result *pgconn.ResultReader) []backend.KeyValue {
	var p pairs
	for result.NextRow() {
		row := result.Values()
		p.add(row[0], row[1])
	}
	return p.all
}

// pairs are gathered in few pieces of memory.
type pairs struct {
	all    []backend.KeyValue
	memory []byte
}

const (
	pairsMin = 512
	pairsMax = 64 << 10
)

func (p *pairs) add(key, value []byte) {
	if need := len(key) + len(value); need > cap(p.memory)-len(p.memory) {
		p.memory = make([]byte, 0, max(need, min(2*cap(p.memory), pairsMax), pairsMin))
	}
	begin := len(p.memory)
	p.memory = append(append(p.memory, key...), value...)
	middle, end := begin+len(key), len(p.memory)
	p.all = append(p.all, backend.KeyValue{Key: p.memory[begin:middle:middle], Value: p.memory[middle:end:end]})
}

// prepareAll prepares several statements.
func (c *connection) prepareAll(ctx context.Context, sqls ...string) error {
	for _, sql := range sqls {
		if err := c.prepare(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

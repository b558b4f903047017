package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/open"
)

// On PostgreSQL, with PG=1, the subject is the same program, and the baselines are hand-written on its driver: (a) an
// UPDATE for each increment, (b) one goroutine that gathers those that wait into one statement. All run against the
// database of PGTEST_URL, in schemas that are removed afterwards.
var (
	durablePG = entry{name: "DServer on PostgreSQL", open: openDurablePG}
	remotePG  = entry{name: "DServer on PostgreSQL, consumer in another process", open: openRemotePG(1)}
	twoPG     = entry{name: "DServer on PostgreSQL, 2 consumer processes", open: openRemotePG(2)}
	fourPG    = entry{name: "DServer on PostgreSQL, 4 consumer processes", open: openRemotePG(4)}
	eightPG   = entry{name: "DServer on PostgreSQL, 8 consumer processes", open: openRemotePG(8)}
	singlePG  = entry{name: "(a) PostgreSQL, UPDATE per increment", open: openSinglePG}
	groupPG   = entry{name: "(b) PostgreSQL, group commit by hand", open: openGroupPG}
)

func onPG() bool { return os.Getenv("PG") == "1" }

// sectionsPG is the run with PG=1.
func sectionsPG() []section {
	var all []section
	for _, l := range loadsPG() {
		all = append(all, l.section())
	}
	return append(all, commits(openSchema), section{"river", besideRiver}, section{"million", million})
}

func loadsPG() []load {
	return []load{
		{
			name: "call1", title: "1 caller, 1 server", callers: 1, counters: 1,
			subject: durablePG, baseline: singlePG, atLeast: 0.7, others: []entry{groupPG},
		},
		{
			name: "call64", title: "64 callers, 1 server", callers: 64, counters: 1,
			subject: durablePG, baseline: groupPG, atLeast: 0.5, others: []entry{singlePG},
		},
		{
			name: "call256", title: "256 callers, 1,000 servers", callers: 256, counters: 1000,
			subject: durablePG, baseline: groupPG, atLeast: 0.25, others: []entry{singlePG},
		},
		{
			name: "remote64", title: "64 callers in one process, consumer in another, 1 server", callers: 64, counters: 1,
			subject: remotePG, baseline: singlePG, atLeast: 10,
		},
		{
			name: "remote256", title: "256 callers in one process, consumers in others, 1,000 servers", callers: 256, counters: 1000,
			subject: remotePG, baseline: singlePG, others: []entry{twoPG, fourPG},
		},
		{
			name: "crowd64", title: "64 callers in one process, 8 consumers in others, 1 server", callers: 64, counters: 1,
			subject: eightPG, baseline: remotePG, atLeast: 0.9, others: []entry{twoPG, fourPG},
		},
		{
			name: "rows64", title: "64 callers, 1 server, a row of a table with each", callers: 64, counters: 1,
			subject: rowsPG, baseline: singleRowsPG, atLeast: 2, others: []entry{durablePG},
		},
		{
			name: "cast64", title: "64 senders cast to 1 server, until all are handled", callers: 64, counters: 1, casts: true,
			subject: durablePG, baseline: singlePG, atLeast: 10, others: []entry{groupPG},
		},
	}
}

func schemaOf(dir string) string { return strings.ToLower(filepath.Base(dir)) }

// namePG is the name of a contender's database, which has a schema of its own.
func namePG(dir string) (string, error) {
	name := os.Getenv("PGTEST_URL")
	if name == "" {
		return "", errors.New("PG=1 needs PGTEST_URL, the database to run in, such as postgres://user@localhost/db")
	}
	separator := "?"
	if strings.Contains(name, "?") {
		separator = "&"
	}
	return name + separator + "dserver_schema=" + url.QueryEscape(schemaOf(dir)), nil
}

func openPG(dir string) (backend.Database, error) {
	name, err := namePG(dir)
	if err != nil {
		return nil, err
	}
	return open.Database(name)
}

func openDurablePG(ctx context.Context, dir string, n int) (contender, error) {
	db, err := openPG(dir)
	if err != nil {
		return nil, err
	}
	return dropping{&servers{db: db, handles: handles(counters, db, n), stop: consume(ctx, db, counters)}, dir}, nil
}

// openRemotePG has consumers in so many other processes.
func openRemotePG(consumers int) func(ctx context.Context, dir string, n int) (contender, error) {
	return func(ctx context.Context, dir string, n int) (contender, error) {
		name, err := namePG(dir)
		if err != nil {
			return nil, err
		}
		c, err := openRemote(ctx, name, n, consumers)
		if err != nil {
			return nil, errors.Join(err, dropSchema(dir))
		}
		return dropping{c, dir}, nil
	}
}

func openSchema(dir string) (backend.Database, func() error, error) {
	db, err := openPG(dir)
	if err != nil {
		return nil, nil, err
	}
	return db, func() error { return errors.Join(db.Close(), dropSchema(dir)) }, nil
}

// dropping removes the contender's schema when it is closed.
type dropping struct {
	contender
	dir string
}

func (d dropping) others() (usage, error) {
	if s, ok := d.contender.(spread); ok {
		return s.others()
	}
	return usage{}, nil
}

func (d dropping) close() error { return errors.Join(d.contender.close(), dropSchema(d.dir)) }

func connectPG(ctx context.Context) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, os.Getenv("PGTEST_URL"))
}

func dropSchema(dir string) error {
	ctx := context.Background()
	c, err := connectPG(ctx)
	if err != nil {
		return err
	}
	err = c.Exec(ctx, `DROP SCHEMA IF EXISTS "`+schemaOf(dir)+`" CASCADE`).Close()
	return errors.Join(err, c.Close(ctx))
}

// tablePG is a table of counters.
type tablePG struct {
	dir   string
	conns chan *pgconn.PgConn
}

// The statements of the baselines. Arrays are text, as the driver takes them.
const (
	createPG = `CREATE SCHEMA "%[1]s"; CREATE TABLE "%[1]s".counters (id integer PRIMARY KEY, n bigint NOT NULL)
		WITH (fillfactor = 50); INSERT INTO "%[1]s".counters SELECT i, 0 FROM generate_series(0, %[2]d) AS i`
	addOnePG = `UPDATE "%s".counters SET n = n + 1 WHERE id = $1::integer RETURNING n`
	addAllPG = `UPDATE "%s".counters AS c SET n = n + a.d FROM unnest($1::integer[], $2::bigint[]) AS a (id, d)
		WHERE c.id = a.id RETURNING c.id, c.n`
	readPG = `SELECT n FROM "%s".counters WHERE id = $1::integer`
)

func openTablePG(ctx context.Context, dir string, n, connections int) (*tablePG, error) {
	if _, err := namePG(dir); err != nil {
		return nil, err
	}
	t := &tablePG{dir: dir, conns: make(chan *pgconn.PgConn, connections)}
	for i := range connections {
		c, err := connectPG(ctx)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if err := c.Exec(ctx, fmt.Sprintf(createPG, schemaOf(dir), n-1)).Close(); err != nil {
				return nil, err
			}
		}
		for name, sql := range map[string]string{"one": addOnePG, "all": addAllPG, "read": readPG} {
			if _, err := c.Prepare(ctx, name, fmt.Sprintf(sql, schemaOf(dir)), nil); err != nil {
				return nil, err
			}
		}
		t.conns <- c
	}
	return t, nil
}

// do runs a prepared statement and returns the last column of its first row.
func (t *tablePG) do(ctx context.Context, statement string, parameters ...string) (int64, error) {
	c := <-t.conns
	defer func() { t.conns <- c }()
	values := make([][]byte, len(parameters))
	for i, p := range parameters {
		values[i] = []byte(p)
	}
	result := c.ExecPrepared(ctx, statement, values, nil, nil).Read()
	if result.Err != nil || len(result.Rows) == 0 {
		return 0, errors.Join(fmt.Errorf("%s: %d rows", statement, len(result.Rows)), result.Err)
	}
	row := result.Rows[0]
	return strconv.ParseInt(string(row[len(row)-1]), 10, 64)
}

func (t *tablePG) value(ctx context.Context, counter int) (int64, error) {
	return t.do(ctx, "read", strconv.Itoa(counter))
}

func (t *tablePG) close() (err error) {
	for range cap(t.conns) {
		err = errors.Join(err, (<-t.conns).Close(context.Background()))
	}
	return errors.Join(err, dropSchema(t.dir))
}

// singlesPG is baseline (a).
type singlesPG struct{ *tablePG }

// connectionsPG is how many of them wait for commits at once, as many as DServer's snapshots.
const connectionsPG = 16

func openSinglePG(ctx context.Context, dir string, n int) (contender, error) {
	t, err := openTablePG(ctx, dir, n, connectionsPG)
	return singlesPG{t}, err
}

func (s singlesPG) increment(ctx context.Context, counter int) error {
	_, err := s.do(ctx, "one", strconv.Itoa(counter))
	return err
}

func (s singlesPG) cast(ctx context.Context, counter int) error { return s.increment(ctx, counter) }

// groupedPG is baseline (b).
type groupedPG struct {
	*tablePG
	waiting chan *request
	reuse   sync.Pool
	ended   sync.WaitGroup
}

func openGroupPG(ctx context.Context, dir string, n int) (contender, error) {
	t, err := openTablePG(ctx, dir, n, 2)
	if err != nil {
		return nil, err
	}
	g := &groupedPG{tablePG: t, waiting: make(chan *request, maxGroup)}
	g.reuse.New = func() any { return &request{done: make(chan struct{}, 1)} }
	g.ended.Go(func() { g.write(context.WithoutCancel(ctx)) })
	return g, nil
}

// write commits what waits, in one statement, until there are no more callers.
func (g *groupedPG) write(ctx context.Context) {
	members := make([]*request, 0, maxGroup)
	for first := range g.waiting {
		members = gather(append(members[:0], first), g.waiting)
		sums := map[int]int{}
		for _, m := range members {
			sums[m.counter]++
		}
		var ids, deltas []string
		for id, d := range sums {
			ids, deltas = append(ids, strconv.Itoa(id)), append(deltas, strconv.Itoa(d))
		}
		_, err := g.do(ctx, "all", "{"+strings.Join(ids, ",")+"}", "{"+strings.Join(deltas, ",")+"}")
		for _, m := range members {
			m.err = err
			m.done <- struct{}{}
		}
	}
}

func (g *groupedPG) increment(_ context.Context, counter int) error {
	r := g.reuse.Get().(*request)
	defer g.reuse.Put(r)
	r.counter = counter
	g.waiting <- r
	<-r.done
	return r.err
}

func (g *groupedPG) cast(ctx context.Context, counter int) error { return g.increment(ctx, counter) }

func (g *groupedPG) close() error {
	close(g.waiting)
	g.ended.Wait()
	return g.tablePG.close()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// The baselines are what one would write by hand for durable counters alone, with the driver and the settings of
// backend/sqlite: (a) a transaction for each increment, (b) one goroutine that gathers those that wait into one.
// Their checkpoints are SQLite's own, in the commit that fills 1,000 pages; from a goroutine of their own, as
// backend/sqlite makes them, they made no difference that could be measured.
var (
	single = entry{name: "(a) SQLite, transaction per increment", open: openSingle}
	group  = entry{name: "(b) SQLite, group commit by hand", open: openGroup}
)

// maxGroup bounds a group's transaction.
const maxGroup = 512

// pragmas are backend/sqlite's: WAL, and a commit returns after its fsync.
var pragmas = [...]string{
	"PRAGMA journal_mode=WAL",
	"PRAGMA synchronous=FULL",
	"PRAGMA fullfsync=1",
	"PRAGMA checkpoint_fullfsync=1",
}

const (
	schema    = `CREATE TABLE counters (id TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID, STRICT;`
	insertRow = `INSERT INTO counters VALUES (?, 0)`
	addOne    = `UPDATE counters SET n = n + 1 WHERE id = ? RETURNING n`
	readRow   = `SELECT n FROM counters WHERE id = ?`
)

// table is a connection to a file of counters, for one goroutine at a time.
type table struct {
	conn *sqlite.Conn
	ids  []string
}

func openTable(dir string, n int) (*table, error) {
	conn, err := sqlite.OpenConn(filepath.Join(dir, "counters.db"))
	if err != nil {
		return nil, err
	}
	t := &table{conn: conn, ids: make([]string, n)}
	if err := t.create(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return t, nil
}

func (t *table) create() (err error) {
	for _, statement := range append(pragmas[:], schema) {
		if err := sqlitex.ExecuteTransient(t.conn, statement, nil); err != nil {
			return err
		}
	}
	end, err := sqlitex.ImmediateTransaction(t.conn)
	if err != nil {
		return err
	}
	defer end(&err)
	for i := range t.ids {
		t.ids[i] = "visits-" + strconv.Itoa(i)
		if err := sqlitex.Execute(t.conn, insertRow, &sqlitex.ExecOptions{Args: []any{t.ids[i]}}); err != nil {
			return err
		}
	}
	return nil
}

// one runs a prepared statement for a counter and returns its number.
func (t *table) one(query string, counter int) (int64, error) {
	stmt, err := t.conn.Prepare(query)
	if err != nil {
		return 0, err
	}
	stmt.BindText(1, t.ids[counter])
	if found, err := stmt.Step(); err != nil || !found {
		return 0, errors.Join(fmt.Errorf("counter %d: found is %t", counter, found), err)
	}
	n := stmt.ColumnInt64(0)
	if _, err := stmt.Step(); err != nil { // to the end: that is the commit
		return 0, err
	}
	return n, stmt.Reset()
}

func (t *table) exec(query string) error {
	stmt, err := t.conn.Prepare(query)
	if err != nil {
		return err
	}
	if _, err := stmt.Step(); err != nil {
		return errors.Join(err, stmt.Reset())
	}
	return stmt.Reset()
}

// oneEach is baseline (a).
type oneEach struct {
	mu    sync.Mutex // guards table
	table *table
}

func openSingle(_ context.Context, dir string, n int) (contender, error) {
	t, err := openTable(dir, n)
	return &oneEach{table: t}, err
}

func (o *oneEach) increment(_ context.Context, counter int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.table.one(addOne, counter)
	return err
}

func (o *oneEach) cast(ctx context.Context, counter int) error { return o.increment(ctx, counter) }

func (o *oneEach) value(_ context.Context, counter int) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.table.one(readRow, counter)
}

func (o *oneEach) close() error { return o.table.conn.Close() }

// grouped is baseline (b).
type grouped struct {
	waiting chan *request
	reuse   sync.Pool
	ended   sync.WaitGroup
	table   *table // the writer's, until it ended
}

type request struct {
	counter int
	query   string
	n       int64
	err     error
	done    chan struct{}
}

func openGroup(_ context.Context, dir string, n int) (contender, error) {
	t, err := openTable(dir, n)
	if err != nil {
		return nil, err
	}
	g := &grouped{waiting: make(chan *request, maxGroup), table: t}
	g.reuse.New = func() any { return &request{done: make(chan struct{}, 1)} }
	g.ended.Go(g.write)
	return g, nil
}

// write commits what waits, in one transaction, until there are no more callers.
func (g *grouped) write() {
	members := make([]*request, 0, maxGroup)
	for first := range g.waiting {
		members = gather(append(members[:0], first), g.waiting)
		err := g.commit(members)
		for _, m := range members {
			if m.err == nil {
				m.err = err
			}
			m.done <- struct{}{}
		}
	}
}

// gather adds what else is waiting, without waiting for it.
func gather(members []*request, waiting <-chan *request) []*request {
	for len(members) < maxGroup {
		select {
		case m, open := <-waiting:
			if !open {
				return members
			}
			members = append(members, m)
		default:
			return members
		}
	}
	return members
}

func (g *grouped) commit(members []*request) error {
	if err := g.table.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, m := range members {
		m.n, m.err = g.table.one(m.query, m.counter)
	}
	return g.table.exec("COMMIT")
}

func (g *grouped) do(query string, counter int) (int64, error) {
	r := g.reuse.Get().(*request)
	defer g.reuse.Put(r)
	r.query, r.counter = query, counter
	g.waiting <- r
	<-r.done
	return r.n, r.err
}

func (g *grouped) increment(_ context.Context, counter int) error {
	_, err := g.do(addOne, counter)
	return err
}

func (g *grouped) cast(ctx context.Context, counter int) error { return g.increment(ctx, counter) }

func (g *grouped) value(_ context.Context, counter int) (int64, error) { return g.do(readRow, counter) }

func (g *grouped) close() error {
	close(g.waiting)
	g.ended.Wait()
	return g.table.conn.Close()
}

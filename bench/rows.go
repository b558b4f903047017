package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Each increment inserts a row into a table beside the counters, in the same commit: by Context.Exec, and by hand.
var (
	rows         = entry{name: "DServer on SQLite, a row each", open: openWithRows}
	singleRows   = entry{name: "(a) SQLite, transaction per increment and row", open: openSingleRows}
	rowsPG       = entry{name: "DServer on PostgreSQL, a row each", open: openWithRowsPG}
	singleRowsPG = entry{name: "(a) PostgreSQL, a statement per increment and row", open: openSingleRowsPG}
)

const createReceipts = `CREATE TABLE %s (counter text NOT NULL, n bigint NOT NULL)`

// receipt is an increment that inserts a row.
type receipt struct{ dserver.Returns[int64] }

// serversWithRows are servers whose increments are receipts.
type serversWithRows struct{ *servers }

func (s serversWithRows) increment(ctx context.Context, counter int) error {
	_, err := dserver.Call(ctx, s.handles[counter], receipt{})
	return err
}

func serveRows(ctx context.Context, db backend.Database, n int, table string) serversWithRows {
	insert := "INSERT INTO " + table + " (counter, n) VALUES ($1, $2)"
	receipting := counters.With(dserver.HandleCall(func(ctx *dserver.Context, c *counter, _ receipt) (int64, error) {
		c.Count++
		ctx.Exec(insert, ctx.Self().ID, c.Count)
		return c.Count, nil
	}))
	return serversWithRows{&servers{db: db, handles: handles(receipting, db, n), stop: consume(ctx, db, receipting)}}
}

func openWithRows(ctx context.Context, dir string, n int) (contender, error) {
	db, _, err := openFile(dir)
	if err != nil {
		return nil, err
	}
	conn, err := sqlite.OpenConn(file(dir), sqlite.OpenReadWrite)
	if err == nil {
		err = errors.Join(sqlitex.ExecuteTransient(conn, fmt.Sprintf(createReceipts, "receipts"), nil), conn.Close())
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return serveRows(ctx, db, n, "receipts"), nil
}

// oneEachWithRow is oneEach with a row for each increment.
type oneEachWithRow struct{ *oneEach }

func openSingleRows(ctx context.Context, dir string, n int) (contender, error) {
	c, err := openSingle(ctx, dir, n)
	if err != nil {
		return nil, err
	}
	o := c.(*oneEach)
	return oneEachWithRow{o}, o.table.exec(fmt.Sprintf(createReceipts, "receipts"))
}

func (o oneEachWithRow) increment(_ context.Context, counter int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.table.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	n, err := o.table.one(addOne, counter)
	if err == nil {
		err = sqlitex.Execute(o.table.conn, "INSERT INTO receipts (counter, n) VALUES (?, ?)", &sqlitex.ExecOptions{Args: []any{o.table.ids[counter], n}})
	}
	if err != nil {
		return errors.Join(err, o.table.exec("ROLLBACK"))
	}
	return o.table.exec("COMMIT")
}

func (o oneEachWithRow) cast(ctx context.Context, counter int) error {
	return o.increment(ctx, counter)
}

// receiptsOf is the table of a contender, in a schema of its own beside that of its counters.
func receiptsOf(dir string) string { return `"` + schemaOf(dir) + `_rows".receipts` }

func createReceiptsPG(ctx context.Context, dir string) error {
	c, err := connectPG(ctx)
	if err != nil {
		return err
	}
	err = c.Exec(ctx, `CREATE SCHEMA "`+schemaOf(dir)+`_rows"; `+fmt.Sprintf(createReceipts, receiptsOf(dir))).Close()
	return errors.Join(err, c.Close(ctx))
}

func openWithRowsPG(ctx context.Context, dir string, n int) (contender, error) {
	db, end, err := openSchema(dir)
	if err != nil {
		return nil, err
	}
	if err := createReceiptsPG(ctx, dir); err != nil {
		return nil, errors.Join(err, end())
	}
	return droppingRows{dropping{serveRows(ctx, db, n, receiptsOf(dir)), dir}}, nil
}

// droppingRows removes the schema of the rows as well.
type droppingRows struct{ dropping }

func (d droppingRows) close() error {
	return errors.Join(d.dropping.close(), dropSchema(d.dir+"_rows"))
}

// singlesWithRowPG is singlesPG with a row for each increment.
type singlesWithRowPG struct{ *tablePG }

const addOneAndRowPG = `WITH c AS (` + addOnePG + `) INSERT INTO %s SELECT $1::integer, n FROM c RETURNING n`

func openSingleRowsPG(ctx context.Context, dir string, n int) (contender, error) {
	t, err := openTablePG(ctx, dir, n, connectionsPG)
	if err != nil {
		return nil, err
	}
	if err := createReceiptsPG(ctx, dir); err != nil {
		return nil, errors.Join(err, t.close())
	}
	for range cap(t.conns) {
		c := <-t.conns
		if _, err := c.Prepare(ctx, "row", fmt.Sprintf(addOneAndRowPG, schemaOf(dir), receiptsOf(dir)), nil); err != nil {
			return nil, err
		}
		t.conns <- c
	}
	return droppingRows{dropping{singlesWithRowPG{t}, dir}}, nil
}

func (s singlesWithRowPG) increment(ctx context.Context, counter int) error {
	_, err := s.do(ctx, "row", strconv.Itoa(counter))
	return err
}

func (s singlesWithRowPG) cast(ctx context.Context, counter int) error {
	return s.increment(ctx, counter)
}

package dserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
	"github.com/dserver-go/dserver/dserver"
)

// Shop is a server beside whose state there are rows of the program's own.
type Shop struct{ Cents int64 }

type (
	Sell struct { // its row has the ID as its key
		dserver.Returns[int64]
		ID    string
		Cents int64
	}
	Remark struct{ dserver.Returns[bool] } // changes nothing but a row
	RunSQL struct{ SQL string }
)

// shops are of a program whose table is named so.
func shops(table string) *dserver.Definition[Shop] {
	return dserver.Define[Shop]("shop",
		dserver.HandleCall(func(ctx *dserver.Context, t *Shop, m Sell) (int64, error) {
			t.Cents += m.Cents
			ctx.Exec("INSERT INTO "+table+" (id, cents) VALUES ($1, $2)", m.ID, m.Cents)
			return t.Cents, nil
		}),
		dserver.HandleCall(func(ctx *dserver.Context, _ *Shop, _ Remark) (bool, error) {
			ctx.Exec("INSERT INTO "+table+" (id, cents) VALUES ($1, 1)", "told")
			return true, nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, t *Shop, m RunSQL) error {
			t.Cents++
			ctx.Exec(m.SQL)
			return nil
		}),
	)
}

// program is a program's own tables, beside the servers of a database.
type program struct {
	name  string
	table string
	sql   func(sql string) string // runs statements, and tells the first value of the last one
}

// eachSQLStore runs a test on SQLite and, where it is installed, on PostgreSQL.
func eachSQLStore(t *testing.T, test func(t *testing.T, p program)) {
	t.Run("sqlite", func(t *testing.T) {
		p := program{name: filepath.Join(t.TempDir(), "test.db"), table: "payments"}
		p.sql = func(sql string) string { return onFile(t, p.name, sql) }
		test(t, p.create(t))
	})
	t.Run("postgres", func(t *testing.T) {
		url := pgtest.URL(t)
		p := program{name: pgtest.Schema(t, url), sql: func(sql string) string { return pgtest.Exec(t, url, sql) }}
		schema := pgtest.SchemaOf(p.name) + "_app"
		p.table = schema + ".payments"
		p.sql("CREATE SCHEMA " + schema)
		t.Cleanup(func() { p.sql("DROP SCHEMA " + schema + " CASCADE") })
		test(t, p.create(t))
	})
}

func (p program) create(t *testing.T) program {
	must(t, openNamed(t, p.name).Close()) // the file is DServer's
	p.sql("CREATE TABLE " + p.table + " (id text PRIMARY KEY, cents bigint NOT NULL CHECK (cents > 0))")
	return p
}

// open opens the database, which is checked when the test ends.
func (p program) open(t *testing.T) backend.Database {
	db := openNamed(t, p.name)
	t.Cleanup(func() {
		check(t, db, shops(p.table))
		must(t, db.Close())
	})
	return db
}

// rows is how many rows there are, and the sum of their cents.
func (p program) rows() string {
	return p.sql("SELECT count(*) || ' of ' || coalesce(sum(cents), 0) FROM " + p.table)
}

// onFile is a connection of the program's own to the file.
func onFile(t *testing.T, name, sql string) (value string) {
	t.Helper()
	c, err := sqlite.OpenConn(name, sqlite.OpenReadWrite)
	must(t, err)
	defer c.Close()
	c.SetBusyTimeout(time.Minute)
	for sql != "" {
		stmt, rest, err := c.PrepareTransient(sql)
		must(t, err)
		sql = strings.TrimSpace(sql[len(sql)-rest:])
		for first := true; ; first = false {
			row, err := stmt.Step()
			must(t, err)
			if !row {
				break
			}
			if first {
				value = stmt.ColumnText(0)
			}
		}
		must(t, stmt.Finalize())
	}
	return value
}

func TestRowsOfTheProgramAreInTheTurnsCommit(t *testing.T) {
	t.Parallel()
	eachSQLStore(t, func(t *testing.T, p program) {
		db, types, ctx := p.open(t), shops(p.table), within(t)
		start(t, db, types)
		s := types.At(db, "a")
		expect := func(m Sell, want int64, wantErr error, rows string) {
			t.Helper()
			got, err := dserver.Call(ctx, s, m)
			if got != want || !errors.Is(err, wantErr) || p.rows() != rows {
				t.Errorf("%v: %d, %v, and the rows are %s; want %d, %v, %s", m, got, err, p.rows(), want, wantErr, rows)
			}
		}
		expect(Sell{ID: "1", Cents: 5}, 5, nil, "1 of 5")
		expect(Sell{ID: "1", Cents: 7}, 0, dserver.ErrStatement, "1 of 5") // its key is there
		expect(Sell{ID: "2", Cents: 0}, 0, dserver.ErrStatement, "1 of 5")
		expect(Sell{ID: "2", Cents: 6}, 11, nil, "2 of 11")
		if _, err := dserver.Call(ctx, s, Remark{}); err != nil || p.rows() != "3 of 12" {
			t.Errorf("a handler that changes nothing but a row: %v, %s", err, p.rows())
		}
		away := types.Ref("a").At(openOther(t, p))
		var got int64
		if err := away.Call(ctx, Sell{ID: "3", Cents: 8}, &got); err != nil || got != 19 || p.rows() != "4 of 20" {
			t.Errorf("from another process: %d, %v, %s", got, err, p.rows())
		}
		if err := away.Call(ctx, Sell{ID: "3", Cents: 8}, &got); !errors.Is(err, dserver.ErrStatement) || !strings.Contains(err.Error(), "INSERT INTO") {
			t.Errorf("from another process: %v", err)
		}
	})
}

// openOther opens the database as another process does, without a consumer.
func openOther(t *testing.T, p program) backend.Database {
	db := openNamed(t, p.name)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// A statement that fails concerns its message alone, whatever else is in its turn and in its commit.
func TestAStatementThatFailsConcernsItsMessageAlone(t *testing.T) {
	t.Parallel()
	eachSQLStore(t, func(t *testing.T, p program) {
		const servers, messages = 4, 40
		db, types, ctx := p.open(t), shops(p.table), within(t)
		insert := func(server, i int) RunSQL {
			cents := 1
			if i%13 == 5 {
				cents = -1 // is refused
			}
			return RunSQL{SQL: fmt.Sprintf("INSERT INTO %s VALUES ('%d.%d', %d)", p.table, server, i, cents)}
		}
		for i := range messages {
			for server := range servers {
				must(t, types.At(db, strconv.Itoa(server)).Cast(ctx, insert(server, i)))
			}
		}
		start(t, db, types)
		const bad = 3 // of each server's
		for server := range servers {
			s := types.At(db, strconv.Itoa(server))
			eventually(t, "all are handled", func() bool { return statusOf(t, s).Queued == 0 })
			state, err := s.State(ctx)
			dead := letters(t, s)
			if err != nil || state.Cents != messages-bad || len(dead) != bad {
				t.Fatalf("server %d: %+v, %d dead letters: %v", server, state, len(dead), err)
			}
			for _, d := range dead {
				if !errors.Is(&d.Err, dserver.ErrStatement) || d.Attempts != 1 || !strings.Contains(d.Err.Text, "check") && !strings.Contains(d.Err.Text, "CHECK") {
					t.Errorf("%+v", d)
				}
			}
		}
		if want := fmt.Sprint(servers*(messages-bad), " of ", servers*(messages-bad)); p.rows() != want {
			t.Errorf("the rows are %s, want %s", p.rows(), want)
		}
		// An operator mends the table, and tries again.
		s := types.At(db, "0")
		must(t, s.Cast(ctx, RunSQL{SQL: "INSERT INTO " + p.table + "_later VALUES (1)"}))
		eventually(t, "it is set aside", func() bool { return len(letters(t, s)) == bad+1 })
		p.sql("CREATE TABLE " + p.table + "_later (n integer)")
		must(t, s.Retry(ctx, letters(t, s)[bad]))
		eventually(t, "the row is there", func() bool { return p.sql("SELECT count(*) FROM "+p.table+"_later") == "1" })
	})
}

// What cannot run in a commit is refused before.
func TestExecRefusesWhatIsNoStatementOfACommit(t *testing.T) {
	t.Parallel()
	eachSQLStore(t, func(t *testing.T, p program) {
		db, types, ctx := p.open(t), shops(p.table), within(t)
		start(t, db, types)
		s := types.At(db, "a")
		for i, refused := range []struct{ sql, why string }{
			{"COMMIT", `begins with "COMMIT"`},
			{" -- a comment\n /* and another */ rollback", `begins with "ROLLBACK"`},
			{"PRAGMA journal_mode = DELETE", `begins with "PRAGMA"`},
			{"", `begins with ""`},
			{"SELECT 1; COMMIT", "a statement failed"},
			{"SELECT $1", "a statement failed"},
			{"INSERT INTO no_such_table VALUES (1)", "no_such_table"},
		} {
			must(t, s.Cast(ctx, RunSQL{SQL: refused.sql}))
			eventually(t, "it is set aside", func() bool { return len(letters(t, s)) == i+1 })
			if d := letters(t, s)[i]; !strings.Contains(d.Err.Text, refused.why) {
				t.Errorf("%q: %v", refused.sql, d.Err.Text)
			}
		}
		must(t, s.Cast(ctx, RunSQL{SQL: "  /* it is a statement */ insert into " + p.table + " VALUES ('a', 1);"}))
		eventually(t, "the row is there", func() bool { return p.rows() == "1 of 1" })
		if state, err := s.State(ctx); err != nil || state.Cents != 1 {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// A statement that holds up the commits of all is given up, and tried again.
func TestAStatementThatTakesTooLongIsTriedAgain(t *testing.T) {
	t.Parallel()
	eachSQLStore(t, func(t *testing.T, p program) {
		db, types, ctx := p.open(t), shops(p.table), within(t)
		start(t, db, types)
		slow := "INSERT INTO " + p.table + " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n, gate WHERE shut) " +
			"SELECT 'slow' || max(i), 1 FROM n"
		gate := "gate"
		if i := strings.Index(p.table, "."); i > 0 {
			gate = p.table[:i] + ".gate"
		}
		slow = strings.ReplaceAll(slow, "gate", gate)
		p.sql("CREATE TABLE " + gate + " (shut boolean); INSERT INTO " + gate + " VALUES (true)")
		s := types.At(db, "a")
		must(t, s.Cast(ctx, RunSQL{SQL: slow}))
		other := types.At(db, "b")
		if n, err := dserver.Call(ctx, other, Sell{ID: "b", Cents: 1}); n != 1 || err != nil {
			t.Errorf("another server's call: %d, %v", n, err)
		}
		eventually(t, "an attempt is over", func() bool { return len(statusOf(t, s).Failing) > 0 })
		p.sql("UPDATE " + gate + " SET shut = false")
		eventually(t, "the rows are there", func() bool { return p.rows() == "2 of 2" })
		if state, err := s.State(ctx); err != nil || state.Cents != 1 || len(letters(t, s)) != 0 {
			t.Errorf("%+v, %v, %v", state, err, letters(t, s))
		}
	})
}

func TestExecTakesWhatDatabaseSQLTakes(t *testing.T) {
	t.Parallel()
	type named string
	at := time.Date(2026, 11, 30, 12, 30, 0, 123456000, time.FixedZone("", 3600))
	seven := int32(7)
	values := map[string][]any{ // of a column's type; the value that is read back, and what is given
		"bigint":           {"7", int8(7), &seven, uint64(7), "7", json.Number("7")},
		"double precision": {"0.1", 0.1, float64(0.1), "0.1"},
		"text":             {"a'b", "a'b", named("a'b"), []byte("a'b")},
		"boolean":          {"true", true},
		"bytea":            {"true", []byte{0, 255}},
		"json":             {`{"a":1}`, `{"a":1}`, json.RawMessage(`{"a":1}`)},
		"timestamptz":      {"true", at},
		"integer":          {"true", nil, (*int)(nil)},
	}
	reads := map[string]string{
		"boolean": "CASE WHEN v THEN 'true' END", "bytea": "CASE WHEN v = %s THEN 'true' END", "integer": "CASE WHEN v IS NULL THEN 'true' END",
		"timestamptz": "CASE WHEN v = %s THEN 'true' END",
	}
	type Store struct{}
	eachSQLStore(t, func(t *testing.T, p program) {
		db, ctx := p.open(t), within(t)
		isFile := p.table == "payments"
		for column, all := range values {
			table := p.table + "_" + strings.Fields(column)[0]
			read := reads[column]
			switch {
			case read == "":
				read = "CAST(v AS text)"
			case strings.Contains(read, "%s") && column == "bytea" && isFile:
				read = fmt.Sprintf(read, "x'00ff'")
			case strings.Contains(read, "%s") && column == "bytea":
				read = fmt.Sprintf(read, `'\x00ff'`)
			case strings.Contains(read, "%s"):
				read = fmt.Sprintf(read, "'2026-11-30 12:30:00.123456+01:00'")
			}
			p.sql("CREATE TABLE " + table + " (i integer, v " + column + ")")
			for i, value := range all[1:] {
				types := dserver.Define[Shop]("shop", dserver.HandleCast(func(ctx *dserver.Context, _ *Shop, _ Store) error {
					ctx.Exec("INSERT INTO "+table+" VALUES ($2, $1)", value, i)
					return nil
				}))
				s := types.At(db, fmt.Sprint(column, i))
				stop := run(t, dserver.Consumer{}, db, types)
				must(t, s.Cast(ctx, Store{}))
				eventually(t, "it is handled", func() bool { return statusOf(t, s).Queued == 0 })
				stop()
				got := p.sql(fmt.Sprint("SELECT ", read, " FROM ", table, " WHERE i = ", i))
				if got != all[0] || len(letters(t, s)) != 0 {
					t.Errorf("%s of %T: %q %v", column, value, got, letters(t, s))
				}
			}
		}
	})
}

// Stores that are no SQL database say so.
func TestExecNeedsAnSQLDatabase(t *testing.T) {
	db := backendtest.NewStore().Open()
	types := shops("payments")
	start(t, db, types)
	_, err := dserver.Call(within(t), types.At(db, "a"), Sell{ID: "1", Cents: 1})
	if !errors.Is(err, dserver.ErrStatement) || !strings.Contains(err.Error(), backend.ErrNoSQL.Error()) {
		t.Error(err)
	}
	if _, err := types.At(db, "a").State(t.Context()); !errors.Is(err, dserver.ErrNotFound) {
		t.Error(err)
	}
}

const shopEnv = "DSERVER_TEST_SHOP"

// TestShopChild is a process of TestRowsAreThereOnceWhoeverIsKilled.
func TestShopChild(t *testing.T) {
	name, table, _ := strings.Cut(os.Getenv(shopEnv), " ")
	if name == "" {
		t.Skip("the child process of another test")
	}
	_ = dserver.Run(untilOrphaned(), openNamed(t, name), shops(table))
}

// Consumers are killed while they work. In the end each message has its row and its part of the state, or neither where its
// row was refused.
func TestRowsAreThereOnceWhoeverIsKilled(t *testing.T) {
	t.Parallel()
	eachSQLStore(t, func(t *testing.T, p program) {
		const servers, messages = 3, 100
		kills := 6
		if isLong() {
			kills = 60
		}
		db, types, ctx := p.open(t), shops(p.table), within(t)
		children := newBrood(t)
		begin := func() { children.begin(childOf("TestShopChild", shopEnv, p.name+" "+p.table)) }
		begin()
		begin()
		sent := make(chan error, 1)
		quit, cancel := context.WithCancel(ctx)
		defer cancel()
		total := 0
		go func() {
			for ; quit.Err() == nil || total < messages; total++ {
				for server := range servers {
					m := RunSQL{SQL: fmt.Sprintf("INSERT INTO %s VALUES ('%d.%d', %d)", p.table, server, total-total%20/19, 1)} // one of 20 is there
					if err := types.At(db, strconv.Itoa(server)).Cast(ctx, m); err != nil {
						sent <- err
						return
					}
				}
				<-time.After(2 * time.Millisecond)
			}
			sent <- nil
		}()
		handled := func() (n int64) {
			for server := range servers {
				state, err := types.At(db, strconv.Itoa(server)).State(ctx)
				if err == nil {
					n += state.Cents
				}
			}
			return n
		}
		for range kills {
			before := handled()
			eventually(t, "the consumers go on", func() bool { return handled() > before })
			children.end(0, true)
			begin()
		}
		cancel()
		must(t, <-sent)
		bad := total / 20
		for server := range servers {
			s := types.At(db, strconv.Itoa(server))
			eventually(t, "all are handled", func() bool { return statusOf(t, s).Queued == 0 })
			state, err := s.State(ctx)
			if n := len(letters(t, s)); err != nil || state.Cents != int64(total-bad) || n != bad {
				t.Errorf("server %d: %+v, %d dead letters of %d messages: %v", server, state, n, total, err)
			}
		}
		if want := fmt.Sprint(servers*(total-bad), " of ", servers*(total-bad)); p.rows() != want {
			t.Errorf("the rows are %s, want %s", p.rows(), want)
		}
		t.Logf("%d kills, %d messages", kills, servers*total)
	})
}

// A turn of many messages whose statements take too long together is one of fewer messages, and none of them has failed.
func TestStatementsThatTakeTooLongTogetherAreOfSeveralTurns(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t) // where a statement can sleep
	db, ctx := openNamed(t, pgtest.Schema(t, url)), within(t)
	defer db.Close()
	types := shops("nothing")
	s := types.At(db, "a")
	const messages = 6
	for range messages {
		must(t, s.Cast(ctx, RunSQL{SQL: "SELECT pg_sleep(0.6)"}))
	}
	stop := run(t, dserver.Consumer{Logger: zerolog.New(failing{t})}, db, types)
	eventually(t, "all are handled", func() bool { return statusOf(t, s).Queued == 0 })
	stop()
	if state, err := s.State(ctx); err != nil || state.Cents != messages || len(letters(t, s)) != 0 {
		t.Errorf("%+v, %v, %v", state, err, letters(t, s))
	}
}

// held is a shop on PostgreSQL with a row that an application's transaction has locked, until it is let go.
func held(t *testing.T) (db backend.Database, update string, letGo func()) {
	url := pgtest.URL(t)
	name := pgtest.Schema(t, url)
	rows := "public." + pgtest.SchemaOf(name) + "_rows"
	pgtest.Exec(t, url, "CREATE TABLE "+rows+" (n bigint); INSERT INTO "+rows+" VALUES (0)")
	t.Cleanup(func() { pgtest.Exec(t, url, "DROP TABLE "+rows) })
	app, err := pgconn.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { _ = app.Close(context.Background()) })
	must(t, app.Exec(t.Context(), "BEGIN; UPDATE "+rows+" SET n = 1").Close())
	db = openNamed(t, name)
	t.Cleanup(func() { must(t, db.Close()) })
	return db, "UPDATE " + rows + " SET n = n + 1", func() { must(t, app.Exec(t.Context(), "COMMIT").Close()) }
}

// A message whose row others have locked is found in its turn at once: those before it are handled, and it waits alone.
func TestAMessageThatWaitsForARowIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	db, update, letGo := held(t)
	ctx := within(t)
	var runs atomic.Int64
	types := dserver.Define[Shop]("shop", dserver.HandleCast(func(ctx *dserver.Context, s *Shop, m RunSQL) error {
		if s.Cents++; m.SQL == update {
			runs.Add(1)
		}
		ctx.Exec(m.SQL)
		return nil
	}))
	s := types.At(db, "a")
	const before, after = 20, 10
	for i := range before + 1 + after {
		m := RunSQL{SQL: "SELECT 1"}
		if i == before {
			m.SQL = update
		}
		must(t, s.Cast(ctx, m))
	}
	start(t, db, types)
	eventually(t, "it fails", func() bool { return len(statusOf(t, s).Failing) > 0 })
	if state, err := s.State(ctx); err != nil || state.Cents != before || runs.Load() > 3 {
		t.Errorf("%+v, %v, after %d runs of its handler", state, err, runs.Load())
	}
	letGo()
	eventually(t, "all are handled", func() bool { return statusOf(t, s).Queued == 0 })
	if state, err := s.State(ctx); err != nil || state.Cents != before+1+after || len(letters(t, s)) != 0 {
		t.Errorf("%+v, %v, %v", state, err, letters(t, s))
	}
}

// A call that joined a turn is tried again as well.
func TestACallThatWaitsForARowIsTriedAgain(t *testing.T) {
	t.Parallel()
	db, update, letGo := held(t)
	types := dserver.Define[Shop]("shop", dserver.HandleCall(func(ctx *dserver.Context, s *Shop, m Sell) (int64, error) {
		if s.Cents += m.Cents; m.Cents == 2 {
			ctx.Exec(update)
		}
		return s.Cents, nil
	}))
	start(t, db, types)
	s, ctx := types.At(db, "a"), within(t)
	n, err := dserver.Call(ctx, s, Sell{Cents: 1}) // from now on it joins
	if n != 1 || err != nil {
		t.Fatal(n, err)
	}
	isLetGo := make(chan struct{})
	time.AfterFunc(backend.ExecLockLimit+time.Second/2, func() {
		defer close(isLetGo)
		letGo()
	})
	if n, err := dserver.Call(ctx, s, Sell{Cents: 2}); n != 3 || err != nil {
		t.Error(n, err)
	}
	<-isLetGo
}

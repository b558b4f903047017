package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

func statement(t testing.TB, sql string, args ...any) backend.Statement {
	t.Helper()
	s, err := backend.NewStatement(sql, args...)
	if err != nil {
		t.Error(err)
	}
	return s
}

// newTables makes tables of the program's in a schema of their own, app, whose name takes the place of that in scripts.
func newTables(t *testing.T, script string) (app string, query func(sql string) string) {
	t.Helper()
	url := pgtest.URL(t)
	app = pgtest.SchemaOf(pgtest.Schema(t, url))
	query = func(sql string) string { return pgtest.Exec(t, url, strings.ReplaceAll(sql, "app.", app+".")) }
	query("CREATE SCHEMA " + app + "; " + script)
	return app, query
}

// commitTogether commits transactions as one group: each writes a key of its own and has statements, with | between them.
func commitTogether(t *testing.T, db *DB, statements ...string) (runs []int, errs []error) {
	t.Helper()
	runs, errs = make([]int, len(statements)), make([]error, len(statements))
	await(t, "the commit before to end", func() bool { return !db.writer.IsLeading() })
	release := db.writer.Hold()
	done := make(chan struct{})
	for i, sql := range statements {
		go func() {
			errs[i] = db.Transact(t.Context(), func(tx backend.Tx) error {
				runs[i]++
				tx.Set(backend.NewKey(fmt.Sprint("member", i)), []byte("x"))
				for part := range strings.SplitSeq(sql, "|") {
					if part != "" {
						tx.(backend.Execer).Exec(statement(t, part))
					}
				}
				return nil
			})
			done <- struct{}{}
		}()
		await(t, "it to queue up", func() bool { return db.writer.Waiting() == i+1 })
	}
	release()
	for range statements {
		<-done
	}
	return runs, errs
}

func TestAStatementThatFailsConcernsItsMemberAlone(t *testing.T) {
	t.Parallel()
	const tables = `CREATE TABLE app.t (id integer PRIMARY KEY); INSERT INTO app.t VALUES (1);
		CREATE TABLE app.child (parent integer REFERENCES app.t DEFERRABLE INITIALLY DEFERRED);
		CREATE FUNCTION app.defer() RETURNS integer LANGUAGE plpgsql AS 'BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN 9; END'`
	for name, c := range map[string]struct {
		sql, words            string
		isTemporary, atCommit bool
	}{
		"a row that is there":           {"INSERT INTO app.t VALUES (7), (1)", "23505", false, false},
		"a deferred constraint":         {"INSERT INTO app.child VALUES (9)", "23503", false, false},
		"no such table":                 {"INSERT INTO app.u VALUES (1)", "42P01", false, false},
		"two of them":                   {"INSERT INTO app.t VALUES (7); INSERT INTO app.t VALUES (8)", "42601", false, false},
		"parameters that are not given": {"INSERT INTO app.t VALUES ($1)", "08P01", false, false},
		"a row that others hold":        {"UPDATE app.t SET id = 2 WHERE id = 1", "55P03", true, false},
		"that takes too long":           {"SELECT pg_sleep(10)", "57014", true, false},
		"one that is deferred again":    {"INSERT INTO app.child SELECT app.defer()", "23503", false, true},
		"that moves the clock":          {"SELECT nextval('dserver.clock')", "DS001", false, true},
		"that ends its connection":      {"SELECT pg_terminate_backend(pg_backend_pid())", "twice", true, false},
		"that take too long together":   {"INSERT INTO app.t VALUES (7)|SELECT pg_sleep(1.2)|SELECT pg_sleep(1.3)", "57014", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app, query := newTables(t, tables)
			database := pgtest.Name(t)
			db := openTest(t, database)
			set(t, db, "a", "1")
			blocker, err := db.connect(t.Context())
			must(t, err)
			defer blocker.close()
			must(t, blocker.script(t.Context(), "BEGIN; SELECT FROM "+app+".t WHERE id = 1 FOR UPDATE"))
			sql := strings.NewReplacer("app.", app+".", "dserver.", pgtest.SchemaOf(database)+".").Replace(c.sql)
			insert := "INSERT INTO " + app + ".t VALUES "
			_, errs := commitTogether(t, db, insert+"(12)", "", sql, insert+"(13)")
			var failed *backend.StatementError
			for i, err := range errs {
				value := get(t, db, fmt.Sprint("member", i))
				switch {
				case i != 2 && (err != nil || value == ""):
					t.Errorf("member %d: %v; its key has %q", i, err, value)
				case i == 2 && (!errors.As(err, &failed) || value != "" || !strings.Contains(err.Error(), c.words) ||
					failed.Index != map[bool]int{true: -1, false: strings.Count(sql, "|")}[c.atCommit] || failed.IsTemporary != c.isTemporary):
					t.Errorf("the culprit: %+v; its key has %q", err, value)
				}
			}
			if got := query("SELECT string_agg(id::text, ' ' ORDER BY id) FROM app.t"); got != "1 12 13" {
				t.Errorf("the rows are %s", got)
			}
			if s := db.Stats(); s.Unknown > 0 || s.Outages > 0 && c.words != "twice" {
				t.Errorf("%+v", s)
			}
		})
	}
}

// The conflicts of a transaction are found before its statements run, and what they change is not left of a run that lost.
func TestStatementsOfWhatHasLostDoNotRun(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (n bigint)")
	name := pgtest.Name(t)
	db, other := openTest(t, name), openTest(t, name)
	set(t, db, "a", "1")
	runs := 0
	transact(t, db, func(tx backend.Tx) error {
		_, err := tx.Get(backend.NewKey("a")).Get()
		if runs++; runs == 1 {
			set(t, other, "a", "2")
		}
		tx.(backend.Execer).Exec(statement(t, "INSERT INTO "+app+".t VALUES ($1)", runs))
		return err
	})
	if got := query("SELECT string_agg(n::text, ' ') FROM app.t"); runs != 2 || got != "2" {
		t.Errorf("after %d runs the rows are %s", runs, got)
	}
}

// Statements read what is committed when they run, by this process and by others, in the order of the commits.
func TestStatementsRunInTheOrderOfCommits(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (n bigint PRIMARY KEY)")
	name := pgtest.Name(t)
	handles := []*DB{openTest(t, name), openTest(t, name)}
	const each = 50
	done := make(chan error)
	for i := range 4 {
		go func() {
			for range each {
				err := handles[i%2].Transact(t.Context(), func(tx backend.Tx) error {
					tx.Add(backend.NewKey("n"), 1)
					tx.(backend.Execer).Exec(statement(t, "INSERT INTO "+app+".t SELECT count(*) + 1 FROM "+app+".t"))
					return nil
				})
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		must(t, <-done)
	}
	if got := query("SELECT count(*) || ' ' || max(n) FROM app.t"); got != fmt.Sprint(4*each, " ", 4*each) {
		t.Errorf("rows and the last: %s", got)
	}
	if n := count(t, handles[0], "n"); n != 4*each {
		t.Errorf("counted %d", n)
	}
}

// Where statements wait for others, a commit waits for some of them, and not for all.
func TestStatementsThatTakeLongAreOfSeveralCommits(t *testing.T) {
	t.Parallel()
	app, _ := newTables(t, "CREATE TABLE app.t (n bigint)")
	db := openTest(t, pgtest.Name(t))
	set(t, db, "a", "1")
	blocker, err := db.connect(t.Context())
	must(t, err)
	defer blocker.close()
	must(t, blocker.script(t.Context(), "BEGIN; LOCK TABLE "+app+".t"))
	insert := "INSERT INTO " + app + ".t VALUES (1)"
	runs, errs := commitTogether(t, db, insert, insert, "", insert)
	if runs[0] != 1 || runs[1] != 1 || runs[2] != 1 || runs[3] != 2 || errs[2] != nil {
		t.Errorf("they ran %v times: %v", runs, errs)
	}
	for _, i := range []int{0, 1, 3} {
		var failed *backend.StatementError
		if !errors.As(errs[i], &failed) || !failed.IsTemporary {
			t.Errorf("member %d: %v", i, errs[i])
		}
	}
}

// The limits of a statement are not those of the writes that come after it.
func TestLimitsOfStatementsAreTheirsAlone(t *testing.T) {
	t.Parallel()
	app, _ := newTables(t, "CREATE TABLE app.t (n bigint)")
	name := pgtest.Name(t)
	db := openTest(t, name)
	set(t, db, "a", "1")
	blocker, err := db.connect(t.Context())
	must(t, err)
	defer blocker.close()
	must(t, blocker.script(t.Context(), "BEGIN; SELECT FROM "+pgtest.SchemaOf(name)+".kv FOR UPDATE"))
	freed := make(chan error)
	go func() {
		<-time.After(backend.ExecLimit + time.Second/2)
		freed <- blocker.script(context.Background(), "COMMIT")
	}()
	runs := 0
	transact(t, db, func(tx backend.Tx) error {
		runs++
		tx.Set(backend.NewKey("a"), []byte("2"))
		tx.(backend.Execer).Exec(statement(t, "INSERT INTO "+app+".t VALUES (1)"))
		return nil
	})
	must(t, <-freed)
	if runs != 1 {
		t.Errorf("it ran %d times", runs)
	}
}

// What a statement sets is so for its member alone.
func TestSettingsOfStatementsAreTheirsAlone(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (who text, isolation text, durable text, reads text)")
	query("CREATE ROLE " + app + "_web; GRANT USAGE ON SCHEMA " + app + " TO " + app + "_web")
	t.Cleanup(func() { query("DROP OWNED BY " + app + "_web; DROP ROLE " + app + "_web") })
	db := openTest(t, pgtest.Name(t))
	set(t, db, "a", "1")
	look := "INSERT INTO " + app + ".t VALUES (concat(current_setting('app.tenant', true), current_user), " +
		"current_setting('statement_timeout'), current_setting('synchronous_commit'), current_setting('default_transaction_read_only'))"
	_, errs := commitTogether(t, db, look)
	must(t, errs[0])
	_, errs = commitTogether(t, db, "SELECT set_config('app.tenant', 'alice', true)", look, "SELECT set_config('role', '"+app+"_web', true)", look,
		"SELECT set_config('synchronous_commit', 'off', false)", look, "SELECT set_config('default_transaction_read_only', 'on', false)", look,
		"SELECT set_config('statement_timeout', '0', false)", look)
	must(t, errors.Join(errs...))
	_, errs = commitTogether(t, db, look)
	must(t, errs[0])
	set(t, db, "a", "2")
	if got := query("SELECT count(*) || ' ' || count(DISTINCT t) FROM app.t"); got != "7 1" {
		t.Errorf("rows and kinds of rows: %s: %s", got, query("SELECT string_agg(DISTINCT t::text, ' ') FROM app.t"))
	}
}

// A connection that begins with a role has it after statements as well.
func TestRoleOfAConnectionStaysAfterStatements(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (who text)")
	owner := app + "_owner"
	query("CREATE ROLE " + owner + "; GRANT USAGE ON SCHEMA " + app + " TO " + owner + "; GRANT INSERT ON app.t TO " + owner + "; GRANT CREATE ON DATABASE postgres TO " + owner)
	name := pgtest.Name(t)
	t.Cleanup(func() { query("DROP OWNED BY " + owner + " CASCADE; DROP ROLE " + owner) })
	db := openTest(t, name+"&options=-c%20role%3D"+owner)
	for range 3 {
		transact(t, db, func(tx backend.Tx) error {
			tx.Set(backend.NewKey("a"), []byte("1"))
			tx.(backend.Execer).Exec(statement(t, "INSERT INTO "+app+".t VALUES (current_user)"))
			return nil
		})
	}
	if got := query("SELECT count(*) || min(who) || max(who) FROM app.t"); got != "3"+owner+owner {
		t.Error(got)
	}
}

func TestParametersAreWhatTheyWere(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (n bigint, f float8, at timestamptz)")
	db := openTest(t, pgtest.Name(t))
	at := time.Date(1900, 1, 1, 0, 53, 37, 0, time.FixedZone("", 53*60+37))
	transact(t, db, func(tx backend.Tx) error {
		tx.(backend.Execer).Exec(statement(t, "INSERT INTO "+app+".t VALUES ($1, $2, $3)", 1e6, 1e300, at))
		return nil
	})
	if got := query("SELECT n || ' ' || f || ' ' || extract(epoch FROM at)::bigint FROM app.t"); got != fmt.Sprint("1000000 1e+300 ", at.Unix()) {
		t.Errorf("%s, want %d", got, at.Unix())
	}
}

// A pooler that cannot keep prepared statements, and one that has no settings at the start, are no hindrance.
func TestStatementsRunUnprepared(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (n bigint PRIMARY KEY)")
	db := openTest(t, pgtest.Name(t)+"&dserver_unprepared=true")
	transact(t, db, func(tx backend.Tx) error {
		tx.(backend.Execer).Exec(statement(t, "INSERT INTO "+app+".t VALUES ($1)", 1))
		tx.(backend.Execer).Exec(statement(t, "UPDATE "+app+".t SET n = n + $1", 2))
		return nil
	})
	if got := query("SELECT sum(n) FROM app.t"); got != "3" {
		t.Error(got)
	}
}

// What a statement failed of is no reason if it is not committed after all: of three in a group the second meets a row of the
// first, and the third ends the connection. Then the first decides otherwise.
func TestAStatementThatMetARowOfWhatWasRolledBackRunsAgain(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (id integer PRIMARY KEY)")
	db := openTest(t, pgtest.Name(t))
	set(t, db, "a", "1")
	await(t, "the commit before to end", func() bool { return !db.writer.IsLeading() })
	release := db.writer.Hold()
	done := make(chan error)
	for i, sql := range []string{"INSERT INTO " + app + ".t VALUES (7)", "INSERT INTO " + app + ".t VALUES (7)", "SELECT pg_terminate_backend(pg_backend_pid())"} {
		go func() {
			runs := 0
			done <- db.Transact(t.Context(), func(tx backend.Tx) error {
				tx.Set(backend.NewKey(fmt.Sprint("member", i)), []byte("x"))
				if runs++; i == 1 || runs == 1 {
					tx.(backend.Execer).Exec(statement(t, sql))
				}
				return nil
			})
		}()
		await(t, "it to queue up", func() bool { return db.writer.Waiting() == i+1 })
	}
	release()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := query("SELECT count(*) FROM app.t"); got != "1" {
		t.Errorf("%s rows", got)
	}
}

// A statement that ends its connection is found, whatever its parameters are, and whatever runs beside it.
func TestAStatementThatEndsItsConnectionIsFound(t *testing.T) {
	t.Parallel()
	db := openTest(t, pgtest.Name(t))
	runs := 0
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		runs++
		tx.(backend.Execer).Exec(statement(t, "SELECT pg_terminate_backend(pg_backend_pid()), $1::bigint", runs))
		return nil
	})
	var failed *backend.StatementError
	if !errors.As(err, &failed) || !failed.IsTemporary || runs != 2 {
		t.Errorf("after %d runs: %v", runs, err)
	}
	set(t, db, "a", "1")
}

// What fails of the writes of DServer is nobody's statement, though a group has some.
func TestAFullDiskIsNoStatements(t *testing.T) {
	t.Parallel()
	app, query := newTables(t, "CREATE TABLE app.t (n integer)")
	name := pgtest.Name(t)
	db := openTest(t, name)
	set(t, db, "a", "1")
	query("CREATE FUNCTION app.no_room() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE SQLSTATE ''53100''; END'; " +
		"CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON " + pgtest.SchemaOf(name) + ".kv FOR EACH ROW EXECUTE FUNCTION app.no_room()")
	_, errs := commitTogether(t, db, "INSERT INTO "+app+".t VALUES (1)", "")
	for i, err := range errs {
		var failed *backend.StatementError
		if errors.As(err, &failed) || err == nil || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("member %d: %v", i, err)
		}
	}
}

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// openWith opens a new database, and makes tables of the program's by another connection.
func openWith(t *testing.T, script string) *DB {
	t.Helper()
	db := openTest(t)
	c, err := connect(db.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(execute(c, script), c.Close()); err != nil {
		t.Fatal(err)
	}
	return db
}

// queryTables is the first value that a query of the program's brings.
func queryTables(t *testing.T, db *DB, query string) string {
	t.Helper()
	c, err := connect(db.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := text(c, query)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// group commits transactions as one group: each writes a key of its own and has statements, with | between them.
func group(t *testing.T, db *DB, statements ...string) (runs []int, errs []error) {
	t.Helper()
	runs, errs = make([]int, len(statements)), make([]error, len(statements))
	release := db.writer.Hold()
	done := make(chan struct{})
	for i, sql := range statements {
		go func() {
			errs[i] = db.Transact(t.Context(), func(tx backend.Tx) error {
				runs[i]++
				tx.Set(backend.NewKey("member").Int(int64(i)), []byte("x"))
				for part := range strings.SplitSeq(sql, "|") {
					if part == "" {
						continue
					}
					s, err := backend.NewStatement(part)
					if err != nil {
						return err
					}
					tx.(backend.Execer).Exec(s)
				}
				return nil
			})
			done <- struct{}{}
		}()
		awaitQueue(t, db, i+1)
	}
	release()
	for range statements {
		<-done
	}
	return runs, errs
}

// expectFailed expects that this member alone has failed, with all of it, and that the others are committed.
func expectFailed(t *testing.T, db *DB, errs []error, culprit int, words string) *backend.StatementError {
	t.Helper()
	var failed *backend.StatementError
	for i, err := range errs {
		isThere := false
		readErr := db.Read(t.Context(), func(tx backend.ReadTx) error {
			value, err := tx.Get(backend.NewKey("member").Int(int64(i))).Get()
			isThere = value != nil
			return err
		})
		if readErr != nil {
			t.Fatal(readErr)
		}
		switch {
		case i == culprit:
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), words) || isThere {
				t.Fatalf("the culprit: %v; its key is there: %v", err, isThere)
			}
		case err != nil || !isThere:
			t.Errorf("member %d: %v; its key is there: %v", i, err, isThere)
		}
	}
	return failed
}

func TestAStatementThatFailsConcernsItsMemberAlone(t *testing.T) {
	const tables = `CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);
		CREATE TABLE full (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER); INSERT INTO full VALUES (9223372036854775807, 1);
		CREATE TABLE doc (id INTEGER PRIMARY KEY, body TEXT); INSERT INTO doc VALUES (1, 'a'), (2, 'b');
		CREATE VIRTUAL TABLE found USING fts5 (body, content = 'doc', content_rowid = 'id');
		CREATE TABLE trap (id INTEGER); CREATE TRIGGER sprung AFTER INSERT ON trap BEGIN DELETE FROM kv; END`
	isTemporary := map[string]bool{"no room for another row": true}
	for name, c := range map[string]struct{ sql, words string }{
		"a row that is there":           {"INSERT INTO t VALUES (7), (1)", "UNIQUE"},
		"that ends the transaction":     {"INSERT OR ROLLBACK INTO t VALUES (7), (1)", "UNIQUE"},
		"after one that is right":       {"INSERT INTO t VALUES (7)|INSERT INTO t VALUES (1)", "UNIQUE"},
		"no such table":                 {"INSERT INTO u VALUES (1)", "no such table"},
		"no room for another row":       {"INSERT INTO full (n) VALUES (2)", "full"},
		"an index that is damaged":      {"INSERT INTO found (found, rank) VALUES ('integrity-check', 1)", "malformed"},
		"a table of DServer's":          {"DELETE FROM sequence", "a table of DServer's"},
		"a page of the file":            {"UPDATE sqlite_dbpage SET data = zeroblob(4096) WHERE pgno = 2", "a table of DServer's"},
		"a trigger to such a table":     {"INSERT INTO trap VALUES (1)", "a table of DServer's"},
		"two of them":                   {"INSERT INTO t VALUES (7); INSERT INTO t VALUES (8)", "more than one statement"},
		"parameters that are not given": {"INSERT INTO t VALUES ($2)", "2 parameters, and 0"},
		"parameters with names":         {"INSERT INTO t VALUES (:id)", ":id"},
		"a parameter with a word":       {"INSERT INTO t VALUES ($id)", "$id"},
	} {
		t.Run(name, func(t *testing.T) {
			db := openWith(t, tables)
			_, errs := group(t, db, "INSERT INTO t VALUES (2)", "", c.sql, "INSERT INTO t VALUES (3)")
			if failed := expectFailed(t, db, errs, 2, c.words); failed.IsTemporary != isTemporary[name] || !strings.HasSuffix(c.sql, failed.SQL) ||
				failed.Index != strings.Count(c.sql, "|") {
				t.Errorf("%+v", failed)
			}
			if got := queryTables(t, db, "SELECT group_concat(id) FROM (SELECT id FROM t ORDER BY id)"); got != "1,2,3" {
				t.Errorf("the rows are %s", got)
			}
		})
	}
}

// A statement that takes too long is interrupted, with which SQLite ends the transaction of all.
func TestAStatementThatTakesTooLongConcernsItsMemberAlone(t *testing.T) {
	t.Parallel()
	db := openWith(t, "CREATE TABLE t (id INTEGER)")
	const endless = "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0"
	began := time.Now()
	_, errs := group(t, db, "INSERT INTO t VALUES (2)", "", endless)
	if failed := expectFailed(t, db, errs, 2, "interrupt"); !failed.IsTemporary {
		t.Errorf("%+v", failed)
	}
	if took := time.Since(began); took < backend.ExecLimit {
		t.Errorf("it had %v", took)
	}
	if got := queryTables(t, db, "SELECT count(*) FROM t"); got != "1" {
		t.Errorf("%s rows", got)
	}
}

// A deferred constraint fails at the COMMIT of all. Whose it is, is found out, and the others are committed.
func TestADeferredConstraintConcernsItsMemberAlone(t *testing.T) {
	const tables = `CREATE TABLE parent (id INTEGER PRIMARY KEY);
		CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)`
	const both = "INSERT INTO child VALUES (%[1]d, %[1]d)"
	db := openWith(t, tables)
	_, errs := group(t, db, "INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (1, NULL)", "", fmt.Sprintf(both, 9), "INSERT INTO parent VALUES (2)")
	if failed := expectFailed(t, db, errs, 3, "FOREIGN KEY"); failed.IsTemporary {
		t.Errorf("%+v", failed)
	}
	err := db.Transact(t.Context(), func(tx backend.Tx) error { // the child comes before its parent
		for _, sql := range []string{fmt.Sprintf(both, 3), "INSERT INTO parent VALUES (3)"} {
			s, err := backend.NewStatement(sql)
			if err != nil {
				return err
			}
			tx.(backend.Execer).Exec(s)
		}
		return nil
	})
	if got := queryTables(t, db, "SELECT (SELECT count(*) FROM parent) || ' ' || (SELECT count(*) FROM child)"); err != nil || got != "3 2" {
		t.Errorf("%s, %v", got, err)
	}
}

// What a statement failed of is no reason if it is not committed after all.
func TestAStatementThatMetARowOfWhatWasRolledBackRunsAgain(t *testing.T) {
	const tables = `CREATE TABLE parent (id INTEGER PRIMARY KEY); INSERT INTO parent VALUES (1);
		CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)`
	for name, insert := range map[string]string{"refused": "INSERT", "ended": "INSERT OR ROLLBACK"} {
		t.Run(name, func(t *testing.T) {
			db := openWith(t, tables)
			_, errs := group(t, db, "INSERT INTO child VALUES (7, 99)", "", insert+" INTO child VALUES (7, 1)")
			expectFailed(t, db, errs, 0, "constraint failed") // of its parent, or of its key where the other one came first
			if got := queryTables(t, db, "SELECT group_concat(parent) FROM child"); got != "1" {
				t.Errorf("the rows are %s", got)
			}
		})
	}
}

// While it is looked for, a group has one member with statements.
func TestWhoBreaksAConstraintIsLookedForOneByOne(t *testing.T) {
	db := openWith(t, "CREATE TABLE t (id INTEGER)")
	db.writer.turn.Lock()
	db.writer.blame.Took(0, true)
	db.writer.blame.Took(0, true)
	db.writer.blame.Refuse(nil, nil)
	db.writer.turn.Unlock()
	runs, errs := group(t, db, "INSERT INTO t VALUES (1)", "", "INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (3)")
	expectFailed(t, db, errs, -1, "")
	if runs[0] != 1 || runs[1] != 1 || runs[2] < 2 || runs[3] < 2 {
		t.Errorf("they ran %v times", runs)
	}
}

// What statements write counts for the log, which is copied into the file.
func TestWhatStatementsWriteIsCopiedFromTheLog(t *testing.T) {
	db := openWith(t, "CREATE TABLE t (b BLOB)")
	for range 2 * lookEvery {
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			s, err := backend.NewStatement("INSERT INTO t VALUES (zeroblob(1000000))")
			tx.(backend.Execer).Exec(s)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the file to have it", func() bool {
		info, err := os.Stat(db.path)
		return err == nil && info.Size() > lookEvery*1_000_000
	})
}

// The conflicts of a transaction are found before its statements run.
func TestStatementsOfWhatHasLostDoNotRun(t *testing.T) {
	db := openWith(t, "CREATE TABLE t (n INTEGER)")
	other := openAt(t, db.path)
	runs := 0
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		_, err := tx.Get(backend.NewKey("a")).Get()
		if runs++; runs == 1 {
			mustSet(t, other, "a", "2")
		}
		s, sErr := backend.NewStatement("INSERT INTO t VALUES ($1)", runs)
		tx.(backend.Execer).Exec(s)
		return errors.Join(err, sErr)
	})
	if got := queryTables(t, db, "SELECT group_concat(n) FROM t"); err != nil || runs != 2 || got != "2" {
		t.Errorf("after %d runs the rows are %s: %v", runs, got, err)
	}
}

package sqlite

import (
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	driver "zombiezen.com/go/sqlite"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// ended is that a member's statement made SQLite end the transaction of the group, as an interrupt does.
type ended struct {
	member *occ.Tx
	cause  error
}

func (e *ended) Error() string { return e.cause.Error() }

// run runs the statements of a member, which may be committed but for them, under a savepoint. It reports whether they
// ran; if not, why is the member's Result, and nothing of them is left. An error concerns the group.
func (w *writer) run(t *occ.Tx) (ran bool, err error) {
	if len(t.Statements()) == 0 {
		return true, nil
	}
	if !w.blame.Admits(t) {
		return false, nil
	}
	if err := drain(w.save); err != nil {
		return false, err
	}
	began := time.Now()
	failed, err := w.runAll(t.Statements())
	w.blame.Took(time.Since(began), err == nil)
	switch {
	case err == nil:
		return true, drain(w.release)
	case driver.ErrCode(err).ToPrimary() == driver.ResultIOErr:
		return false, err
	}
	w.blame.Fail(t, &backend.StatementError{
		SQL: t.Statements()[failed].SQL, Index: failed, Cause: describeStatement(err), IsTemporary: isTemporary(err),
	})
	if w.conn.conn.AutocommitEnabled() {
		return false, &ended{t, t.Result}
	}
	return false, errors.Join(drain(w.back), drain(w.release))
}

// runAll runs statements until one fails.
func (w *writer) runAll(statements []backend.Statement) (failed int, err error) {
	limit := make(chan struct{})
	defer time.AfterFunc(backend.ExecLimit, func() { close(limit) }).Stop()
	w.conn.conn.SetInterrupt(limit)
	w.isGuarded = true
	defer func() {
		w.isGuarded = false
		w.conn.conn.SetInterrupt(nil)
	}()
	for i, s := range statements {
		if err := w.runStatement(s); err != nil {
			return i, err
		}
		w.executed += rowPages * pageBytes * w.conn.conn.Changes()
	}
	return 0, nil
}

// rowPages is how many pages a row that a statement changes writes, at most as a rule: of its table, and of indexes.
const rowPages = 2

// isTemporary reports whether the same statement may succeed later.
func isTemporary(err error) bool {
	switch driver.ErrCode(err).ToPrimary() {
	case driver.ResultInterrupt, driver.ResultFull, driver.ResultNoMem, driver.ResultBusy, driver.ResultLocked:
		return true
	}
	return false
}

// describeStatement says more than SQLite does, whose words are of the program's tables, and not of the file.
func describeStatement(err error) error {
	if driver.ErrCode(err).ToPrimary() == driver.ResultAuth {
		return fmt.Errorf("it writes a table of DServer's: %w", err)
	}
	return err
}

// Authorize keeps statements of the program from writing DServer's tables. It is asked when a statement is prepared, and of
// its triggers as well.
func (w *writer) Authorize(a driver.Action) driver.AuthResult {
	if !w.isGuarded {
		return driver.AuthResultOK
	}
	switch a.Type() {
	case driver.OpInsert, driver.OpUpdate, driver.OpDelete:
		switch strings.ToLower(a.Table()) {
		case "kv", "sequence", "sqlite_dbpage":
			return driver.AuthResultDeny
		}
	}
	return driver.AuthResultOK
}

// runStatement runs one, which may bring rows that nobody wants.
func (w *writer) runStatement(s backend.Statement) error {
	stmt, err := w.prepareStatement(s.SQL)
	if err != nil {
		return err
	}
	if err = w.bind(stmt, s.Args); err == nil {
		err = drain(stmt)
	}
	if err != nil {
		delete(w.known, s.SQL)
		_ = stmt.Finalize() // tells the same error
	}
	return err
}

// maxKnown is how many statements of the program's are kept prepared.
const maxKnown = 16

// prepareStatement prepares one, or finds it prepared.
func (w *writer) prepareStatement(sql string) (*driver.Stmt, error) {
	if stmt := w.known[sql]; stmt != nil {
		return stmt, nil
	}
	stmt, rest, err := w.conn.conn.PrepareTransient(sql)
	if err != nil {
		return nil, err
	}
	if strings.Trim(sql[len(sql)-rest:], "; \t\r\n") != "" {
		return nil, errors.Join(errors.New("there is more than one statement in it, or a comment behind it: give each on its own"), stmt.Finalize())
	}
	if len(w.known) == maxKnown {
		w.forgetStatements()
	}
	w.known[sql] = stmt
	return stmt, nil
}

// forgetStatements gives up those that are kept prepared.
func (w *writer) forgetStatements() {
	for _, stmt := range w.known {
		_ = stmt.Finalize() // it is reset
	}
	clear(w.known)
}

// bind gives a statement its parameters. Those that are named $1, $2 are of that number; others stand in their order.
func (w *writer) bind(stmt *driver.Stmt, args []sqldriver.Value) error {
	needed := 0
	for i := 1; i <= stmt.BindParamCount(); i++ {
		n := i
		switch name := stmt.BindParamName(i); {
		case strings.HasPrefix(name, "$"):
			var err error
			if n, err = strconv.Atoi(name[1:]); err != nil || n < 1 {
				return fmt.Errorf("the parameter %s: they are $1, $2 and so on", name)
			}
		case name != "" && name[0] != '?':
			return fmt.Errorf("the parameter %s: they are $1, $2 and so on", name)
		}
		if needed = max(needed, n); n <= len(args) {
			w.executed += bindOne(stmt, i, args[n-1])
		}
	}
	if needed != len(args) {
		return fmt.Errorf("it has %d parameters, and %d were given", needed, len(args))
	}
	return nil
}

// bindOne returns how many bytes a text or bytes have.
func bindOne(stmt *driver.Stmt, i int, arg sqldriver.Value) int {
	switch v := arg.(type) {
	case nil:
		stmt.BindNull(i)
	case int64:
		stmt.BindInt64(i, v)
	case float64:
		stmt.BindFloat(i, v)
	case bool:
		stmt.BindBool(i, v)
	case string:
		stmt.BindText(i, v)
		return len(v)
	case []byte:
		if v == nil {
			stmt.BindNull(i)
			return 0
		}
		stmt.BindBytes(i, v)
		return len(v)
	case time.Time:
		stmt.BindText(i, v.Format(timeFormat))
	}
	return 0
}

// timeFormat is how times are stored: as SQLite's own functions read them, and most drivers of Go.
const timeFormat = "2006-01-02 15:04:05.999999999-07:00"

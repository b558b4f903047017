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
	switch {
	case len(t.Statements()) == 0:
		return true, nil
	case w.executing > 0 && w.db.log.Clock() < w.aloneUntil:
		t.Result = occ.ErrLost
		return false, nil
	}
	if err := drain(w.save); err != nil {
		return false, err
	}
	limit := make(chan struct{})
	defer time.AfterFunc(backend.ExecLimit, func() { close(limit) }).Stop()
	c := w.conn.conn
	c.SetInterrupt(limit)
	defer c.SetInterrupt(nil)
	for _, s := range t.Statements() {
		err := w.runStatement(s)
		if err == nil {
			continue
		}
		if isOfStore(err) {
			return false, err
		}
		c.SetInterrupt(nil)
		t.Result = w.statementError(s.SQL, err)
		if c.AutocommitEnabled() {
			return false, &ended{t, t.Result}
		}
		return false, errors.Join(drain(w.back), drain(w.release))
	}
	w.executing++
	return true, drain(w.release)
}

func (w *writer) statementError(sql string, err error) error {
	return &backend.StatementError{
		SQL: sql, Cause: describe("run it on", w.db.path, err), IsTemporary: driver.ErrCode(err).ToPrimary() == driver.ResultInterrupt,
	}
}

// refusedStatement deals with the end of a group that a deferred constraint of the program's tables refuses, which is told
// by the COMMIT alone, and not of whom it is. So the members run again, and those with statements one in a group, until the
// one is found. It reports whether it was that.
func (w *writer) refusedStatement(members []*occ.Tx, err error) bool {
	if w.executing == 0 || driver.ErrCode(err).ToPrimary() != driver.ResultConstraint {
		return false
	}
	var culprit *occ.Tx
	for _, t := range members {
		if w.executing == 1 && t.Result == nil && len(t.Statements()) > 0 {
			culprit = t
		}
	}
	if culprit == nil {
		w.aloneUntil = w.db.log.Clock() + int64(aloneFor)
	}
	w.failed(members, occ.ErrLost)
	if culprit != nil {
		culprit.Result = w.statementError("COMMIT", err)
	}
	return true
}

// aloneFor is how long refusedStatement looks for who it is.
const aloneFor = time.Second

// isOfStore reports whether an error of a statement is one of the file, which all who commit have.
func isOfStore(err error) bool {
	switch driver.ErrCode(err).ToPrimary() {
	case driver.ResultFull, driver.ResultIOErr, driver.ResultCorrupt, driver.ResultNotADB, driver.ResultNoMem:
		return true
	}
	return false
}

// runStatement runs one, which may bring rows that nobody wants.
func (w *writer) runStatement(s backend.Statement) error {
	stmt, err := w.prepareStatement(s.SQL)
	if err != nil {
		return err
	}
	if err = bind(stmt, s.Args); err == nil {
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
		return nil, errors.Join(errors.New("there is more than one statement in it: give each on its own"), stmt.Finalize())
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
func bind(stmt *driver.Stmt, args []sqldriver.Value) error {
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
		if needed = max(needed, n); n > len(args) {
			continue
		}
		bindOne(stmt, i, args[n-1])
	}
	if needed != len(args) {
		return fmt.Errorf("it has %d parameters, and %d were given", needed, len(args))
	}
	return nil
}

func bindOne(stmt *driver.Stmt, i int, arg sqldriver.Value) {
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
	case []byte:
		if v == nil {
			stmt.BindNull(i)
			return
		}
		stmt.BindBytes(i, v)
	case time.Time:
		stmt.BindText(i, v.Format(timeFormat))
	}
}

// timeFormat is how times are stored: as SQLite's own functions read them, and most drivers of Go.
const timeFormat = "2006-01-02 15:04:05.999999999-07:00"

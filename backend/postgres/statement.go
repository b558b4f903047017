package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// The statements of the program's own tables (backend.Execer). They need the clock's lock, so that a member is known to be
// valid before its statements run, and an answer before the group is written. So a group that has some is committed in two
// steps, whoever else commits, and each member's statements are one round trip between them, under a savepoint. Nothing in
// them may fail at the COMMIT, when it could not be told whose it is: deferred constraints are checked at once. Statements
// that wait for locks of the program's make all wait who commit: where those of some members have taken backend.ExecLimit,
// those of the others wait for the next group.

// What stands around the statements of a member.
var (
	beforeStatements = []string{ //nolint:gochecknoglobals // a constant
		"SAVEPOINT statements", "SET CONSTRAINTS ALL IMMEDIATE",
		fmt.Sprintf("SET LOCAL lock_timeout = %d", backend.ExecLockLimit.Milliseconds()),
		fmt.Sprintf("SET LOCAL statement_timeout = %d", backend.ExecLimit.Milliseconds()),
	}
	afterStatements = []string{ //nolint:gochecknoglobals // a constant
		"SET LOCAL lock_timeout TO DEFAULT", "SET LOCAL statement_timeout TO DEFAULT", "RELEASE statements",
	}
)

// executes reports whether a member has statements.
func executes(members []*occ.Tx) bool {
	for _, t := range members {
		if len(t.Statements()) > 0 {
			return true
		}
	}
	return false
}

// run runs the statements of a member, which may be committed but for them. It reports whether they ran; if not, why is the
// member's Result, and nothing of them is left. An error concerns the group.
func (w *writer) run(t *occ.Tx) (ran bool, err error) {
	switch {
	case len(t.Statements()) == 0:
		return true, nil
	case w.executed > backend.ExecLimit:
		t.Result = occ.ErrLost
		return false, nil
	}
	c, began := w.conn, time.Now()
	defer func() { w.executed += time.Since(began) }()
	defer time.AfterFunc(backend.ExecLimit, func() { c.cancel(w.db.life) }).Stop()
	var batch pgconn.Batch
	for _, sql := range beforeStatements {
		batch.ExecParams(sql, nil, nil, nil, nil)
	}
	for _, s := range t.Statements() {
		parameters, formats := parametersOf(s.Args)
		batch.ExecParams(s.SQL, parameters, nil, formats, nil)
	}
	for _, sql := range afterStatements {
		batch.ExecParams(sql, nil, nil, nil, nil)
	}
	results := c.pg.ExecBatch(w.db.life, &batch)
	done := 0
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err == nil {
			done++
		}
	}
	err = results.Close()
	failed := done - len(beforeStatements)
	switch {
	case err == nil:
		return true, nil
	case !isWord(err), failed < 0, failed >= len(t.Statements()):
		return false, err
	}
	t.Result = &backend.StatementError{
		SQL: t.Statements()[failed].SQL, Cause: fmt.Errorf("postgres: %w", err), IsTemporary: isTemporary(err),
	}
	return false, c.script(w.db.life, "ROLLBACK TO statements; RELEASE statements")
}

// cancel asks the server to cancel what the connection has under way. That may come late, and meet what comes next: this is
// refused then, or has a warning, as if an operator had done it.
func (c *connection) cancel(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	_ = c.pg.CancelRequest(ctx) // else statement_timeout ends each of them
}

// isWord reports whether err is the server's word about a statement. Unlike isRefusal it takes the errors of the class of
// connections for one, as that there are too few parameters: the savepoint is asked next, and on a connection that is lost
// this fails.
func isWord(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.SeverityUnlocalized == "ERROR"
}

// isTemporary reports whether the same statement may succeed later.
func isTemporary(err error) bool {
	return isRace(err) || strings.HasPrefix(codeOf(err), classResources)
}

// How a parameter is sent.
const (
	formatText   int16 = 0
	formatBinary int16 = 1
)

// parametersOf are the parameters as they are sent: texts, of which the server makes what the statement needs, and bytes.
func parametersOf(args []driver.Value) (parameters [][]byte, formats []int16) {
	for _, arg := range args {
		format := formatText
		var p []byte
		switch v := arg.(type) {
		case int64:
			p = strconv.AppendInt(nil, v, 10)
		case float64:
			p = strconv.AppendFloat(nil, v, 'g', -1, 64)
		case bool:
			p = strconv.AppendBool(nil, v)
		case string:
			p = []byte(v)
		case []byte:
			p, format = v, formatBinary
		case time.Time:
			p = v.AppendFormat(nil, time.RFC3339Nano)
		}
		parameters, formats = append(parameters, p), append(formats, format)
	}
	return parameters, formats
}

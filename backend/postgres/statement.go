package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// The statements of the program's own tables (backend.Execer). They need the clock's lock, so that a member is known to be
// valid before its statements run, and an answer before the group is written. So a group that has some is committed in two
// steps, whoever else commits, and each member's statements are one round trip between them:
//
//  1. They are under a savepoint. What a statement fails of is its member's error, and nothing of it is left.
//  2. Deferred constraints are checked there. What is refused afterwards all the same, as by a trigger that defers them
//     again or a role that may not write, is one member's whom nobody knows: they run one by one until it is found (occ.Blame).
//  3. Settings that statements make are undone: for the other members, for the writes that come after, and for the
//     transactions that come after on this connection. Behind a pooler the session is not ours, and they are not.
//  4. A member at whose statement the connection was lost runs again, as after each loss. Where it is lost there twice, the
//     statement is taken to be why.

// before and after stand around the statements of a member.
func (c *connection) before() []string {
	return []string{
		"SAVEPOINT statements", "SET CONSTRAINTS ALL IMMEDIATE",
		fmt.Sprintf("SET LOCAL lock_timeout = %d", backend.ExecLockLimit.Milliseconds()),
		fmt.Sprintf("SET LOCAL statement_timeout = %d", backend.ExecLimit.Milliseconds()),
	}
}

func (c *connection) after() []string {
	undo := []string{"RESET ALL", "RESET SESSION AUTHORIZATION", "RESET ROLE"}
	if c.isPooled { // then the session is not ours, and what a pooler has set must stay
		undo = []string{"SET LOCAL lock_timeout TO DEFAULT", "SET LOCAL statement_timeout TO DEFAULT", "SET LOCAL synchronous_commit TO DEFAULT"}
	}
	return slices.Concat([]string{"SET CONSTRAINTS ALL IMMEDIATE"}, undo, []string{c.sql.bound, "RELEASE statements"})
}

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
	if len(t.Statements()) == 0 {
		return true, nil
	}
	if !w.blame.Admits(t) {
		return false, nil
	}
	c, began, cancelled := w.conn, time.Now(), make(chan struct{})
	limit := time.AfterFunc(backend.ExecLimit, func() {
		c.cancel(w.db.life)
		close(cancelled)
	})
	done, err := c.runAll(w.db.life, t.Statements())
	if !limit.Stop() {
		<-cancelled // or it would meet the next member's
	}
	w.blame.Took(time.Since(began), err == nil)
	failed, statement := max(done-len(c.before()), 0), backend.Statement{SQL: "SET CONSTRAINTS ALL IMMEDIATE"}
	if failed < len(t.Statements()) {
		statement = t.Statements()[failed]
	} else {
		failed = -1
	}
	switch {
	case err == nil:
		w.trust(t.Statements())
		return true, nil
	case isWord(err):
		w.blame.Fail(t, statementError(statement.SQL, failed, err))
		return false, c.script(w.db.life, "ROLLBACK TO statements; RELEASE statements")
	case w.suspect(statement.SQL):
		t.Result = &backend.StatementError{
			SQL: statement.SQL, Index: failed, Cause: fmt.Errorf("postgres: the connection was lost in it, twice: %w", err), IsTemporary: true,
		}
		return false, err
	}
	return false, err
}

// suspicion is how long a statement is suspected at which the connection was lost.
const suspicion = time.Minute

// suspect notes that the connection was lost at a statement, and reports whether it was before, and not long ago.
func (w *writer) suspect(sql string) (again bool) {
	before, was := w.suspects[sql]
	if len(w.suspects) > maxSuspects {
		clear(w.suspects)
	}
	w.suspects[sql] = time.Now()
	return was && time.Since(before) < suspicion
}

const maxSuspects = 100

// trust takes what has run off the suspects.
func (w *writer) trust(statements []backend.Statement) {
	if len(w.suspects) > 0 {
		for _, s := range statements {
			delete(w.suspects, s.SQL)
		}
	}
}

// mayBeOfStatements reports whether the refusal of a group that was written may be because of its statements: of a constraint
// or a trigger that was deferred. A full disk, a right that lacks and damage are not.
func mayBeOfStatements(err error) bool {
	code := codeOf(err)
	_, isHinted := hints[code]
	return !isRace(err) && !isHinted && !strings.HasPrefix(code, classResources) && !strings.HasPrefix(code, classDamage)
}

// runAll sends statements, and returns how many were done, with those that stand before them.
func (c *connection) runAll(ctx context.Context, statements []backend.Statement) (done int, err error) {
	var batch pgconn.Batch
	for _, sql := range c.before() {
		batch.ExecParams(sql, nil, nil, nil, nil)
	}
	for _, s := range statements {
		parameters, formats := parametersOf(s.Args)
		batch.ExecParams(s.SQL, parameters, nil, formats, nil)
	}
	for _, sql := range c.after() {
		batch.ExecParams(sql, nil, nil, nil, nil)
	}
	results := c.pg.ExecBatch(ctx, &batch)
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err == nil {
			done++
		}
	}
	return done, results.Close()
}

func statementError(sql string, index int, err error) *backend.StatementError {
	return &backend.StatementError{SQL: sql, Index: index, Cause: fmt.Errorf("postgres: %w", err), IsTemporary: isTemporary(err)}
}

// cancelWait bounds how long it takes to ask for a cancel.
const cancelWait = time.Second

// cancel asks the server to cancel what the connection has under way. That may come late, and meet what comes next: this is
// refused then, or has a warning, as if an operator had done it.
func (c *connection) cancel(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
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

// maxPlain is where a number is written with an exponent from.
const maxPlain = 1e18

// parametersOf are the parameters as they are sent: texts, of which the server makes what the statement needs, and bytes.
func parametersOf(args []driver.Value) (parameters [][]byte, formats []int16) {
	for _, arg := range args {
		format := formatText
		var p []byte
		switch v := arg.(type) {
		case int64:
			p = strconv.AppendInt(nil, v, 10)
		case float64:
			form := byte('g')
			if math.Trunc(v) == v && math.Abs(v) < maxPlain { // what an integer's column takes
				form = 'f'
			}
			p = strconv.AppendFloat(nil, v, form, -1, 64)
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

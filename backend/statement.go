package backend

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Execer is a Tx of a store that is an SQL database: its commit can change tables of the program's own, which lie in the
// same database. SQLite and PostgreSQL are such stores.
type Execer interface {
	Tx

	// Exec has s run in the commit, with the others of the transaction in the order of the calls. Then the transaction is
	// known to be valid, and no other of any process commits beside it, so statements of several transactions run in the
	// order of their versionstamps. What s reads is what is committed by then; it is no conflict.
	//
	// Either all of the transaction is committed, statements and writes, or nothing. When s fails, Transact returns a
	// *StatementError, and what else the store commits at the time is not concerned. A transaction with statements alone
	// has something to commit.
	Exec(s Statement)
}

// ExecLimit bounds how long the statements of a transaction may take: everybody else's commits wait for them. One that waits
// for a lock of the program's is given up after ExecLockLimit. Both are temporary StatementErrors.
const (
	ExecLimit     = 2 * time.Second
	ExecLockLimit = time.Second

	ExecMaxArgs = 32_766 // parameters of a statement
)

// Statement is a statement of SQL and its parameters, $1, $2 and so on.
type Statement struct {
	SQL  string
	Args []driver.Value
}

// verbs are what a statement may begin with. What ends a transaction, or changes how the connection of the store works, is
// none of them.
var verbs = []string{"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH", "SELECT"} //nolint:gochecknoglobals // a constant

// NewStatement makes a statement of what database/sql would take for one: of numbers, texts, bytes, bools, times, nil, and
// of types that are made of these or are a [driver.Valuer]. Bytes are copied. The error says what is wrong with it.
func NewStatement(sql string, args ...any) (Statement, error) {
	if verb := verbOf(sql); !slices.Contains(verbs, verb) {
		return Statement{}, fmt.Errorf("backend: a statement that begins with %q: it may begin with %s", verb, strings.Join(verbs, ", "))
	}
	if len(args) > ExecMaxArgs {
		return Statement{}, fmt.Errorf("backend: a statement with %d parameters; at most %d", len(args), ExecMaxArgs)
	}
	s := Statement{SQL: sql, Args: make([]driver.Value, len(args))}
	for i, arg := range args {
		value, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return Statement{}, fmt.Errorf("backend: parameter $%d of a statement: %w", i+1, err)
		}
		switch v := value.(type) {
		case []byte:
			value = slices.Clone(v)
		case time.Time:
			if _, offset := v.Zone(); offset%60 != 0 { // no text of a database has seconds there
				value = v.UTC()
			}
		}
		s.Args[i] = value
	}
	return s, nil
}

// verbOf is the first word after spaces and comments, in capitals.
func verbOf(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f")
		var end string
		switch {
		case strings.HasPrefix(sql, "--"):
			end = "\n"
		case strings.HasPrefix(sql, "/*"):
			end = "*/"
		default:
			n := strings.IndexFunc(sql, func(r rune) bool { return r < 'A' || r > 'Z' && r < 'a' || r > 'z' })
			if n < 0 {
				n = len(sql)
			}
			return strings.ToUpper(sql[:n])
		}
		_, sql, _ = strings.Cut(sql, end)
	}
}

// bytes is how much of a transaction it is.
func (s Statement) bytes() int {
	n := len(s.SQL)
	for _, arg := range s.Args {
		switch v := arg.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		default:
			n += 8
		}
	}
	return n
}

// StatementError is that a statement failed, and with it its transaction, of which nothing was committed.
type StatementError struct {
	SQL   string
	Index int   // of it among those of the transaction, from 0; -1 where the COMMIT was refused, because of one of them
	Cause error // of the store's driver

	// IsTemporary reports that the same statement may succeed later: it took too long, waited too long for a lock, met a
	// deadlock or a full disk, or the server ended its connection.
	IsTemporary bool
}

// Error tells the statement without its parameters. The driver's words may quote a value.
func (e *StatementError) Error() string {
	return fmt.Sprintf("the statement %q: %v", shorten(e.SQL), e.Cause)
}

// Unwrap returns the driver's error.
func (e *StatementError) Unwrap() error { return e.Cause }

// shorten makes one line of a statement.
func shorten(sql string) string {
	const most = 200
	sql = strings.Join(strings.Fields(sql), " ")
	if len(sql) > most {
		return strings.ToValidUTF8(sql[:most], "") + "..."
	}
	return sql
}

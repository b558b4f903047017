package backend_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// plain is a Tx with nothing but that.
type plain struct{ backend.Tx }

type recalls struct{ plain }

func (recalls) Recall(v, since backend.Versionstamp, known ...backend.Range) bool { return true }

type executes struct {
	plain
	ran *[]string
}

func (e executes) Exec(s backend.Statement) { *e.ran = append(*e.ran, s.SQL) }

type commitsAsync struct {
	plain
	said *int
}

func (c commitsAsync) CommitAsync() { *c.said++ }

func TestWrappedCommitsAsyncAsTheInnerOneDoes(t *testing.T) {
	said := 0
	inner := struct {
		commitsAsync
		executes
		backend.Tx
	}{commitsAsync: commitsAsync{said: &said}}
	for range 2 { // also through two of them
		backend.CommitAsync(backend.Wrapped(plain{}, backend.Wrapped(plain{}, inner)))
	}
	backend.CommitAsync(backend.Wrapped(plain{}, commitsAsync{said: &said}))
	backend.CommitAsync(backend.Wrapped(plain{}, recalls{}))
	backend.CommitAsync(plain{})
	if said != 3 {
		t.Errorf("it was said %d times", said)
	}
}

type both struct {
	executes
	recalls
	backend.Tx
}

func TestWrappedCanDoWhatTheInnerOneCan(t *testing.T) {
	ran := &[]string{}
	for name, c := range map[string]struct {
		inner              backend.Tx
		canRecall, canExec bool
	}{
		"neither":    {plain{}, false, false},
		"recalls":    {recalls{}, true, false},
		"executes":   {executes{ran: ran}, false, true},
		"both of it": {both{executes: executes{ran: ran}}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := backend.Wrapped(plain{}, c.inner)
			r, canRecall := w.(backend.Recaller)
			e, canExec := w.(backend.Execer)
			if canRecall != c.canRecall || canExec != c.canExec {
				t.Fatalf("recalls %v, executes %v", canRecall, canExec)
			}
			if canRecall && !r.Recall(backend.Versionstamp{}, backend.Versionstamp{}) {
				t.Error("Recall is not the inner one's")
			}
			if canExec {
				*ran = nil
				if e.Exec(backend.Statement{SQL: "x"}); len(*ran) != 1 {
					t.Error("Exec is not the inner one's")
				}
			}
		})
	}
}

func TestStatementsAreChecked(t *testing.T) {
	for sql, why := range map[string]string{
		"INSERT INTO t VALUES ($1)":     "",
		"\n\t-- why\nwith x as (...)":   "",
		"/* a /* b */ select 1":         "",
		"commit":                        `"COMMIT"`,
		"/**/ROLLBACK TO x":             `"ROLLBACK"`,
		"-- INSERT":                     `""`,
		"/* INSERT":                     `""`,
		"":                              `""`,
		"INSERTED":                      `"INSERTED"`,
		"SET x = 1":                     `"SET"`,
		"(SELECT 1)":                    `""`,
		"begin; insert into t values 1": `"BEGIN"`,
	} {
		_, err := backend.NewStatement(sql)
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%q: %v", sql, err)
		}
	}
	if _, err := backend.NewStatement("SELECT $1, $2", 1, make(chan int)); err == nil || !strings.Contains(err.Error(), "$2") {
		t.Error(err)
	}
	if _, err := backend.NewStatement("SELECT 1", make([]any, backend.ExecMaxArgs)...); err != nil {
		t.Error(err)
	}
	if _, err := backend.NewStatement("SELECT 1", make([]any, backend.ExecMaxArgs+1)...); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("one parameter more than there may be: %v", err)
	}
	given := []byte("before")
	s, err := backend.NewStatement("SELECT $1", given)
	if err != nil {
		t.Fatal(err)
	}
	if copy(given, "after!"); !bytes.Equal(s.Args[0].([]byte), []byte("before")) {
		t.Errorf("%s", s.Args[0])
	}
}

func TestStatementsCount(t *testing.T) {
	s, err := backend.NewStatement("INSERT INTO t VALUES ($1, $2, $3)", strings.Repeat("x", 4_000_000), make([]byte, 4_000_000), 1)
	if err != nil {
		t.Fatal(err)
	}
	var size backend.Size
	if err := size.Statement(s); err != nil {
		t.Error(err)
	}
	if err := size.Statement(s); !errors.Is(err, backend.ErrTooLarge) {
		t.Error(err)
	}
}

func TestStatementErrorIsOneLine(t *testing.T) {
	err := &backend.StatementError{SQL: "INSERT\n\tINTO t\n" + strings.Repeat("é", 300), Cause: backend.ErrNoSQL}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, `"INSERT INTO t`) || len(text) > 600 || !errors.Is(err, backend.ErrNoSQL) {
		t.Error(text)
	}
}

package dserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/queue"
)

// logged is what a consumer's logger was given. A line that has a name twice fails the test.
type logged struct {
	t     testing.TB
	mu    sync.Mutex
	lines []map[string]any
}

func (l *logged) Write(line []byte) (int, error) {
	fields, err := parseOnce(line)
	if err != nil {
		l.t.Errorf("%v: %s", err, line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fields)
	return len(line), nil
}

// logger is one that l reads.
func (l *logged) logger() zerolog.Logger { return zerolog.New(l) }

// about returns the lines of a level about a message.
func (l *logged) about(level, message string) (found []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if line["level"] == level && line["msg_name"] == message {
			found = append(found, line)
		}
	}
	return found
}

// texts returns the different texts of all lines.
func (l *logged) texts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, line := range l.lines {
		all = append(all, fmt.Sprint(line["message"]))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// parseOnce reads a line of JSON in which each name stands once.
func parseOnce(line []byte) (map[string]any, error) {
	fields, names := map[string]any{}, 0
	d := json.NewDecoder(bytes.NewReader(line))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	for ; d.More(); names++ {
		name, err := d.Token()
		var value any
		if err = errors.Join(err, d.Decode(&value)); err != nil {
			return nil, err
		}
		fields[fmt.Sprint(name)] = value
	}
	if len(fields) != names {
		return fields, errors.New("a name stands twice in this line")
	}
	return fields, nil
}

// What is set aside is told in a line that names it as the tool does, whoever sent it, on every store.
func TestEachMessageThatIsSetAsideIsLoggedWithItsStamp(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, far, ctx := open(), open(), within(t)
		log := &logged{t: t}
		def := journals.With(dserver.Settings[Journal]{MaxAttempts: 1})
		s, sent := def.At(db, "it's"), journal.At(far, "it's")
		must(t, sent.CastAll(ctx, []any{Write{"1"}, Reject{"2"}, Blow{"3"}, Reject{"4"}}))
		push(t, db, s.Ref(), queue.Normal, []byte("rubbish"))
		run(t, dserver.Consumer{Logger: log.logger()}, db, def)
		eventually(t, "all are set aside", func() bool { return statusOf(t, s).DeadLetters == 4 })
		var all sync.WaitGroup
		for i := range 20 { // local ones, several in a turn
			all.Go(func() { must(t, s.Cast(ctx, Reject{fmt.Sprint(i)})) })
		}
		all.Wait()
		eventually(t, "those too", func() bool {
			return statusOf(t, s).DeadLetters == 24 && len(log.about("warn", "Reject")) == 22
		})
		for _, d := range letters(t, s) {
			level, text := "error", "a message was set aside after its last attempt"
			if d.Message.Name == "Reject" {
				level, text = "warn", "a message was refused, and set aside"
			}
			lines := slices.DeleteFunc(log.about(level, d.Message.Name), func(l map[string]any) bool { return l["stamp"] != d.Stamp.String() })
			if len(lines) != 1 {
				t.Errorf("%d lines are about %v, a %q", len(lines), d.Stamp, d.Message.Name)
				continue
			}
			show := `dserver show 'journal/it'\''s' ` + d.Stamp.String()
			if l := lines[0]; l["message"] != text || l["server"] != "journal/it's" || l["code"] != d.Err.Code ||
				l["error"] != d.Err.Text || l["show"] != show || l["attempts"] != 1.0 {
				t.Errorf("a line about %+v is %v", d, l)
			}
		}
	})
}

// The last attempt is told from others, and each says which it is of how many.
func TestTheLastAttemptIsLoggedAsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, log := newStore(t, journal), &logged{t: t}
		def := journals.With(dserver.Settings[Journal]{MaxAttempts: 3})
		run(t, dserver.Consumer{Logger: log.logger()}, store.Open(), def)
		s := journal.At(store.Open(), "a")
		must(t, s.Cast(t.Context(), Blow{"1"}))
		<-time.After(time.Minute)
		warned, failed := log.about("warn", "Blow"), log.about("error", "Blow")
		if len(warned) != 2 || len(failed) != 1 {
			t.Fatalf("%d lines warn, %d tell of an error: %v", len(warned), len(failed), log.texts())
		}
		for i, l := range append(warned, failed...) {
			if l["attempts"] != float64(i+1) || l["max_attempts"] != 3.0 || !strings.Contains(fmt.Sprint(l["error"]), "it broke at 1") {
				t.Errorf("line %d is %v", i, l)
			}
		}
	})
}

// Whatever happens, each line is JSON with each name once. The test runs what a program can run into.
func TestLinesOfALogAreJSONWithEachNameOnce(t *testing.T) {
	log := &logged{t: t}
	synctest.Test(t, func(t *testing.T) { breakEverything(t, log) })
	for _, text := range []string{
		"consumer started", "consumer stopped", "a message was refused, and set aside",
		"a message broke its handler, and is tried again", "a message was set aside after its last attempt",
		"a message that was not queued broke its handler", "locked work failed, and is tried again",
		"locked work for a call failed in its last attempt; its caller is told", "an AfterCommit function panicked",
		"the server halts until an operator acts", "the server halts under its lock until an operator acts",
		"took over the lock of a consumer that vanished",
	} {
		if !slices.Contains(log.texts(), text) {
			t.Errorf("%q was not logged, but %q", text, log.texts())
		}
	}
}

// breakEverything runs a program of which each part breaks.
func breakEverything(t *testing.T, log *logged) {
	ctx := context.Background()
	broken := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) { return "", errors.New("away") }).With(
		dserver.Settings[Desk]{MaxAttempts: 2},
		dserver.HandleCast(func(ctx *dserver.Context, _ *Desk, m Blow) error {
			ctx.AfterCommit(func() { panic(errors.New(m.Line)) })
			return nil
		}))
	halting := ledgers.With(dserver.Settings[Ledger]{MaxAttempts: 1, Halt: true})
	rooms := newWorkshop()
	held := rooms.types.With(dserver.Settings[Safe]{MaxAttempts: 1, Halt: true})
	store := newStore(t, journal, ledgers, safe)
	c := dserver.Consumer{Logger: log.logger()}
	victim := store.Open()
	stop := run(t, c, victim, held)
	go func() { _ = held.At(store.Open(), "held").Cast(ctx, Toil{ID: "toil"}) }()
	<-rooms.entered
	stopNow(t, victim, stop) // in locked work

	db, far := store.Open(), store.Open()
	run(t, c, db, journals.With(dserver.Settings[Journal]{MaxAttempts: 2}), broken, halting, held)
	must(t, journals.At(db, "a").CastAll(ctx, []any{Blow{"1"}, Reject{"2"}, Write{"3"}}))
	_ = journals.At(db, "b").Call(ctx, Burn{Line: "inline"}, nil)
	must(t, journals.At(db, "b").Cast(ctx, Blow{"inline"}))
	must(t, broken.At(db, "b").Cast(ctx, Blow{"after"}))
	must(t, ledgers.At(far, "halts").Cast(ctx, Burst{"halts"}))
	if err := broken.At(far, "c").Call(ctx, Pay{How: "card"}, nil); !errors.Is(err, dserver.ErrFault) {
		t.Errorf("locked work that breaks: %v", err)
	}
	<-time.After(time.Minute)
}

// Without a logger a consumer warns through slog.Default; with zerolog.Nop it is silent.
func TestWithoutALoggerAConsumerWarnsThroughSlog(t *testing.T) {
	var mu sync.Mutex
	var lines bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(lockedWriter{&mu, &lines}, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	for name, logger := range map[string]zerolog.Logger{"said": {}, "silent": zerolog.Nop()} {
		db := newStore(t, journal).Open()
		stop := run(t, dserver.Consumer{Logger: logger}, db, journals)
		must(t, journals.At(db, name).Cast(within(t), Reject{"it"}))
		eventually(t, "it is refused", func() bool { return statusOf(t, journals.At(db, name)).DeadLetters == 1 })
		stop()
	}
	mu.Lock()
	defer mu.Unlock()
	var about []map[string]any // of other tests there may be lines as well
	for line := range bytes.Lines(lines.Bytes()) {
		fields, err := parseOnce(line)
		must(t, err)
		if id := fields["server"]; id == "journal/said" || id == "journal/silent" {
			about = append(about, fields)
		}
	}
	if len(about) != 1 || about[0]["server"] != "journal/said" || about[0]["level"] != "WARN" || about[0]["code"] != "denied" ||
		about[0]["msg"] != "a message was refused, and set aside" || about[0]["attempts"] != 1.0 {
		t.Errorf("it said %v", about)
	}
}

// A consumer writes to the logger of slog that it is given, as its level says; and it takes one logger.
func TestConsumerLogsToSlog(t *testing.T) {
	for _, c := range []struct {
		level slog.Level
		want  []string
	}{
		{slog.LevelInfo, []string{"consumer started", "a message was refused, and set aside", "consumer stopped"}},
		{slog.LevelWarn, []string{"a message was refused, and set aside"}},
	} {
		var mu sync.Mutex
		var lines bytes.Buffer
		logger := slog.New(slog.NewJSONHandler(lockedWriter{&mu, &lines}, &slog.HandlerOptions{Level: c.level})).With("program", "ours")
		db := newStore(t, journal).Open()
		stop := run(t, dserver.Consumer{Slog: logger}, db, journals)
		must(t, journals.At(db, "a").Cast(within(t), Reject{"it"}))
		eventually(t, "it is refused", func() bool { return statusOf(t, journals.At(db, "a")).DeadLetters == 1 })
		stop()
		var said []string
		for line := range bytes.Lines(lines.Bytes()) {
			fields, err := parseOnce(line)
			must(t, err)
			if fields["program"] != "ours" {
				t.Errorf("it lost what the logger has: %s", line)
			}
			said = append(said, fmt.Sprint(fields["msg"]))
		}
		if !slices.Equal(said, c.want) {
			t.Errorf("at %v it said %q", c.level, said)
		}
	}
	both := dserver.Consumer{Slog: slog.Default(), Logger: zerolog.Nop()}
	if err := both.Run(t.Context(), newStore(t, journal).Open(), journals); err == nil || !strings.Contains(err.Error(), "give it one of them") {
		t.Errorf("with two loggers: %v", err)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w lockedWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(line)
}

// Each line that the code can log has a text of its own, and names fields by constants, each once. A run of the tests
// cannot show that of lines that are hard to reach.
func TestTheCodeOfEachLogLineNamesItsFieldsOnce(t *testing.T) {
	found := 0
	for _, call := range logCalls(t) {
		found++
		for i, field := range call.fields {
			if slices.Contains(call.fields[:i], field) {
				t.Errorf("%s: %s stands twice", call.place, field)
			}
			if !strings.HasPrefix(field, "logs.") && !strings.HasPrefix(field, "zerolog.") {
				t.Errorf("%s: the field %s is no constant of package logs", call.place, field)
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d lines were found", found)
	}
}

// Operators find each line in the documents, with what to do about it.
func TestOperationsTellsOfEachLineOfTheLog(t *testing.T) {
	document, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	for _, call := range logCalls(t) {
		if text, err := strconv.Unquote(call.text); err == nil && !bytes.Contains(document, []byte("`"+text+"`")) {
			t.Errorf("%s: docs/operations.md does not tell of %q", call.place, text)
		}
	}
}

type logCall struct {
	place  string
	text   string // as the code has it
	fields []string
}

// logCalls finds the chains of calls that end in Msg, in the code of the library.
func logCalls(t *testing.T) (calls []logCall) {
	t.Helper()
	files := token.NewFileSet()
	own, err := filepath.Glob("*.go")
	must(t, err)
	below, err := filepath.Glob("../internal/*/*.go")
	must(t, err)
	for _, path := range slices.Concat(own, below) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, err := os.ReadFile(path)
		must(t, err)
		file, err := parser.ParseFile(files, path, text, 0)
		must(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && methodOf(call) == "Msg" {
				c := logCall{place: files.Position(call.Pos()).String(), text: textOf(text, files, call.Args[0])}
				for inner := receiverOf(call); inner != nil; inner = receiverOf(inner) {
					c.fields = append(c.fields, fieldsOf(text, files, inner)...)
				}
				calls = append(calls, c)
			}
			return true
		})
	}
	return calls
}

// fieldsOf is what one call of a chain adds to a line.
func fieldsOf(text []byte, files *token.FileSet, call *ast.CallExpr) []string {
	switch methodOf(call) {
	case "about":
		return []string{"logs.Server", "logs.Message"}
	case "Err":
		return []string{"zerolog.ErrorFieldName"}
	case "Warn", "Error", "Info", "Debug", "WithLevel":
		return nil
	}
	if len(call.Args) < 2 {
		return nil
	}
	return []string{textOf(text, files, call.Args[0])}
}

func textOf(text []byte, files *token.FileSet, n ast.Node) string {
	return string(text[files.Position(n.Pos()).Offset:files.Position(n.End()).Offset])
}

func methodOf(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

// receiverOf is the call whose result a method is called of.
func receiverOf(call *ast.CallExpr) *ast.CallExpr {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		inner, _ := s.X.(*ast.CallExpr)
		return inner
	}
	return nil
}

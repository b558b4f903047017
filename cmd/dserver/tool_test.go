package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// asTool in the environment makes the test binary the program. So the program runs as people run it, a process of its
// own beside the application, and need not be compiled once more.
const asTool = "DSERVER_TEST_TOOL"

func TestMain(m *testing.M) {
	if os.Getenv(asTool) != "" {
		main()
	}
	os.Exit(m.Run())
}

// dserverTool runs the program in a directory.
func dserverTool(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	command := exec.Command(program, args...)
	command.Dir = dir
	command.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DSERVER_DB=") })
	// The race detector would wait a second at the end of each process for reports of other goroutines.
	command.Env = append(command.Env, "TZ=UTC", "GORACE=atexit_sleep_ms=0", "DSERVER_ACTOR=ada@ops", "TERM=", asTool+"=1")
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	err = command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), command.ProcessState.ExitCode()
}

// The application: counters and carts have a consumer, mailboxes have none, so what is sent to them waits.
type (
	counter struct{ Count int64 }
	add     struct{ By int64 }
	refuse  struct{ Why string }
	explode struct{}
	fail    struct{}

	line struct {
		SKU    string `dserver:"id"`
		Number int
	}
	cart struct {
		Owner  string
		Lines  []line
		Notes  map[string]string
		Opened time.Time
		Photo  []byte
	}
	fill struct{}

	mailbox struct{ Read int }
	letter1 struct {
		From, Text string
		Tags       []string
	}
	ask struct {
		dserver.Returns[int]
		Question string
	}
)

func (letter1) MessageName() string { return "letter" }

var errRefused = &dserver.Error{Code: "refused", Text: "it was refused"}

var (
	counters = dserver.Define("counter",
		dserver.Settings[counter]{MaxAttempts: 1000},
		dserver.HandleCast(func(_ *dserver.Context, c *counter, m add) error { c.Count += m.By; return nil }),
		dserver.HandleCast(func(_ *dserver.Context, _ *counter, m refuse) error {
			return fmt.Errorf("%w: %s", errRefused, m.Why)
		}),
		dserver.HandleCast(func(_ *dserver.Context, _ *counter, _ explode) error { panic("boom") }),
		dserver.HandleCast(func(_ *dserver.Context, _ *counter, _ fail) error { return errors.New("it failed") }),
	)
	carts = dserver.Define("cart",
		dserver.HandleCast(func(_ *dserver.Context, c *cart, _ fill) error {
			*c = cart{
				Owner: "Ada", Lines: []line{{"tea", 2}, {"cup", 1}, {"pot", 1}}, Notes: map[string]string{"gift": "yes", "wrap": "<red>"},
				Opened: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC), Photo: []byte{1, 2, 3},
			}
			c.Lines = []line{c.Lines[2], c.Lines[0], c.Lines[1]}
			return nil
		}),
	)
	mailboxes = dserver.Define[mailbox]("mailbox")
	orders    = dserver.Define("order",
		dserver.Settings[counter]{MaxAttempts: 1, Halt: true},
		dserver.HandleCast(func(_ *dserver.Context, _ *counter, _ explode) error { panic("boom") }),
		dserver.HandleCast(func(_ *dserver.Context, c *counter, m add) error { c.Count += m.By; return nil }),
		dserver.HandleLocked(
			func(ctx *dserver.LockedContext, _ counter, _ fill) (int, error) { <-ctx.Done(); return 0, ctx.Err() },
			func(*dserver.Context, *counter, fill, int) error { return nil },
		),
	)
)

// start runs the application on app.db in a directory of its own, until the test ends.
func start(t *testing.T) (dir string, db backend.Database) {
	t.Helper()
	dir = t.TempDir()
	db, err := sqlite.Open(filepath.Join(dir, "app.db"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(ctx, db, counters, carts, orders) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, db.Close()); err != nil {
			t.Error(err)
		}
	})
	return dir, db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition of the live application.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(2 * time.Minute); !holds(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func statusOf(t *testing.T, db backend.Database, ref dserver.Ref) dserver.Status {
	t.Helper()
	s, err := ref.At(db).Status(t.Context())
	if err != nil && !errors.Is(err, dserver.ErrNotFound) {
		t.Fatal(err)
	}
	return s
}

// populate gives the application something to show.
func populate(t *testing.T, db backend.Database) {
	ctx := t.Context()
	visits := counters.At(db, "visits")
	must(t, visits.Cast(ctx, add{By: 2}))
	must(t, visits.Cast(ctx, add{By: 40}))
	must(t, visits.Cast(ctx, refuse{Why: "no more than 40"}, dserver.Header("request", "r-17")))
	must(t, visits.Call(ctx, add{}, nil))
	must(t, carts.At(db, "ada/1").Call(ctx, fill{}, nil))
	letters := mailboxes.At(db, "ada")
	must(t, letters.Cast(ctx, letter1{From: "Bob", Text: "hello", Tags: []string{"a", "b"}}, dserver.Header("request", "r-18"), dserver.Header("a \x1b", "\x1b")))
	must(t, letters.Cast(ctx, letter1{From: "Eve", Text: strings.Repeat("long ", 30)}))
	must(t, db.Transact(ctx, func(tx backend.Tx) error { // what no program of ours would send
		tx.Append(backend.NewKey("s", "mailbox", "ada", "q", 1), []byte{0xff, 0x00})
		tx.Add(backend.NewKey("s", "mailbox", "ada", "q", 2), 1)
		return nil
	}))
	eventually(t, "the refused message is set aside", func() bool { return statusOf(t, db, visits.Ref()).DeadLetters == 1 })
}

var (
	aStamp = regexp.MustCompile(`[0-9a-f]{24}`)
	aTime  = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+0000`)
	jsTime = regexp.MustCompile(`"(sent|since|created|at|next|due|paused_since)":"[^"]*"`)
)

// steady replaces what differs from run to run, by as many characters.
func steady(s string, known *[]string) string {
	s = aStamp.ReplaceAllStringFunc(s, func(stamp string) string {
		for i, k := range *known {
			if k == stamp {
				return fmt.Sprintf("stamp-%018d", i+1)
			}
		}
		*known = append(*known, stamp)
		return fmt.Sprintf("stamp-%018d", len(*known))
	})
	s = aTime.ReplaceAllString(s, "2026-01-02 03:04:05.678 +0000")
	return jsTime.ReplaceAllString(s, `"$1":"2026-01-02T03:04:05.678Z"`)
}

func TestGoldenTranscript(t *testing.T) {
	dir, db := start(t)
	populate(t, db)
	stamps := stampsOf(t, dir, "queue", "mailbox/ada")
	dead := stampsOf(t, dir, "dead", "counter/visits")
	var known []string
	var transcript strings.Builder
	for _, args := range [][]string{
		{"ls"}, {"ls", "--json"}, {"ls", "cart"}, {"ls", "ship"},
		{"ls", "--sort", "queued", "--limit", "1"}, {"ls", "--is", "dead"}, {"ls", "--is", "queued,dead"}, {"ls", "--active"}, {"ls", "--active", "cart"},
		{"status", "counter/visits"}, {"status", "mailbox/ada", "--json"}, {"status", "counter/nobody"}, {"status", "countr/vists"},
		{"show", "counter/visits"}, {"show", "mailbox/ada", "--json"}, {"show", "counter/visitz"}, {"stats"}, {"stats", "mailbox", "--json"},
		{"state", "counter/visits"}, {"state", "cart/ada/1"}, {"state", "cart/ada/1", "--json"}, {"state", "mailbox/ada"},
		{"state", "cart/ada/1", "Lines/0/Number"}, {"state", "cart/ada/1", "Lines/9"}, {"state", "set", "cart/ada/1", "Owner", `"Eve"`, "--dry-run"},
		{"state", "set", "cart/ada/1", "Owner", `"Eve"`}, {"state", "set", "cart/ada/1", "Owner", "7"}, {"state", "set", "cart/ada/1", "Photo", `"BAUG"`, "--json"},
		{"state", "set", "cart/ada/1", "Onwer", `"x"`}, {"state", "set", "cart/ada/1", "Lines/0", "--remove"}, {"state", "set", "mailbox/ada", "Read", "1"},
		{"queue", "mailbox/ada"}, {"queue", "mailbox/ada", "--json"}, {"queue", "mailbox/ada", "--limit", "1"}, {"queue", "counter/visits"},
		{"show", "mailbox/ada", stamps[0]}, {"show", "mailbox/ada", stamps[0], "--json"}, {"show", "mailbox/ada", stamps[2]},
		{"dead", "counter/visits"}, {"dead", "counter/visits", "--json"}, {"dead", "mailbox/ada"},
		{"show", "counter/visits", dead[0]},
		{"delete", "mailbox/ada", stamps[2]}, {"delete", "mailbox/ada", stamps[2]}, {"delete", "mailbox/ada", stamps[1], "--json"},
		{"queue", "mailbox/ada"},
		{"pause", "mailbox/ada"}, {"pause", "mailbox/ada", "--json"}, {"ls", "--trouble"}, {"status", "mailbox/ada"}, {"resume", "mailbox/ada"},
		{"edit", "mailbox/ada", stamps[0], "--body", `{"From": "Bob", "Text": "good bye"}`, "--dry-run"},
		{"edit", "mailbox/ada", stamps[0], "--body", `{"From": "Bob", "Text": "good bye"}`}, {"message", "mailbox/ada", stamps[0]},
		{"timers", "mailbox/ada"}, {"locks"}, {"locks", "--json"}, {"cast", "mailbox/ada", "letter", `{"From": "Tool"}`}, {"cast", "mailbox/ada", "letter", "{"},
		{"call", "counter/visits", "add", `{"By": 0}`}, {"call", "mailbox/ada", "letter", "--timeout", "2s"},
		{"delete", "mailbox/ada", "--message", "letter"}, {"delete", "mailbox/ada", "--message", "letter", "--dry-run"},
		{"delete", "mailbox/ada", "--message", "letter", "--yes"}, {"delete", "mailbox/ada", "--all", "--yes"},
		{"later", "mailbox/ada"}, {"retry", "counter/visits", stamps[0]}, {"edit", "counter/visits", dead[0], "--body", "{By: 1}"},
		{"dead", "--all"}, {"dead", "--all", "--code", "other"}, {"retry", "counter/visits", "--code", "other"},
		{"retry", "counter/visits", "--all", "--dry-run"}, {"retry", "--everywhere", "--code", "refused", "--dry-run"}, {"discard", "--type", "cart", "--all", "--yes"}, {"discard", "--everywhere", "--all"}, {"discard", "counter/visits", "--code", "refused"}, {"discard", "counter/visits", "--code", "other", "--yes"},
		{"edit", "counter/visits", dead[0], "--body", `{"By": 1}`, "--name", "add"}, {"dead", "counter/visits"}, {"dead", "--all"},
		{"discard", "counter/visits", dead[0]},
		{"unlock", "cart/ada/1"}, {"resume", "cart/ada/1"}, {"check"},
		{"reset", "cart/ada/1"}, {"reset", "cart/ada/1", "--yes"}, {"state", "cart/ada/1"},
		{"kill", "mailbox/ada"}, {"kill", "mailbox/ada", "--yes"}, {"queue", "mailbox/ada"}, {"status", "mailbox/ada"},
		{"audit"}, {"audit", "cart/ada/1", "--json"}, {"audit", "--by", "bob"}, {"audit", "--limit", "1"}, {"audit", "mailbox/ada", "--json", "--limit", "1"},
	} {
		stdout, stderr, code := dserverTool(t, dir, append([]string{"--db", "app.db"}, args...)...)
		fmt.Fprintf(&transcript, "$ dserver --db app.db %s\n%s%s", shellWords(args), stdout, stderr)
		if code != 0 {
			fmt.Fprintf(&transcript, "(exit code %d)\n", code)
		}
		transcript.WriteString("\n")
	}
	golden(t, "transcript", steady(transcript.String(), &known))
}

// shellWords is a command line as a shell takes it.
func shellWords(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a; strings.ContainsAny(a, " {\"") {
			words[i] = "'" + a + "'"
		}
	}
	return strings.Join(words, " ")
}

// golden compares with a file, or writes it anew when GOLDEN is set.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if os.Getenv("GOLDEN") != "" {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s differs; look, and if it is right: make golden\n--- got\n%s", path, got)
	}
}

// stampsOf asks the tool.
func stampsOf(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	stdout, stderr, code := dserverTool(t, dir, append([]string{"--db", "app.db", "--json"}, args...)...)
	if code != 0 {
		t.Fatalf("%v: %s", args, stderr)
	}
	var stamps []string
	for _, row := range strings.Split(strings.TrimSpace(stdout), "\n") {
		var o struct{ Stamp string }
		if err := json.Unmarshal([]byte(row), &o); err != nil {
			t.Fatalf("%v: %q is no JSON: %v", args, row, err)
		}
		stamps = append(stamps, o.Stamp)
	}
	return stamps
}

func TestTheApplicationNeedNotRun(t *testing.T) {
	dir := t.TempDir()
	db, err := sqlite.Open(filepath.Join(dir, "app.db"))
	must(t, err)
	must(t, mailboxes.At(db, "ada").Cast(t.Context(), letter1{From: "Bob"}))
	must(t, db.Close())
	stamps := stampsOf(t, dir, "queue", "mailbox/ada")
	if _, stderr, code := dserverTool(t, dir, "--db", "app.db", "delete", "mailbox/ada", stamps[0]); code != 0 {
		t.Fatal(stderr)
	}
	if stdout, _, code := dserverTool(t, dir, "--db", "app.db", "queue", "mailbox/ada"); code != 0 || stdout != "nothing waits for mailbox/ada\n" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
}

func TestADeletedMessageNoLongerBlocksTheQueue(t *testing.T) {
	dir, db := start(t)
	srv := counters.At(db, "stuck")
	must(t, srv.Cast(t.Context(), explode{}))
	eventually(t, "it fails", func() bool { return statusOf(t, db, srv.Ref()).Attempts > 0 })
	must(t, srv.Cast(t.Context(), add{By: 1}))
	stamps := stampsOf(t, dir, "queue", "counter/stuck")
	if len(stamps) != 2 {
		t.Fatalf("%d messages wait", len(stamps))
	}
	if _, stderr, code := dserverTool(t, dir, "--db", "app.db", "delete", "counter/stuck", stamps[0]); code != 0 {
		t.Fatal(stderr)
	}
	eventually(t, "the next message is handled", func() bool {
		c, err := srv.State(t.Context())
		return err == nil && c.Count == 1
	})
	if s := statusOf(t, db, srv.Ref()); s.Queued != 0 || s.DeadLetters != 0 || s.Attempts != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTheCallerOfADeletedMessageIsTold(t *testing.T) {
	dir, db := start(t)
	answered := make(chan error, 1)
	go func() {
		_, err := dserver.Call(t.Context(), mailboxes.At(db, "ada"), ask{Question: "are you there?"})
		answered <- err
	}()
	eventually(t, "the call waits", func() bool { return statusOf(t, db, mailboxes.Ref("ada")).Queued == 1 })
	stamps := stampsOf(t, dir, "queue", "mailbox/ada")
	if _, stderr, code := dserverTool(t, dir, "--db", "sqlite:app.db", "delete", "mailbox/ada", stamps[0]); code != 0 {
		t.Fatal(stderr)
	}
	select {
	case err := <-answered:
		if !errors.Is(err, dserver.ErrWithdrawn) {
			t.Errorf("the caller got %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the caller still waits")
	}
}

func TestNothingIsCreatedWhereThereIsNoDatabase(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "empty.db"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte(strings.Repeat("no database\n", 1000)), 0o600))
	for name, says := range map[string]string{
		"gone.db":        "there is no database gone.db",
		"sqlite:gone.db": "there is no database gone.db",
		"no/such/dir.db": "there is no database",
		"empty.db":       "empty.db is empty",
		"notes.txt":      "notes.txt",
		".":              "folder",
		"fdb:/no/such":   "fdb: ",
		"oracle:x":       `"oracle:x" is no database that is known here`,
	} {
		stdout, stderr, code := dserverTool(t, dir, "--db", name, "ls")
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, says) {
			t.Errorf("%s: exit code %d, %q, %q", name, code, stdout, stderr)
		}
	}
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if base := filepath.Base(path); path != dir && base != "empty.db" && base != "notes.txt" {
			t.Errorf("%s was created", base)
		}
		return err
	}))
}

func TestAWrongCommandLineIsExitCode2(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "expected one of"},
		{[]string{"ls"}, "--db"},
		{[]string{"--db", "x.db", "fly"}, "fly"},
		{[]string{"--db", "x.db", "ls", "--is", "odd"}, "--is"},
		{[]string{"--db", "x.db", "ls", "--limit=-1"}, "negative"},
		{[]string{"--db", "x.db", "queue"}, "<server>"},
		{[]string{"--db", "x.db", "queue", "visits"}, "type/id"},
		{[]string{"--db", "x.db", "delete", "counter/visits"}, "<message>"},
		{[]string{"--db", "x.db", "retry", "counter/visits"}, "--code"},
		{[]string{"--db", "x.db", "retry", "counter/visits", strings.Repeat("0a", 12), "--all"}, "--code"},
		{[]string{"--db", "x.db", "edit", "counter/visits", "--all"}, "--body"},
		{[]string{"--db", "x.db", "tail", "counter/visits", "--every", "0s"}, "--every"},
		{[]string{"--db", "x.db", "delete", "counter/visits", "--all", strings.Repeat("0a", 12)}, "--all"},
		{[]string{"--db", "x.db", "state", "set", "counter/visits", "Count"}, "--remove"},
		{[]string{"--db", "x.db", "state", "set", "counter/visits", `"Count`, "1"}, "no Go string"},
		{[]string{"--db", "x.db", "cast", "counter/visits"}, "<name>"},
		{[]string{"--db", "x.db", "retry", "--all"}, "--everywhere"},
		{[]string{"--db", "x.db", "discard", "counter/visits", "--all", "--everywhere"}, "--everywhere"},
		{[]string{"--db", "x.db", "dead"}, "--all"},
		{[]string{"--db", "x.db", "dead", "counter/visits", "--all"}, "--all"},
		{[]string{"--db", "x.db", "show", "counter/visits", "12"}, "24 hexadecimal digits"},
		{[]string{"--db", "x.db", "show", `"counter/visits`, strings.Repeat("0a", 12)}, "no Go string"},
	} {
		stdout, stderr, code := dserverTool(t, t.TempDir(), c.args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: exit code %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
	if stdout, stderr, code := dserverTool(t, t.TempDir(), "queue", "--help"); code != exitDone || !strings.Contains(stdout, "Usage: dserver queue") {
		t.Errorf("--help: exit code %d, %q, %q", code, stdout, stderr)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// nasty is what a terminal must never get, and what arguments cannot have.
var nasty = []string{
	"\x1b[2J", "\x1b]0;title\x07", "\u009b2J", "\u202egnp.exe", "\u2066x\u2069", "a\nb", "a\tb", "a\rb", "\x7f", "\x00", "\xff\xfe",
	`"quoted"`, "-flag", " spaced ", "back\\slash", "zero\u200bwidth", "\ufeff", "plain", "ä ö 漢", "\U000e0041tag",
}

// expectNothingRaw looks for what cannot be seen in an output.
func expectNothingRaw(t interface{ Errorf(string, ...any) }, out string) {
	for _, r := range out {
		if r != '\n' && !strconv.IsPrint(r) {
			t.Errorf("%q has %U", out, r)
			return
		}
	}
}

// tooled runs the program in this process.
func tooled(t *testing.T, path string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append([]string{"--db", path}, args...), &out, &errs); code != exitDone {
		t.Fatalf("%q: %s", args, errs.String())
	}
	return out.String()
}

// Whatever bytes an id has: what ls shows, and what it says in JSON, names the same server as an argument, and nothing
// of it reaches the terminal raw.
func TestWhatLsShowsNamesTheServer(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		id := rapid.OneOf(
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 20), func(b []byte) string { return string(b) }),
			rapid.Map(rapid.SliceOfN(rapid.SampledFrom(nasty), 1, 3), func(s []string) string { return strings.Join(s, "") }),
		).Draw(r, "id")
		ref := dserver.Ref{Type: "t", ID: id}
		shown := quoted(ref.String())
		expectNothingRaw(r, shown)
		expectNothingRaw(r, word(ref.String()))
		for _, text := range []string{shown, word(ref.String()), jsonName(ref.String())} {
			var back server
			if err := back.UnmarshalText([]byte(text)); err != nil || back.Ref != ref {
				r.Fatalf("%q is shown as %s, which names %q, %v", ref, text, back.Ref, err)
			}
		}
		line := compact(map[string]string{"server": jsonName(ref.String())})
		expectNothingRaw(r, line)
		var o struct{ Server string }
		if err := json.Unmarshal([]byte(line), &o); err != nil || o.Server != jsonName(ref.String()) {
			r.Fatalf("%s is read as %q, %v", line, o.Server, err)
		}
	})
}

// hostile is ids that somebody may have chosen: for a terminal, for a shell, for who reads, or for lack of a bound.
var hostile = append([]string{
	"it's", "$(touch pwned)", "`touch pwned`", "a b", "*", "~", "#x", "; touch pwned", "x && y", "a|b", "x>pwned", "!!", "\"", "'", "''", "a=b",
	"\u202ecod.exe", strings.Repeat("x", 1<<10), strings.Repeat("\x1b", 1<<10), strings.Repeat("\xff'", 1<<9),
}, nasty...)

// Each server of a hostile name: what a list shows is copied into a shell, and is the argument that names it.
func TestWhatIsListedIsCopiedAndTyped(t *testing.T) {
	dir := t.TempDir()
	db, err := sqlite.Open(filepath.Join(dir, "app.db"), sqlite.Relaxed())
	must(t, err)
	defer db.Close()
	want := map[string]bool{}
	for _, id := range hostile {
		must(t, dserver.Ref{Type: "t", ID: id}.At(db).Cast(t.Context(), dserver.Message{Name: "m", Body: []byte{0xa0}}))
		want[id] = true
	}
	program, err := os.Executable()
	must(t, err)
	row := regexp.MustCompile(`^(t/.*|'.*'|"t/.*") +1 +0 +has work$`)
	for _, line := range strings.Split(strings.TrimSpace(tooled(t, filepath.Join(dir, "app.db"), "ls")), "\n")[1:] {
		cells := row.FindStringSubmatch(line)
		if cells == nil {
			t.Errorf("%q is no row", line)
			continue
		}
		shell := exec.Command("sh", "-c", `"$TOOL" --db app.db pause `+strings.TrimRight(cells[1], " "))
		shell.Dir = dir
		shell.Env = append(os.Environ(), "TOOL="+program, asTool+"=1", "GORACE=atexit_sleep_ms=0")
		if out, err := shell.CombinedOutput(); err != nil {
			t.Errorf("%s: %v, %s", cells[1], err, out)
		}
	}
	for id := range want {
		if !statusOf(t, db, dserver.Ref{Type: "t", ID: id}).Paused {
			t.Errorf("%q was not named", id)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
		t.Error("a shell ran what is a name")
	}
}

// Each command, of servers, messages, codes and texts of anybody's making, shows rows of its own alone.
func TestNothingReachesTheTerminalRaw(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sqlite.Open(path, sqlite.Relaxed())
	must(t, err)
	defer db.Close()
	for _, id := range nasty {
		s := dserver.Ref{Type: "t", ID: id}.At(db)
		body, err := cbor.Marshal(map[string]any{id: id})
		must(t, err)
		must(t, s.Cast(t.Context(), dserver.Message{Name: id, Body: body}))
		must(t, s.Cast(t.Context(), dserver.Message{Name: id, Body: body}, dserver.After(time.Hour)))
		putProcess(t, db, id, map[string]any{"host": id, "consumes": true, "version": id, "types": []string{id, id}})
	}
	putProcess(t, db, "damaged \x1b[2J", 1)
	for _, asJSON := range []bool{false, true} {
		var format []string
		if asJSON {
			format = []string{"--json"}
		}
		rows := strings.Split(strings.TrimSpace(tooled(t, path, append(format, "ls")...)), "\n")
		if want := len(nasty) + 1; len(rows) != want && !asJSON || asJSON && len(rows) != want-1 {
			t.Errorf("%d rows of %d servers", len(rows), len(nasty))
		}
		consumers := tooled(t, path, append(format, "consumers")...)
		expectNothingRaw(t, consumers)
		if n := strings.Count(consumers, "\n"); n != len(nasty)+2 && !asJSON || n != len(nasty)+1 && asJSON {
			t.Errorf("%d lines of %d processes:\n%s", n, len(nasty)+1, consumers)
		}
		for _, id := range nasty {
			name := quoted("t/" + id)
			for _, command := range []string{"queue", "later", "status"} {
				out := tooled(t, path, append(format, command, "--", name)...)
				expectNothingRaw(t, out)
				if n := strings.Count(out, "\n"); asJSON && n != 1 || !asJSON && command != "status" && n != 2 {
					t.Errorf("%s of %s has %d lines:\n%s", command, name, n, out)
				}
			}
			out := tooled(t, path, append(format, "delete", "--", name, stampIn(t, tooled(t, path, "--json", "queue", "--", name)))...)
			expectNothingRaw(t, out)
		}
		for _, id := range nasty {
			s := dserver.Ref{Type: "t", ID: id}.At(db)
			must(t, s.Cast(t.Context(), dserver.Message{Name: id, Body: []byte{0xa0}}))
		}
	}
}

func stampIn(t *testing.T, row string) string {
	t.Helper()
	var o struct{ Stamp string }
	if err := json.Unmarshal([]byte(row), &o); err != nil {
		t.Fatalf("%q: %v", row, err)
	}
	return o.Stamp
}

// What a list leaves out is said: as JSON it is whole, unless a limit is given, and then standard error says so.
func TestAListIsWholeOrSaysThatItIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db, err := sqlite.Open(path, sqlite.Relaxed())
	must(t, err)
	defer db.Close()
	all := make([]any, 130)
	for i := range all {
		all[i] = letter1{From: fmt.Sprint(i)}
	}
	must(t, mailboxes.At(db, "ada").CastAll(t.Context(), all))
	for _, c := range []struct {
		args []string
		rows int
		says bool
	}{
		{[]string{"--json", "queue", "mailbox/ada"}, 130, false},
		{[]string{"--json", "queue", "mailbox/ada", "--limit", "7"}, 7, true},
		{[]string{"queue", "mailbox/ada"}, 100 + 2, false}, // with its head, and that it was cut
		{[]string{"queue", "mailbox/ada", "--limit", "0"}, 130 + 1, false},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"--db", path}, c.args...), &out, &errs)
		if rows := strings.Count(out.String(), "\n"); code != exitDone || rows != c.rows || c.says != strings.Contains(errs.String(), "--limit 0") {
			t.Errorf("%v: %d rows, and %q", c.args, rows, errs.String())
		}
	}
}

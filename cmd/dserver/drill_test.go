package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// The kiln's work takes for ever in a process that will be killed, and is done at once in any other.
type (
	kiln struct{ Degrees int }
	heat struct{ Degrees int }
)

func kilns(work func(ctx context.Context) error) *dserver.Definition[kiln] {
	return dserver.Define("kiln", dserver.HandleLocked(
		func(ctx *dserver.LockedContext, _ kiln, m heat) (int, error) { return m.Degrees, work(ctx) },
		func(_ *dserver.Context, k *kiln, _ heat, degrees int) error { k.Degrees = degrees; return nil },
	))
}

// victimDB in the environment makes a test the consumer that is killed.
const victimDB = "DSERVER_TEST_VICTIM"

func TestTheVictimOfTheDrill(t *testing.T) {
	path := os.Getenv(victimDB)
	if path == "" {
		t.Skip("it is a process of the drill")
	}
	db, err := sqlite.Open(path)
	must(t, err)
	defer db.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // it ends with its parent
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	_ = dserver.Run(ctx, db, kilns(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }))
}

// step is a line of the drill, and what it has to show.
type step struct{ command, shows string }

// drills reads the document: the steps of each trouble, whose number stands in its heading.
func drills(t *testing.T) map[string][]step {
	t.Helper()
	file, err := os.Open("../../docs/operations.md")
	must(t, err)
	defer file.Close()
	all := map[string][]step{}
	name, steps, inCode := "", "", false
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		switch heading := regexp.MustCompile(`^### .*: (\d+) steps$`).FindStringSubmatch(line); {
		case heading != nil:
			steps = heading[1]
		case strings.HasPrefix(line, "<!-- drill: "):
			name = strings.TrimSuffix(strings.TrimPrefix(line, "<!-- drill: "), " -->")
		case strings.HasPrefix(line, "```"):
			if inCode && name != "" {
				if steps != fmt.Sprint(len(all[name])) {
					t.Errorf("the drill %q has %d steps, and its heading says %s", name, len(all[name]), steps)
				}
				name = ""
			}
			inCode = !inCode
		case inCode && name != "":
			command, shows, found := strings.Cut(line, "# shows ")
			if !found {
				t.Fatalf("%q does not say what it shows", line)
			}
			all[name] = append(all[name], step{strings.TrimSpace(command), shows})
		}
	}
	must(t, lines.Err())
	return all
}

// shell runs a command line as a shell takes it, with the tool as dserver.
func shell(t *testing.T, dir, line string) string {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	run := exec.Command("sh", "-c", `dserver() { "$TOOL" "$@"; }; `+line)
	run.Dir = dir
	run.Env = append(os.Environ(), "TOOL="+program, asTool+"=1", "DSERVER_DB=app.db", "DSERVER_ACTOR=ada@ops", "TZ=UTC", "GORACE=atexit_sleep_ms=0")
	out, err := run.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

// follow runs the steps as a person does: what a line shows is copied into the next one, and a line that does not show yet what
// it should is tried again.
func follow(t *testing.T, dir string, steps []step, before func(i int)) {
	t.Helper()
	stamp := ""
	for i, s := range steps {
		before(i)
		line, out := strings.ReplaceAll(s.command, "STAMP", stamp), ""
		if strings.Contains(s.command, "STAMP") && stamp == "" {
			t.Fatalf("%s: nothing has shown a stamp", s.command)
		}
		isLook := !strings.Contains(s.command, "edit") && !strings.Contains(s.command, "unlock") && !strings.Contains(s.command, "discard")
		eventually(t, fmt.Sprintf("%s shows %q", line, s.shows), func() bool {
			out = shell(t, dir, line)
			shows := strings.Contains(out, s.shows)
			if !shows && !isLook {
				t.Fatalf("%s shows %s", line, out)
			}
			return shows
		})
		if found := aStamp.FindString(out); found != "" {
			stamp = found
		}
	}
}

func TestTheDrillOfTheDocument(t *testing.T) {
	dir, db := start(t)
	all := drills(t)
	began := time.Now()
	bystanders(t, db)
	t.Logf("%d servers were made in %v", manyServers, time.Since(began).Round(time.Millisecond))
	began = time.Now()
	for _, name := range []string{"dead", "poison", "halt", "lock", "killed", "unknown", "label", "state"} {
		steps, before := all[name], func(int) {}
		if len(steps) == 0 {
			t.Fatalf("the document has no drill %q", name)
		}
		delete(all, name)
		if name == "killed" {
			before = killAConsumer(t, dir, db)
		} else {
			troubles[name](t, db)
		}
		t.Run(name, func(t *testing.T) { follow(t, dir, steps, before) })
	}
	for name := range all {
		t.Errorf("the drill %q is not tried", name)
	}
	if out := succeed(t, dir, "ls", "--trouble"); out != "no server is in trouble\n" {
		t.Errorf("after the drill: %s", out)
	}
	t.Logf("the drill took %v", time.Since(began).Round(time.Millisecond))
	for id := range 70 {
		if c, err := counters.At(db, fmt.Sprint(id)).State(t.Context()); err != nil || c.Count != int64(id+1) {
			t.Errorf("counter %d has %+v, %v", id, c, err)
		}
	}
	must(t, dserver.Check(t.Context(), db, counters, carts, orders))
}

// manyServers is how many servers the live program has. Only the first of them have something to do while it runs.
const (
	manyServers = 10_000
	busyServers = 300
)

// bystanders is servers that nothing is wrong with. Most are copies of the rows of one, many in each transaction: to send to each
// would take longer than the drill.
func bystanders(t *testing.T, db backend.Database) {
	t.Helper()
	var all sync.WaitGroup
	for id := range busyServers {
		if id >= 70 && id < 80 { // these have nothing before the drill
			continue
		}
		all.Go(func() {
			if err := counters.At(db, fmt.Sprint(id)).Cast(t.Context(), add{By: int64(id + 1)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	must(t, counters.At(db, "0").Call(t.Context(), add{}, nil)) // after its cast
	prefix := backend.NewKey("s", "counter", "0")
	var rows []backend.KeyValue
	must(t, db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		rows, err = tx.GetRange(prefix.Tree(), backend.RangeOptions{}).Get()
		return err
	}))
	const page = 500
	for first := busyServers; first < manyServers; first += page {
		must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
			for id := first; id < min(first+page, manyServers); id++ {
				for _, row := range rows {
					rest, _ := row.Key.CutPrefix(prefix)
					tx.Set(backend.NewKey("s", "counter", fmt.Sprint(id)).Join(rest), row.Value)
				}
			}
			return nil
		}))
	}
}

// troubles makes what the drill is about.
var troubles = map[string]func(t *testing.T, db backend.Database){
	"poison": func(t *testing.T, db backend.Database) { must(t, counters.At(db, "73").Cast(t.Context(), explode{})) },
	"dead": func(t *testing.T, db backend.Database) {
		must(t, counters.At(db, "74").Cast(t.Context(), refuse{Why: "it is late"}))
	},
	"halt": func(t *testing.T, db backend.Database) { must(t, orders.At(db, "4711").Cast(t.Context(), explode{})) },
	"lock": func(t *testing.T, db backend.Database) { must(t, orders.At(db, "4712").Cast(t.Context(), fill{})) },
	"unknown": func(t *testing.T, db backend.Database) {
		must(t, counters.Ref("75").At(db).Cast(t.Context(), dserver.Message{Name: "ad", Body: []byte("\xa1bBy\x05")}))
	},
	"label": func(t *testing.T, db backend.Database) {
		must(t, counters.At(db, "76").Pin(t.Context(), "gpu"))
		must(t, counters.At(db, "76").Cast(t.Context(), add{By: 6}))
	},
	"state": func(t *testing.T, db backend.Database) {
		must(t, counters.At(db, "77").Call(t.Context(), add{By: -5}, nil))
	},
}

// killAConsumer makes a process that has work in hand when it is killed, and starts another one before the last step.
func killAConsumer(t *testing.T, dir string, db backend.Database) (before func(i int)) {
	t.Helper()
	blue := dserver.Ref{Type: "kiln", ID: "blue"}
	victim := exec.Command(os.Args[0], "-test.run", "^TestTheVictimOfTheDrill$")
	victim.Env = append(os.Environ(), victimDB+"="+filepath.Join(dir, "app.db"))
	alive, err := victim.StdinPipe()
	must(t, err)
	must(t, victim.Start())
	defer alive.Close()
	must(t, kilns(nil).At(db, "blue").Cast(t.Context(), heat{900}))
	eventually(t, "it works", func() bool { return statusOf(t, db, blue).Locked })
	must(t, victim.Process.Kill())
	_ = victim.Wait()
	return func(i int) {
		if i < 2 {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- dserver.Run(ctx, db, kilns(func(context.Context) error { return nil })) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		eventually(t, "it goes on", func() bool { return !statusOf(t, db, blue).Locked })
	}
}

// The editor gets the message as JSON, and what it leaves there is checked before it is sent.
func TestAMessageIsEditedByHand(t *testing.T) {
	dir, db := start(t)
	srv := counters.At(db, "hand")
	must(t, srv.Cast(t.Context(), explode{}))
	eventually(t, "it fails", func() bool { return statusOf(t, db, srv.Ref()).Attempts > 0 })
	stamp := stampsOf(t, dir, "queue", "counter/hand")[0]
	for _, c := range []struct {
		editor, says string
		code         int
	}{
		{"true", "nothing was changed", exitFailed},
		{"false", "the editor false", exitFailed},
		{"echo '{' >", "what you wrote is in", exitFailed},
		{`echo '{"message": "", "body": {}}' >`, "its name", exitFailed},
		{`cp "$1" seen; echo '{"message": "add", "body": {"By": 7}}' >`, "changed in its place", exitDone},
	} {
		t.Setenv("VISUAL", c.editor)
		stdout, stderr, code := dserverTool(t, dir, "--db", "app.db", "edit", "counter/hand", stamp)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%s: exit code %d, %s%s", c.editor, code, stdout, stderr)
		}
	}
	seen, err := os.ReadFile(filepath.Join(dir, "seen"))
	if err != nil || !strings.Contains(string(seen), `"message": "explode"`) {
		t.Errorf("the editor got %s, %v", seen, err)
	}
	eventually(t, "it is handled", func() bool {
		c, err := srv.State(t.Context())
		return err == nil && c.Count == 7
	})
}

// A question is asked at a terminal alone, and only yes is yes.
func TestWhatDestroysIsAskedFor(t *testing.T) {
	for answer, want := range map[[2]bool]string{{true, true}: "", {false, true}: "nothing was done", {false, false}: "nothing was done; with --yes it will end it all"} {
		asked := ""
		tool := &tool{ask: func(question string) (bool, bool) { asked = question; return answer[0], answer[1] }}
		err := sure{}.confirmed(tool, "end %s", "it all")
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) || asked != "This will end it all. Do it? [y/N] " {
			t.Errorf("%v: %v, after %q", answer, err, asked)
		}
		if (sure{Yes: true}).confirmed(nil, "end it") != nil {
			t.Error("--yes is asked about")
		}
	}
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/dserver-go/dserver/examples/internal/child"
	"github.com/dserver-go/dserver/internal/dbtest"
)

// counter runs the program and returns what it printed.
func counter(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), args, &out); err != nil {
		t.Fatalf("counter %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

func TestItCountsAndRemembers(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, want := range []string{"1\n", "2\n"} {
		if got := counter(t, "-n", "1"); got != want {
			t.Fatalf("it printed %q, not %q", got, want)
		}
	}
}

// Without flags the program kills its own processes. What it prints is true, and nothing stays: no process, no file.
func TestWithoutFlagsItShowsThatItCannotBeKilled(t *testing.T) {
	places := t.TempDir()
	t.Setenv("TMPDIR", places)
	p := child.Start(t, roleDemonstration)
	p.Wait()
	var ids []int
	var last, acknowledged, counted int64
	for _, line := range p.Lines() {
		var id int
		var from, to int64
		switch {
		case scan(line, "process %d acknowledged %d to %d", &id, &from, &to):
			if from != last+1 || to < from {
				t.Errorf("after %d: %s", last, line)
			}
			ids, last = append(ids, id), to
		case scan(line, "acknowledged %d", &acknowledged), scan(line, "the counter %d", &counted):
		}
	}
	if len(ids) != lives || acknowledged != last || counted != last || p.Errors() != "" {
		t.Errorf("it printed\n%s\n%s", strings.Join(p.Lines(), "\n"), p.Errors())
	}
	if left, err := os.ReadDir(places); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	for _, id := range ids {
		if process, err := os.FindProcess(id); err == nil && process.Signal(syscall.Signal(0)) == nil {
			t.Errorf("the process %d is still there", id)
		}
	}
}

func scan(line, format string, values ...any) bool {
	n, _ := fmt.Sscanf(strings.TrimSpace(line), format, values...)
	return n == len(values)
}

func TestTheFileOfTheDemonstrationCanBeKept(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	p := child.Start(t, roleDemonstration, "-keep")
	p.Wait()
	lines := p.Lines()
	_, path, found := strings.Cut(lines[len(lines)-1], "--db ")
	if !found {
		t.Fatalf("it printed %q", lines)
	}
	database := strings.TrimSuffix(path, " ls")
	if _, err := os.Stat(database); err != nil {
		t.Fatal(err)
	}
	var counted int64
	for _, line := range lines {
		scan(line, "the counter %d", &counted)
	}
	if got, want := counter(t, "-db", database), fmt.Sprintln(counted+1); got != want {
		t.Errorf("the kept counter printed %q, not %q", got, want)
	}
}

func TestManySendersLoseNothing(t *testing.T) {
	database := dbtest.Name(t)
	if got, want := counter(t, "-db", database, "-id", "a", "-by", "3", "-senders", "16", "-n", "20"), "960\n"; got != want {
		t.Fatalf("it printed %q, not %q", got, want)
	}
	if got, want := counter(t, "-db", database, "-id", "b"), "1\n"; got != want {
		t.Fatalf("another counter has %q, not %q", got, want)
	}
}

func TestWhatIsSentWithoutAConsumerIsCountedLater(t *testing.T) {
	database := dbtest.Name(t)
	err := run(t.Context(), []string{"-db", database, "-consume=false", "-wait", "50ms", "-n", "5"}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "no consumer answered") {
		t.Fatalf("without a consumer: %v", err)
	}
	if got, want := counter(t, "-db", database), "6\n"; got != want {
		t.Fatalf("it printed %q, not %q", got, want)
	}
}

func TestAnotherProcessConsumes(t *testing.T) {
	database := dbtest.Name(t)
	server := child.Start(t, roleProgram, "-db", database, "-serve")
	expect(t, server, "serving")
	for _, want := range []string{"10\n", "20\n"} {
		if got := counter(t, "-db", database, "-consume=false", "-n", "10", "-wait", "1m"); got != want {
			t.Fatalf("it printed %q, not %q", got, want)
		}
	}
	server.Interrupt()
}

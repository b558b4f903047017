package main

import (
	"bytes"
	"strings"
	"testing"

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

func TestWithoutFlagsItCountsAndRemembers(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, want := range []string{"1\n", "2\n"} {
		if got := counter(t); got != want {
			t.Fatalf("it printed %q, not %q", got, want)
		}
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
	server := start(t, roleProgram, "-db", database, "-serve")
	server.expect("serving")
	for _, want := range []string{"10\n", "20\n"} {
		if got := counter(t, "-db", database, "-consume=false", "-n", "10", "-wait", "1m"); got != want {
			t.Fatalf("it printed %q, not %q", got, want)
		}
	}
	server.interrupt()
}

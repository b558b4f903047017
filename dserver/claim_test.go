package dserver_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

type Die struct{}

const deadlyEnv = "DSERVER_TEST_DEADLY"

// deadly ends its process when it is told to.
var deadly = counters.With(
	dserver.HandleCast(func(*dserver.Context, *Counter, Die) error {
		os.Exit(3)
		return nil
	}),
	dserver.Settings[Counter]{MaxAttempts: 2},
)

// TestDeadlyChild is the process that TestMessageThatKillsItsProcessIsSetAside starts.
func TestDeadlyChild(t *testing.T) {
	path := os.Getenv(deadlyEnv)
	if path == "" {
		t.Skip("the child process of another test")
	}
	db, err := sqlite.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	start(t, db, deadly)
	expectState(t, deadly.At(db, "a"), "{3 map[]}")
}

// A consumer that dies of a message is started again, as a supervisor would, until the message is set aside: once
// without a trace, and then as often as it has attempts. The messages around it are handled once.
func TestMessageThatKillsItsProcessIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deadly.db")
	db, err := sqlite.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := within(t)
	a := deadly.At(db, "a")
	if err := a.CastAll(ctx, []any{Increment{By: 1}, Die{}, Increment{By: 2}}); err != nil {
		t.Fatal(err)
	}
	deaths := 0
	for {
		child := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestDeadlyChild$", "-test.timeout", "5m")
		child.Env = append(os.Environ(), deadlyEnv+"="+path)
		out, err := child.CombinedOutput()
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Fatalf("the child ended otherwise: %v\n%s", err, out)
		}
		if deaths++; deaths > 3 {
			t.Fatal("the message went on killing")
		}
	}
	if deaths != 3 {
		t.Errorf("%d deaths, want one without a trace and two counted", deaths)
	}
	letters := 0
	for d, err := range a.DeadLetters(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if letters++; d.Message.Name != "Die" || d.Attempts != 2 || time.Since(d.Since) > time.Minute {
			t.Errorf("%+v", d)
		}
	}
	if letters != 1 {
		t.Errorf("%d dead letters", letters)
	}
	if err := dserver.Check(context.Background(), db, deadly); err != nil {
		t.Error(err)
	}
}

package dserver_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/internal/kit"
	"github.com/dserver-go/dserver/internal/consumer"
	logging "github.com/dserver-go/dserver/internal/logs"
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

// quickly runs a consumer among whose like it is soon known who is dead.
func quickly(ctx context.Context, db backend.Database, types ...dserver.Type) error {
	how := consumer.Options{Beat: 100 * time.Millisecond, Logger: logging.Default()}
	return consumer.Run(ctx, db, how, kit.Definitions(types)...)
}

// runQuickly runs such a consumer.
func runQuickly(t *testing.T, db backend.Database, types dserver.Type) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- quickly(ctx, db, types) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, backend.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestDeadlyChild is the process that TestMessageThatKillsItsProcessIsSetAside starts.
func TestDeadlyChild(t *testing.T) {
	name := os.Getenv(deadlyEnv)
	if name == "" {
		t.Skip("the child process of another test")
	}
	db := openNamed(t, name)
	defer db.Close()
	runQuickly(t, db, deadly)
	expectState(t, deadly.At(db, "a"), "{3 map[]}")
}

// A consumer that dies of a message is started again, as a supervisor would, until the message is set aside: once
// without a trace, and then as often as it has attempts. The messages around it are handled once.
func TestMessageThatKillsItsProcessIsSetAside(t *testing.T) {
	t.Parallel()
	eachNamedStore(t, killByMessage)
}

func killByMessage(t *testing.T, place func(testing.TB) (name string)) {
	name := place(t)
	db := openNamed(t, name)
	defer db.Close()
	ctx := within(t)
	a := deadly.At(db, "a")
	must(t, a.CastAll(ctx, []any{Increment{By: 1}, Die{}, Increment{By: 2}}))
	deaths := 0
	for {
		out, err := childOf("TestDeadlyChild", deadlyEnv, name).CombinedOutput()
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
	found := letters(t, a)
	if len(found) != 1 || found[0].Message.Name != "Die" || found[0].Attempts != 2 || time.Since(found[0].Since) > 2*patience {
		t.Errorf("set aside: %+v", found)
	}
	check(t, db, deadly)
}

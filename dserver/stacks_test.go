package dserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// hangHere and hangElsewhere are places that do not return, and that a stack names.
//
//go:noinline
func hangHere(goOn <-chan struct{}, n int) int {
	<-goOn
	return n
}

func hangElsewhere(goOn <-chan struct{}) { <-goOn }

type (
	// Stall is a message whose handler, or whose locked work, does not return.
	Stall     struct{ Secret int }
	StallWork struct{ Secret int }
)

const secret = 0x5ec2e7

// stalling is journals of which some hang here, as one does elsewhere.
func stalling(goOn <-chan struct{}) *dserver.Definition[Journal] {
	return journals.With(
		dserver.Settings[Journal]{MaxAttempts: 3, WorkLimit: 5 * time.Second},
		dserver.HandleCast(func(_ *dserver.Context, _ *Journal, m Stall) error {
			hangHere(goOn, m.Secret)
			return nil
		}),
		dserver.HandleLocked(
			func(_ *dserver.LockedContext, _ Journal, m StallWork) (int, error) {
				return hangHere(goOn, m.Secret), nil
			},
			func(*dserver.Context, *Journal, StallWork, int) error { return nil }),
		dserver.HandleCast(func(*dserver.Context, *Journal, Mark) error {
			hangElsewhere(goOn)
			return nil
		}))
}

// expectHere checks that a stack is of the goroutine that hangs here, and of no other, and tells nothing of the message.
func expectHere(t testing.TB, what string, stack any) {
	t.Helper()
	text := fmt.Sprint(stack)
	if !strings.HasPrefix(text, "goroutine ") || !strings.Contains(text, "hangHere(...)") || strings.Contains(text, "hangElsewhere") ||
		strings.Count(text, "goroutine ") > 2 || strings.Contains(text, fmt.Sprintf("%x", secret)) { // the other one has started it
		t.Errorf("%s: the stack is %s", what, text)
	}
}

// Where a handler or locked work hangs is in the log, and beside its message when that is set aside.
func TestWhereAHandlerHangsIsInTheLog(t *testing.T) {
	for name, m := range map[string]any{"Stall": Stall{secret}, "StallWork": StallWork{secret}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { logsWhereItHangs(t, name, m) })
		})
	}
}

func logsWhereItHangs(t *testing.T, name string, m any) {
	goOn, log := make(chan struct{}), &logged{t: t}
	types := stalling(goOn)
	store := newStore(t, types)
	far, ctx := store.Open(), context.Background()
	must(t, types.At(far, "elsewhere").Cast(ctx, Mark{}))
	must(t, types.At(far, "here").Cast(ctx, m))
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	db := store.Open()
	go func() { ended <- dserver.Consumer{Logger: log.logger()}.Run(running, db, types) }()
	<-time.After(time.Minute)
	all := letters(t, types.At(far, "here"))
	if len(all) != 1 {
		t.Fatalf("the letters are %+v", all)
	}
	expectHere(t, "the letter", all[0].Stack)
	stop()
	<-ended
	close(goOn)
	synctest.Wait()

	attempts := log.about("warn", name)
	if len(attempts) != 2 {
		t.Errorf("%d lines are about an attempt", len(attempts))
	}
	for _, line := range attempts {
		expectHere(t, fmt.Sprint("attempt ", line["attempts"]), line["stack"])
	}
	left := 0
	for _, line := range log.lines {
		if line["message"] == "it did not return, and was left behind by the end of Run" && line["server"] == "journal/here" {
			left++
			expectHere(t, "it was left behind", line["stack"])
		}
	}
	if left != 3 {
		t.Errorf("%d lines are about what was left behind", left)
	}
}

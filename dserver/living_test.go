package dserver_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// sleepy is counters whose handler takes a while.
func sleepy(d time.Duration) *dserver.Definition[Counter] {
	return counters.With(dserver.HandleCast(func(_ *dserver.Context, c *Counter, m Drowse) error {
		<-time.After(d)
		c.Count += m.By
		return nil
	}))
}

// Drowse is an increment that takes a while.
type Drowse struct{ By int64 }

// Consumers that start together find each other's claims on whatever they begin. They live, so nothing is counted.
func TestLivingConsumersSetNothingAside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		consumers, messages int
		takes               time.Duration
	}{{8, 20, 700 * time.Millisecond}, {9, 60, 500 * time.Millisecond}, {7, 30, 1500 * time.Millisecond}, {20, 12, 3 * time.Second}} {
		t.Run(fmt.Sprintf("%d consumers, %v", c.consumers, c.takes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				types := sleepy(c.takes)
				store := newStore(t, types)
				a := types.At(store.Open(), "a")
				sendDrowsy(t, a, c.messages)
				for range c.consumers {
					run(t, dserver.Consumer{}, store.Open(), types)
				}
				<-time.After(time.Duration(c.messages)*c.takes + 3*time.Minute) // three times what a death takes to be proven, and more
				expectDrowsed(t, a, c.messages)
			})
		})
	}
}

func sendDrowsy(t *testing.T, a *dserver.DServer[Counter], n int) {
	t.Helper()
	var all []any
	for range n {
		all = append(all, Drowse{1})
	}
	must(t, a.CastAll(context.Background(), all))
}

func expectDrowsed(t *testing.T, a *dserver.DServer[Counter], n int) {
	t.Helper()
	s, err := a.State(context.Background())
	if err != nil || s.Count != int64(n) {
		t.Errorf("%d of %d were handled, %v", s.Count, n, err)
	}
	if dead := letters(t, a); len(dead) > 0 {
		t.Errorf("%d are set aside, the first with %+v", len(dead), dead[0])
	}
}

const sleepyEnv = "DSERVER_TEST_SLEEPY"

// TestSleepyChild is the processes of TestLivingProcessesSetNothingAside.
func TestSleepyChild(t *testing.T) {
	name := os.Getenv(sleepyEnv)
	if name == "" {
		t.Skip("the child process of another test")
	}
	must(t, dserver.Run(untilOrphaned(), openNamed(t, name), sleepy(sleepyTakes())))
}

// sleepyTakes is shorter where the whole suite runs.
func sleepyTakes() time.Duration {
	if isLong() {
		return 700 * time.Millisecond
	}
	return 100 * time.Millisecond
}

func TestLivingProcessesSetNothingAside(t *testing.T) {
	t.Parallel()
	eachNamedStore(t, func(t *testing.T, place func(testing.TB) string) {
		name := place(t)
		db := openNamed(t, name)
		t.Cleanup(func() { must(t, db.Close()) })
		types := sleepy(0)
		a := types.At(db, "a")
		const messages = 12
		sendDrowsy(t, a, messages)
		for range 8 {
			startChildOf(t, "TestSleepyChild", sleepyEnv, name)
		}
		eventually(t, "all are handled or set aside", func() bool {
			s := statusOf(t, a)
			return s.Queued == 0
		})
		expectDrowsed(t, a, messages)
	})
}

// startChildOf runs a child process until the test ends.
func startChildOf(t *testing.T, test, variable, name string) {
	t.Helper()
	child := childOf(test, variable, name)
	in, err := child.StdinPipe()
	must(t, err)
	must(t, child.Start())
	t.Cleanup(func() {
		_ = in.Close()
		if err := child.Wait(); err != nil {
			t.Errorf("a child process: %v", err)
		}
	})
}

package dserver_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/dserver"
)

// Noted is written down, and leaves an action.
type Noted struct{ Line string }

// noting is journals whose Noted leaves act.
func noting(act func(line string)) *dserver.Definition[Journal] {
	return journals.With(dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Noted) error {
		j.write(m.Line)
		ctx.AfterCommit(func() { act(m.Line) })
		return nil
	}))
}

// An AfterCommit function may call the server whose turn it is of, and others, also when there is one worker for all.
func TestAfterCommitMayCallItsOwnServer(t *testing.T) {
	for _, id := range []string{"a", "other"} {
		eachPath(t, journals, func(t *testing.T, ctx context.Context, p path, _, _ *dserver.DServer[Journal]) {
			answer := make(chan string, 1)
			var called *dserver.DServer[Journal]
			types := noting(func(string) {
				lines, err := dserver.Call(context.Background(), called, Lines{}, p.opts...)
				answer <- fmt.Sprint(lines, err)
			})
			store := newStore(t, types)
			db := store.Open()
			called = types.At(db, id)
			run(t, dserver.Consumer{Turns: 1}, db, types)
			synctest.Wait()
			if p.remote {
				db = store.Open()
			}
			began := time.Now()
			must(t, types.At(db, "a").Cast(ctx, Noted{"noted"}))
			want := "[noted] <nil>"
			if id == "other" {
				want = "[] <nil>"
			}
			select {
			case got := <-answer:
				if took := time.Since(began); got != want || took > time.Second {
					t.Errorf("%s got %s after %v", id, got, took)
				}
			case <-time.After(time.Minute):
				t.Errorf("%s did not answer", id)
				// A consumer of another process ends the wait.
				run(t, dserver.Consumer{}, store.Open(), journals)
				<-answer
			}
		})
	}
}

// actions is what AfterCommit functions did.
type actions struct {
	mu    sync.Mutex
	lines []string
}

func (a *actions) add(line string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines = append(a.lines, line)
}

func (a *actions) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.lines...)
}

// The functions of later turns wait for those of earlier ones, and the turns themselves do not.
func TestAfterCommitFunctionsRunInOrderThoughTheServerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var acted actions
		goOn := make(chan struct{})
		types := noting(func(line string) {
			if line == "0" {
				<-goOn
			}
			acted.add(line)
		})
		db := newStore(t, types).Open()
		stop := run(t, dserver.Consumer{}, db, types)
		s, want := types.At(db, "a"), numbered("", 9)
		for _, line := range want {
			must(t, s.Cast(context.Background(), Noted{line}))
		}
		expectLines(t, lines(t, s), want...) // while the first function runs
		if got := acted.all(); len(got) > 0 {
			t.Errorf("%q acted", got)
		}
		close(goOn)
		synctest.Wait()
		expectLines(t, acted.all(), want...)
		stop()
	})
}

// When a function does not return, so many of later turns wait, and no more.
func TestAfterCommitFunctionsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit, more = 1000, 20
		var acted actions
		goOn := make(chan struct{})
		types := noting(func(line string) {
			<-goOn
			acted.add(line)
		})
		var log bytes.Buffer
		db := newStore(t, types).Open()
		stop := run(t, dserver.Consumer{Logger: zerolog.New(zerolog.SyncWriter(&log))}, db, types)
		s := types.At(db, "a")
		for i := range limit + more {
			must(t, s.Call(context.Background(), Noted{fmt.Sprint(i)}, nil))
		}
		synctest.Wait() // the last answer comes before its turn's functions are counted
		close(goOn)
		stop()
		expectLines(t, acted.all(), numbered("", limit)...)
		if n := strings.Count(log.String(), "are dropped"); n != more {
			t.Errorf("%d lines of the log tell of functions that were dropped", n)
		}
	})
}

// Told is an info whose function acts as well.
type Told struct{ Line string }

// The functions of one server run one after the other, whichever turns gave them: of two Runs of the process, and of
// Info.
func TestAfterCommitFunctionsOfOneServerNeverOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, ran atomic.Int32
		act := func(string) {
			most.Store(max(most.Load(), running.Add(1)))
			<-time.After(40 * time.Millisecond)
			running.Add(-1)
			ran.Add(1)
		}
		types := noting(act).With(dserver.HandleInfo(func(ctx *dserver.Context, j *Journal, m Told) error {
			j.write(m.Line)
			ctx.AfterCommit(func() { act(m.Line) })
			return nil
		}))
		store := newStore(t, types)
		db := store.Open()
		for range 2 {
			run(t, dserver.Consumer{}, db, types)
		}
		s, ctx := types.At(db, "a"), context.Background()
		for i := range 10 {
			must(t, s.Cast(ctx, Noted{"cast"}))
			must(t, s.Info(ctx, Told{"info"}))
			must(t, types.At(store.Open(), "a").Cast(ctx, Noted{fmt.Sprint("remote ", i)}))
		}
		expectLines(t, lines(t, s)[30:]) // all are handled
		<-time.After(5 * time.Second)
		if most.Load() != 1 || ran.Load() != 30 {
			t.Errorf("%d functions ran, up to %d at once", ran.Load(), most.Load())
		}
	})
}

// A function that does not return costs each later turn of its server 10 ms, and no more.
func TestStuckAfterCommitFunctionCostsATurn10ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		types := noting(func(string) { <-goOn })
		db := newStore(t, types).Open()
		run(t, dserver.Consumer{}, db, types)
		defer close(goOn)
		s, began := types.At(db, "a"), time.Now()
		const turns = 50
		for i := range turns {
			must(t, s.Cast(context.Background(), Noted{fmt.Sprint(i)}))
		}
		if took := time.Since(began); took > turns*11*time.Millisecond {
			t.Errorf("%d casts took %v", turns, took)
		}
	})
}

// Functions that are slower than turns and come to their ends are not dropped: the turns wait for them.
func TestSlowAfterCommitFunctionsAreAllRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		types := noting(func(string) { <-time.After(50 * time.Millisecond); ran.Add(1) })
		db := newStore(t, types).Open()
		stop := run(t, dserver.Consumer{}, db, types)
		const turns = 1500
		for i := range turns {
			must(t, types.At(db, "a").Call(context.Background(), Noted{fmt.Sprint(i % 9)}, nil))
		}
		<-time.After(time.Minute)
		stop()
		if ran.Load() != turns {
			t.Errorf("of %d functions %d ran", turns, ran.Load())
		}
	})
}

// awkward is a panic value that cannot be encoded.
type awkward struct{}

func (awkward) Error() string                { return "it broke" }
func (awkward) MarshalJSON() ([]byte, error) { panic("nor can it be encoded") }

// What a function panics with is logged as text, with the stack.
func TestPanicOfAnAfterCommitFunctionIsLoggedWithItsStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		types := noting(func(string) { panic(awkward{}) })
		db := newStore(t, types).Open()
		stop := run(t, dserver.Consumer{Logger: zerolog.New(zerolog.SyncWriter(&log))}, db, types)
		must(t, types.At(db, "a").Call(context.Background(), Noted{"noted"}, nil))
		stop()
		if text := log.String(); !strings.Contains(text, "it broke") || !strings.Contains(text, "aftercommit_test.go") {
			t.Errorf("the log is %s", text)
		}
	})
}

package dserver_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
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
		close(goOn)
		stop()
		expectLines(t, acted.all(), numbered("", limit)...)
		if n := strings.Count(log.String(), "are dropped"); n != more {
			t.Errorf("%d lines of the log tell of functions that were dropped", n)
		}
	})
}

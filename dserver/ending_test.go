package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Ending is a message, and AskEnding one with a reply, whose handler writes a line, sends it to another server, leaves an
// action, and ends as How says.
type (
	Ending    struct{ How, Line string }
	AskEnding struct {
		dserver.Returns[string]
		How, Line string
	}
)

// endings is a journal for Ending, which counts the actions.
func endings(actions *atomic.Int64) *dserver.Definition[Journal] {
	return journals.With(
		dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Ending) error {
			_, err := end(ctx, j, m.How, m.Line, actions)
			return err
		}),
		dserver.HandleCall(func(ctx *dserver.Context, j *Journal, m AskEnding) (string, error) {
			return end(ctx, j, m.How, m.Line, actions)
		}),
	)
}

func end(ctx *dserver.Context, j *Journal, how, line string, actions *atomic.Int64) (string, error) {
	j.write(line)
	ctx.Cast(journal.Ref("other"), Write{line})
	ctx.AfterCommit(func() { actions.Add(1) })
	switch how {
	case "error":
		return "lost", fmt.Errorf("at %s: %w", line, errDenied)
	case "foreign error":
		return "lost", fmt.Errorf("at %s: %w", line, context.DeadlineExceeded)
	case "kept":
		return "lost", dserver.Keep(fmt.Errorf("at %s: %w", line, errDenied))
	case "wrapped kept":
		return "lost", fmt.Errorf("at %s: %w", line, dserver.Keep(errDenied))
	case "kept nil":
		return "reply to " + line, dserver.Keep(nil)
	case "panic":
		panic("broken at " + line)
	case "too large":
		ctx.Cast(journal.Ref("other"), Write{strings.Repeat("x", 5<<20)})
	case "too large a reply":
		return strings.Repeat("x", 5<<20), nil
	case "send to nobody":
		ctx.Cast(dserver.Ref{Type: "journal"}, Write{line})
	case "send nothing":
		ctx.Cast(journal.Ref("other"), nil)
	}
	return "reply to " + line, nil
}

// path is a way that a message takes: joining a turn of the consumer's process, over the queue within that process, or
// over the queue from another one.
type path struct {
	name   string
	remote bool
	opts   []dserver.Option
}

var paths = []path{
	{name: "inline"},
	{name: "queued beside", opts: []dserver.Option{dserver.Priority()}},
	{name: "queued apart", remote: true},
}

// eachPath runs a test on each path, with a consumer that is there.
func eachPath(t *testing.T, types *dserver.Definition[Journal], test func(t *testing.T, ctx context.Context, p path, s, other *dserver.DServer[Journal])) {
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t, types)
				db := store.Open()
				run(t, dserver.Consumer{}, db, types)
				synctest.Wait()
				if p.remote {
					db = store.Open()
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				test(t, ctx, p, types.At(db, "a"), types.At(db, "other"))
			})
		})
	}
}

// What the table of endings promises: what is committed, what the caller gets and what is set aside.
func TestHandlersEnd(t *testing.T) {
	for _, c := range []struct {
		how       string
		commits   bool
		fails     bool
		is        error  // that the caller's error is
		code      string // and its code
		text      string // and what is in its text
		attempted bool   // several times when it was queued
	}{
		{how: "nil", commits: true},
		{how: "kept nil", commits: true},
		{how: "error", fails: true, is: errDenied, code: "denied", text: "at line: no"},
		{how: "foreign error", fails: true, text: "at line: context deadline exceeded"},
		{how: "kept", commits: true, fails: true, is: errDenied, code: "denied", text: "at line: no"},
		{how: "wrapped kept", commits: true, fails: true, is: errDenied, code: "denied", text: "at line: no"},
		{how: "panic", fails: true, is: dserver.ErrFault, code: "dserver/fault", text: "broken at line", attempted: true},
		{how: "too large", fails: true, text: "limit"},
		{how: "too large a reply", fails: true, text: "limit"},
		{how: "send to nobody", fails: true, text: "without an id"},
		{how: "send nothing", fails: true, text: "nil message"},
	} {
		t.Run(c.how, func(t *testing.T) {
			var actions atomic.Int64
			eachPath(t, endings(&actions), func(t *testing.T, ctx context.Context, p path, s, other *dserver.DServer[Journal]) {
				actions.Store(0)
				if c.how == "too large a reply" {
					c.fails, c.commits = true, false
				}
				began := time.Now()
				reply, err := dserver.Call(ctx, s, AskEnding{How: c.how, Line: "line"}, p.opts...)
				took := time.Since(began)
				var e *dserver.Error
				switch {
				case !c.fails && (err != nil || reply != "reply to line"):
					t.Errorf("Call: %q, %v", reply, err)
				case c.fails && (!errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Text, c.text)):
					t.Errorf("Call: %q, %#v", reply, err)
				case c.fails && (errors.Is(err, context.DeadlineExceeded) || c.is != nil && !errors.Is(err, c.is)):
					t.Errorf("the error is not %v: %v", c.is, err)
				}
				if again := c.attempted && p.name != "inline"; again != (took > time.Second) {
					t.Errorf("it took %v", took)
				}
				expectEnd(t, ctx, c.commits, 1, s, other, &actions)
				if n := deadLetters(t, s); (n > 0) != (c.attempted && p.name != "inline") {
					t.Errorf("%d dead letters of a call", n)
				}

				must(t, s.Cast(ctx, Ending{c.how, "line"}, p.opts...))
				if c.how == "too large a reply" { // a cast has none
					c.fails, c.commits = false, true
				}
				<-time.After(time.Minute) // the priority lane backs off alone
				times := 2
				if c.how == "too large a reply" {
					times = 1
				}
				expectEnd(t, ctx, c.commits, times, s, other, &actions)
				letters := 0
				for d, err := range s.DeadLetters(ctx) {
					must(t, err)
					if d.Message.Name != "Ending" {
						continue
					}
					letters++
					if d.Err.Code != c.code || !strings.Contains(d.Err.Text, c.text) || (d.Stack != "") != (c.how == "panic") ||
						d.Attempts != map[bool]int{true: 5, false: 1}[c.attempted] {
						t.Errorf("the dead letter is %+v", d)
					}
				}
				if c.fails != (letters == 1) {
					t.Errorf("%d dead letters of a cast", letters)
				}
			})
		})
	}
}

// expectEnd checks that all parts of an ending happened together, or none.
func expectEnd(t *testing.T, ctx context.Context, commits bool, times int, s, other *dserver.DServer[Journal], actions *atomic.Int64) {
	t.Helper()
	if !commits {
		times = 0
	}
	want := slices.Repeat([]string{"line"}, times)
	expectLines(t, lines(t, s), want...)
	expectLines(t, lines(t, other), want...)
	if n := actions.Load(); n != int64(times) {
		t.Errorf("%d actions ran, want %d", n, times)
	}
}

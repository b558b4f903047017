package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// heard is what interceptors were told, in order.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}

func (h *heard) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	lines := h.lines
	h.lines = nil
	return lines
}

// expect waits until this and nothing else was told.
func (h *heard) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := h.await(t, want); !slices.Equal(got, want) {
		t.Errorf("told %q, not %q", got, want)
	}
}

// await waits until as many lines came as are wanted.
func (h *heard) await(t *testing.T, want []string) (got []string) {
	t.Helper()
	eventually(t, fmt.Sprintf("told: %q", want), func() bool {
		got = append(got, h.take()...)
		if len(got) > len(want) {
			t.Fatalf("told %q, not %q", got, want)
		}
		return len(got) == len(want)
	})
	return got
}

type nameKey struct{}

// telling tells of all that it is around, sets a header with its name, and puts its name into the context.
func (h *heard) telling(name string) dserver.Interceptor {
	around := func(ctx context.Context, what string, next func(context.Context) error) error {
		h.add("%s: %s", name, what)
		before, _ := ctx.Value(nameKey{}).(string)
		err := next(context.WithValue(ctx, nameKey{}, before+name))
		h.add("%s: %s ended with %v", name, what, err)
		return err
	}
	handling := func(a *dserver.Handling) string {
		what := fmt.Sprintf("%s of %v, header %q, attempt %d, run %d", a.Message, a.Server, a.Header("names"), a.Attempt, a.Run)
		for _, mark := range []struct {
			name string
			is   bool
		}{{", call", a.Call}, {", info", a.Info}, {", timer", a.Timer == "t"}, {", apply", a.Apply}} {
			if mark.is {
				what += mark.name
			}
		}
		return what
	}
	return dserver.Interceptor{
		Send: func(ctx context.Context, s *dserver.Send, next func(context.Context) error) error {
			s.SetHeader("names", s.Header("names")+name)
			return around(ctx, fmt.Sprintf("%s of %d %s to %v from %v", s.Verb, s.Count, s.Message, s.To, s.From), next)
		},
		Handle: func(ctx context.Context, a *dserver.Handling, next func(context.Context) error) error {
			return around(ctx, "handle "+handling(a), next)
		},
		Work: func(ctx context.Context, a *dserver.Handling, next func(context.Context) error) error {
			return around(ctx, "work "+handling(a), next)
		},
	}
}

// Parrot is a state of servers that tell in which contexts they run.
type Parrot struct{ Names []string }

type (
	Repeat struct{ dserver.Returns[string] } // is answered with the names in the handler's context
	Perk   struct{}
	Nudge  struct{}
	Squawk struct{} // casts Perk to itself, and sets a timer
	Flap   struct{} // is locked work
)

func namesIn(ctx context.Context) string { names, _ := ctx.Value(nameKey{}).(string); return names }

var parrots = dserver.Define("parrot",
	dserver.HandleCall(func(ctx *dserver.Context, s *Parrot, _ Repeat) (string, error) {
		return namesIn(ctx.Context()) + " " + ctx.Header("names"), nil
	}),
	dserver.HandleCast(func(*dserver.Context, *Parrot, Perk) error { return nil }),
	dserver.HandleInfo(func(*dserver.Context, *Parrot, Nudge) error { return nil }),
	dserver.HandleCast(func(ctx *dserver.Context, _ *Parrot, _ Squawk) error {
		ctx.Cast(dserver.Ref{Type: "parrot", ID: "other"}, Perk{})
		ctx.SetTimer("t", time.Hour, Perk{})
		return nil
	}),
	dserver.HandleLocked(
		func(ctx *dserver.LockedContext, _ Parrot, _ Flap) (string, error) { return namesIn(ctx), nil },
		func(ctx *dserver.Context, s *Parrot, _ Flap, names string) error {
			s.Names = append(s.Names, names+" "+namesIn(ctx.Context()))
			return nil
		}),
)

// Interceptors see each send, handler and attempt of work; the first is outermost.
func TestInterceptorsRunAroundSendsHandlersAndWork(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		h, ctx := &heard{}, within(t)
		db := dserver.Intercept(dserver.Intercept(open(), h.telling("A")), h.telling("B"), dserver.Interceptor{})
		start(t, db, parrots)
		s := parrots.At(db, "a")
		names, err := dserver.Call(ctx, s, Repeat{})
		if must(t, err); names != "AB AB" {
			t.Errorf("the handler has the names %q", names)
		}
		both := func(what, inner string) []string {
			lines := []string{"A: " + what, "B: " + what}
			if inner != "" {
				lines = append(lines, "A: "+inner, "B: "+inner, "B: "+inner+" ended with <nil>", "A: "+inner+" ended with <nil>")
			}
			return append(lines, "B: "+what+" ended with <nil>", "A: "+what+" ended with <nil>")
		}
		const outside = `from /`
		h.expect(t, both("Call of 1 Repeat to parrot/a "+outside, `handle Repeat of parrot/a, header "AB", attempt 1, run 1, call`)...)
		// It is handled within the cast, or beside it where the last turn was slow, as one is now and then.
		want := both("Cast of 1 Perk to parrot/a "+outside, `handle Perk of parrot/a, header "AB", attempt 1, run 1`)
		eventually(t, "a cast to be handled within", func() bool {
			must(t, s.Cast(ctx, Perk{}))
			got := h.await(t, want)
			for _, part := range []string{"Cast of", "handle Perk"} {
				others := func(line string) bool { return !strings.Contains(line, part) }
				if g, w := slices.DeleteFunc(slices.Clone(got), others), slices.DeleteFunc(slices.Clone(want), others); !slices.Equal(g, w) {
					t.Errorf("told %q, not %q", g, w)
				}
			}
			return slices.Equal(got, want)
		})
		must(t, s.Info(ctx, Nudge{}))
		h.expect(t, both("Info of 1 Nudge to parrot/a "+outside, `handle Nudge of parrot/a, header "AB", attempt 1, run 1, call, info`)...)
		must(t, s.CastAll(ctx, nil))
		h.expect(t)
		must(t, parrots.At(db, "batch").CastAll(ctx, []any{Perk{}, Perk{}}, dserver.After(time.Hour)))
		h.expect(t, both("CastAll of 2 Perk to parrot/batch "+outside, "")...)
	})
}

// Sends of a handler are seen within it, with the headers of the message in hand.
func TestInterceptorsSeeWhatHandlersSend(t *testing.T) {
	h, ctx := &heard{}, within(t)
	db := dserver.Intercept(newStore(t, parrots).Open(), h.telling("A"))
	start(t, db, parrots)
	must(t, parrots.At(db, "a").Call(ctx, Squawk{}, nil))
	eventually(t, "both are handled", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.lines) >= 10 })
	lines := h.take()
	for _, want := range [][]string{
		{`A: handle Squawk of parrot/a, header "A", attempt 1, run 1, call`, "A: Cast of 1 Perk to parrot/other from parrot/a",
			"A: Cast of 1 Perk to parrot/other from parrot/a ended with <nil>", "A: SetTimer of 1 Perk to parrot/a from parrot/a"},
		{"A: Cast of 1 Perk to parrot/other from parrot/a", `A: handle Perk of parrot/other, header "AA", attempt 1, run 1`},
	} {
		at := -1
		for _, line := range want {
			next := slices.Index(lines, line)
			if next <= at {
				t.Errorf("%q is not in its place of %q", line, lines)
			}
			at = next
		}
	}
}

func TestInterceptorsRunAroundLockedWorkAndApply(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		h, ctx := &heard{}, within(t)
		db := dserver.Intercept(open(), h.telling("A"))
		start(t, db, parrots)
		must(t, parrots.At(db, "a").Call(ctx, Flap{}, nil))
		state, err := parrots.At(db, "a").State(ctx)
		if must(t, err); len(state.Names) != 1 || state.Names[0] != "A A" {
			t.Errorf("work and apply have the names %q", state.Names)
		}
		lines := h.take()
		want := []string{
			`A: work Flap of parrot/a, header "A", attempt 1, run 1, call`,
			`A: work Flap of parrot/a, header "A", attempt 1, run 1, call ended with <nil>`,
			`A: handle Flap of parrot/a, header "A", attempt 1, run 1, call, apply`,
		}
		for _, line := range want {
			if !slices.Contains(lines, line) {
				t.Errorf("%q is not in %q", line, lines)
			}
		}
	})
}

// What an interceptor of handlers returns is the handler's error, and nothing else is.
func TestInterceptorsErrorIsTheHandlers(t *testing.T) {
	var errDenied = &dserver.Error{Code: "denied", Text: "no entry"}
	type next = func(context.Context) error
	for name, c := range map[string]struct {
		send      any
		handle    func(ctx context.Context, next next) error
		code      string // of the caller's error
		text      string // in it
		committed bool
	}{
		"all is well": {Append{Line: "l"}, func(ctx context.Context, next next) error { return next(ctx) }, "", "", true},
		"denied":      {Append{Line: "l"}, func(context.Context, next) error { return errDenied }, "denied", "no entry", false},
		"denied afterwards": {Append{Line: "l"}, func(ctx context.Context, next next) error { return errors.Join(next(ctx), errDenied) },
			"denied", "no entry", false},
		"wrapped": {Deny{Line: "l"}, func(ctx context.Context, next next) error { return fmt.Errorf("here: %w", next(ctx)) },
			"denied", "here: no", false},
		"hidden":        {Deny{Line: "l"}, func(ctx context.Context, next next) error { _ = next(ctx); return nil }, "denied", "no", false},
		"not called":    {Append{Line: "l"}, func(context.Context, next) error { return nil }, "", "neither called next", false},
		"called twice":  {Append{Line: "l"}, func(ctx context.Context, next next) error { _ = next(ctx); return next(ctx) }, "", "called next twice", false},
		"other context": {Append{Line: "l"}, func(_ context.Context, next next) error { return next(context.Background()) }, "", "was not made of", false},
		"panics":        {Append{Line: "l"}, func(context.Context, next) error { panic("oh") }, "dserver/fault", "panic: oh", false},
		"a fault stays one": {Burn{Line: "l"}, func(ctx context.Context, next next) error {
			if err := next(ctx); !errors.Is(err, dserver.ErrFault) || !strings.Contains(err.Error(), "it broke at l") {
				return fmt.Errorf("the panic is %v", err)
			}
			return errDenied
		}, "dserver/fault", "it broke at l", false},
		"kept": {Concede{Line: "l"}, func(ctx context.Context, next next) error { return next(ctx) }, "denied", "no", true},
		"kept, wrapped": {Concede{Line: "l"}, func(ctx context.Context, next next) error { return fmt.Errorf("here: %w", next(ctx)) },
			"denied", "here: no", true},
	} {
		t.Run(name, func(t *testing.T) {
			def := journals.With(dserver.Settings[Journal]{MaxAttempts: 1}, dserver.HandleCall(func(_ *dserver.Context, j *Journal, m Concede) (int, error) {
				j.write(m.Line)
				return 0, dserver.Keep(errDenied)
			}))
			db := dserver.Intercept(newStore(t, def).Open(), dserver.Interceptor{
				Handle: func(ctx context.Context, _ *dserver.Handling, next func(context.Context) error) error {
					return c.handle(ctx, next)
				},
			})
			start(t, db, def)
			s, ctx := def.At(db, "a"), within(t)
			err := s.Call(ctx, c.send, nil)
			var e *dserver.Error
			switch {
			case c.text == "" && err != nil, c.text != "" && (!errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Text, c.text)):
				t.Errorf("the caller has %v", err)
			}
			state, err := s.State(ctx)
			if c.committed != (err == nil && len(state.Lines) == 1) {
				t.Errorf("the state is %v, %v", state.Lines, err)
			}
		})
	}
}

// Concede is refused, and written down.
type Concede struct {
	dserver.Returns[int]
	Line string
}

// A send that an interceptor fails was not sent, and none that failed is taken for sent.
func TestInterceptorsErrorIsTheSends(t *testing.T) {
	type next = func(context.Context) error
	var errClosed = errors.New("closed for today")
	for name, c := range map[string]struct {
		send func(ctx context.Context, s *dserver.Send, next next) error
		want string
		sent int64
	}{
		"all is well":     {func(ctx context.Context, _ *dserver.Send, next next) error { return next(ctx) }, "", 1},
		"refused":         {func(context.Context, *dserver.Send, next) error { return errClosed }, "closed for today", 0},
		"not called":      {func(context.Context, *dserver.Send, next) error { return nil }, "nothing was sent: an interceptor neither", 0},
		"called twice":    {func(ctx context.Context, _ *dserver.Send, next next) error { _ = next(ctx); return next(ctx) }, "called next twice", 1},
		"other error":     {func(ctx context.Context, _ *dserver.Send, next next) error { return errors.Join(next(ctx), errClosed) }, "closed", 1},
		"a header is set": {func(ctx context.Context, s *dserver.Send, next next) error { s.SetHeader("a", "b"); return next(ctx) }, "", 1},
		"a header is none": {func(ctx context.Context, s *dserver.Send, next next) error {
			s.SetHeader("", "b")
			_ = next(ctx) // is no success for all that
			return nil
		}, "a header's key has 1 to 256 bytes", 0},
	} {
		t.Run(name, func(t *testing.T) {
			plain := newStore(t, journals).Open()
			db := dserver.Intercept(plain, dserver.Interceptor{Send: c.send})
			s, ctx := journals.At(db, "a"), within(t)
			if err := s.Cast(ctx, Write{"l"}); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("the sender has %v", err)
			}
			status, err := s.Status(ctx)
			if must(t, err); status.Queued != c.sent {
				t.Errorf("%d were sent", status.Queued)
			}
			start(t, db, parrots) // with a handler that sends
			err = parrots.At(plain, "b").Call(ctx, Squawk{}, nil)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("the handler that sends ended with %v", err)
			}
		})
	}
}

// Sent is told of each send once, when it is over, with the error that the sender gets. It needs no Send.
func TestSentIsToldOfEachSend(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		for name, others := range map[string][]dserver.Interceptor{"alone": nil, "around": {new(heard).telling("A")}} {
			t.Run(name, func(t *testing.T) {
				h, ctx := &heard{}, within(t)
				tells := dserver.Interceptor{Sent: func(s dserver.Sent) {
					if (s.Took > 0) != (s.From == dserver.Ref{}) {
						h.add("%s took %v", s.Verb, s.Took)
					}
					h.add("%s of %d %s to %v from %v after %v: %v", s.Verb, s.Count, s.Message, s.To, s.From, s.After, s.Err)
				}}
				db := dserver.Intercept(open(), append(others, tells)...)
				start(t, db, parrots)
				s := parrots.At(db, name)
				_, err := dserver.Call(ctx, s, Repeat{})
				must(t, err)
				must(t, s.Info(ctx, Nudge{}))
				must(t, s.CastAll(ctx, []any{Perk{}, Perk{}}, dserver.After(time.Hour)))
				h.expect(t, "Call of 1 Repeat to parrot/"+name+" from / after 0s: <nil>",
					"Info of 1 Nudge to parrot/"+name+" from / after 0s: <nil>",
					"CastAll of 2 Perk to parrot/"+name+" from / after 1h0m0s: <nil>")
				must(t, s.Cast(ctx, Squawk{}, dserver.Header("k", "v")))
				h.expect(t, "Cast of 1 Perk to parrot/other from parrot/"+name+" after 0s: <nil>",
					"SetTimer of 1 Perk to parrot/"+name+" from parrot/"+name+" after 1h0m0s: <nil>",
					"Cast of 1 Squawk to parrot/"+name+" from / after 0s: <nil>")
				ended, cancel := context.WithCancel(ctx)
				cancel()
				if err := s.Cast(ended, Perk{}); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				if got := h.take(); len(got) != 1 || !strings.HasSuffix(got[0], "canceled") {
					t.Errorf("told %q", got)
				}
			})
		}
	})
}

// Where all interceptors say that there is nothing to do, none runs: but for what has headers, and those that are told.
func TestInterceptorsRunWhereTheyAreEnabled(t *testing.T) {
	h, ctx := &heard{}, within(t)
	var isOn, isOtherOn atomic.Bool
	enabled := func(is *atomic.Bool) func(context.Context) bool {
		return func(ctx context.Context) bool { return is.Load() || ctx.Value(nameKey{}) != nil }
	}
	a, b := h.telling("A"), h.telling("B")
	a.Enabled, b.Enabled = enabled(&isOn), enabled(&isOtherOn)
	db := dserver.Intercept(backendtest.NewStore().Open(), a, b, dserver.Interceptor{
		Sent: func(s dserver.Sent) { h.add("sent %s", s.Message) }, Turned: func(*dserver.Turn) {},
	})
	start(t, db, parrots)
	s := parrots.At(db, "a")
	runs := func(want bool, ctx context.Context, opts ...dserver.Option) {
		t.Helper()
		must(t, s.Call(ctx, Perk{}, nil, opts...))
		must(t, s.Call(ctx, Flap{}, nil, opts...))
		lines := strings.Join(h.take(), "\n")
		for what, is := range map[string]bool{
			"A: Call": want, "B: Call": want, "A: handle Perk": want, "A: work Flap": want, "B: work Flap": want, "sent Perk": true,
		} {
			if strings.Contains(lines, what) != is {
				t.Errorf("%q is told: %v\n%s", what, !is, lines)
			}
		}
	}
	runs(false, ctx)
	runs(true, ctx, dserver.Header("k", "v"))
	isOtherOn.Store(true)
	runs(true, ctx)
	isOtherOn.Store(false)
	must(t, s.Call(context.WithValue(ctx, nameKey{}, "somebody"), Perk{}, nil))
	if lines := h.take(); !slices.Contains(lines, "A: Call of 1 Perk to parrot/a from /") {
		t.Errorf("told %q", lines)
	}
	must(t, s.Cast(ctx, Squawk{}))
	if lines := h.take(); !slices.Equal(lines, []string{"sent Perk", "sent Perk", "sent Squawk"}) {
		t.Errorf("told %q", lines)
	}
}

// Turned is told how long each handler ran, with what is around it.
func TestTurnedTellsHowLongHandlersRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type nap struct{ For time.Duration }
		def := dserver.Define("sleeper",
			dserver.Settings[Parrot]{HandlerLimit: time.Second, MaxAttempts: 1},
			dserver.HandleCast(func(_ *dserver.Context, _ *Parrot, n nap) error {
				<-time.After(n.For)
				if n.For == 7*time.Millisecond {
					panic("it is too early")
				}
				return nil
			}),
			dserver.HandleLocked(
				func(*dserver.LockedContext, Parrot, Flap) (string, error) { return "", nil },
				func(*dserver.Context, *Parrot, Flap, string) error { <-time.After(3 * time.Millisecond); return nil }))
		var mu sync.Mutex
		took := map[string][]time.Duration{}
		around := func(ctx context.Context, _ *dserver.Handling, next func(context.Context) error) error {
			<-time.After(time.Millisecond)
			return next(ctx)
		}
		for name, handle := range map[string]func(context.Context, *dserver.Handling, func(context.Context) error) error{"told": nil, "around": around} {
			store := backendtest.NewStore()
			db := dserver.Intercept(store.Open(), dserver.Interceptor{Handle: handle, Turned: func(turn *dserver.Turn) {
				mu.Lock()
				defer mu.Unlock()
				for _, m := range turn.Messages {
					took[name] = append(took[name], m.Took)
				}
			}})
			far := def.At(store.Open(), "a")
			must(t, far.CastAll(t.Context(), []any{nap{5 * time.Millisecond}, nap{4 * time.Millisecond}}))
			must(t, far.Cast(t.Context(), nap{7 * time.Millisecond}))
			must(t, far.Cast(t.Context(), nap{2 * time.Second}))
			must(t, far.Cast(t.Context(), Flap{}))
			run(t, dserver.Consumer{}, db, def)
			<-time.After(time.Minute)
		}
		mu.Lock()
		defer mu.Unlock()
		const ms = time.Millisecond
		for name, more := range map[string]time.Duration{"told": 0, "around": ms} {
			want := []time.Duration{5*ms + more, 4*ms + more, 7*ms + more, time.Second, 0, 3*ms + more}
			if !slices.Equal(took[name], want) {
				t.Errorf("%s: they took %v, not %v", name, took[name], want)
			}
		}
	})
}

// turns is what Turned was told.
type turns struct{ heard }

func (h *turns) interceptor() dserver.Interceptor {
	return dserver.Interceptor{Turned: func(turn *dserver.Turn) {
		for _, m := range turn.Messages {
			line := fmt.Sprintf("%s %d", m.Message, m.Attempt)
			for _, is := range []struct {
				word string
				is   bool
			}{{"ok", m.Err == nil}, {"faulted", m.Faulted}, {"dead", m.DeadLetter}, {"locks", m.Locks}, {"applied", m.Apply}} {
				if is.is {
					line += " " + is.word
				}
			}
			h.add("%s", line)
		}
		if turn.TookOver {
			h.add("took over %v", turn.Server)
		}
		if len(turn.Messages) > 0 && (turn.Began.IsZero() || turn.Err != nil) {
			h.add("began %v, %v", turn.Began, turn.Err)
		}
	}}
}

// Turned is told of each message once, whatever becomes of it.
func TestTurnedIsToldWhatBecameOfEachMessage(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		h, ctx := &turns{}, within(t)
		def := journals.With(
			dserver.Settings[Journal]{MaxAttempts: 2, BackOff: time.Millisecond, MaxBackOff: time.Millisecond},
			dserver.HandleLocked(
				func(*dserver.LockedContext, Journal, Guarded) (int, error) { return 0, nil },
				func(_ *dserver.Context, j *Journal, m Guarded, _ int) error { j.write(m.Line); return nil }))
		db := dserver.Intercept(open(), h.interceptor())
		start(t, db, def)
		far := def.At(open(), "a") // its messages are queued
		must(t, far.Cast(ctx, Write{"l"}))
		h.expect(t, "Write 1 ok")
		must(t, far.CastAll(ctx, []any{Write{"1"}, Write{"2"}, Write{"3"}}))
		h.expect(t, "Write 1 ok", "Write 1 ok", "Write 1 ok")
		must(t, far.Cast(ctx, Reject{"l"}))
		h.expect(t, "Reject 1 dead")
		must(t, far.Cast(ctx, Blow{"l"}))
		h.expect(t, "Blow 1 faulted", "Blow 2 faulted dead")
		_ = far.Call(ctx, Deny{Line: "l"}, nil)
		h.expect(t, "Deny 1")
		must(t, far.Cast(ctx, Guarded{"l"}))
		h.expect(t, "Guarded 1 ok locks", "Guarded 1 ok applied")
		must(t, def.At(db, "b").Call(ctx, Append{Line: "l"}, nil))
		h.expect(t, "Append 1 ok")
		must(t, def.At(db, "b").Cast(ctx, Blow{"l"})) // not queued at first
		h.expect(t, "Blow 1 faulted", "Blow 1 faulted", "Blow 2 faulted dead")
	})
}

// Jostle is a call whose first run loses a race with Jolt.
type (
	Jostle struct{ dserver.Returns[int] }
	Jolt   struct{}
)

// Turned is told of lost races, of how long the store took, and whether the state had to be read. Handle sees each run.
func TestTurnedTellsOfRacesTimesAndTheCache(t *testing.T) {
	var mu sync.Mutex
	var told []dserver.Turn
	var seen []int
	store, ctx := newStore(t, journals), within(t)
	jolting := journal.With(dserver.HandleInfo(func(_ *dserver.Context, j *Journal, _ Jolt) error { j.write("jolt"); return nil }))
	other, far := jolting.At(store.Open(), "a"), store.Open()
	def := journal.With(dserver.HandleCall(func(_ *dserver.Context, j *Journal, _ Jostle) (int, error) {
		if len(j.Lines) == 1 || len(j.Lines) == 4 {
			must(t, other.Info(ctx, Jolt{}))
		}
		j.write("jostle")
		return len(j.Lines), nil
	}))
	db := dserver.Intercept(store.Open(), dserver.Interceptor{
		Handle: func(ctx context.Context, h *dserver.Handling, next func(context.Context) error) error {
			seen = append(seen, h.Run)
			return next(ctx)
		},
		Turned: func(turn *dserver.Turn) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, *turn)
		},
	})
	start(t, db, def)
	for _, want := range []int{1, 3, 4} {
		if n, err := dserver.Call(ctx, def.At(far, "a"), Jostle{}); err != nil || n != want {
			t.Errorf("%d lines, not %d, %v", n, want, err)
		}
	}
	eventually(t, "three turns are told of", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == 3 })
	for i, want := range []dserver.Turn{{}, {Conflicts: 1}, {Cached: true}} {
		got := told[i]
		if got.Conflicts != want.Conflicts || got.Cached != want.Cached || got.Commit <= 0 || got.Handlers <= 0 {
			t.Errorf("turn %d is %+v", i, got)
		}
	}
	if !slices.Equal(seen, []int{1, 1, 2, 1}) {
		t.Errorf("the runs are %v", seen)
	}

	// One that was not queued goes there after it has lost, and the turn that lost is told of by itself.
	if n, err := dserver.Call(ctx, def.At(db, "a"), Jostle{}); err != nil || n != 6 {
		t.Errorf("%d lines, not 6, %v", n, err)
	}
	eventually(t, "two more turns are told of", func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == 5 })
	if told[3].Conflicts != 1 || len(told[3].Messages) != 0 || told[4].Conflicts != 0 || len(told[4].Messages) != 1 {
		t.Errorf("the turns are %+v", told[3:])
	}
}

// Turned is told when the lock of a consumer is taken over that vanished.
func TestTurnedTellsOfTakeOvers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, store := &turns{}, backendtest.NewStore()
		holds := make(chan struct{})
		def := journals.With(dserver.HandleLocked(
			func(ctx *dserver.LockedContext, _ Journal, _ Guarded) (int, error) {
				if ctx.Attempt() == 1 {
					close(holds)
					<-ctx.Done()
				}
				return 0, ctx.Err()
			},
			func(_ *dserver.Context, j *Journal, m Guarded, _ int) error { j.write(m.Line); return nil }))
		dies := store.Open()
		run(t, dserver.Consumer{}, dies, def)
		must(t, def.At(dies, "a").Cast(t.Context(), Guarded{"l"}))
		<-holds
		must(t, dies.Close())
		run(t, dserver.Consumer{}, dserver.Intercept(store.Open(), h.interceptor()), def)
		<-time.After(time.Minute)
		h.expect(t, "took over journal/a", "Guarded 2 ok applied")
	})
}

// A panic of Turned is logged, and harms nothing.
func TestTurnedMayPanic(t *testing.T) {
	db, ctx := newStore(t, journals).Open(), within(t)
	var log bytes.Buffer
	through := dserver.Intercept(db, dserver.Interceptor{Turned: func(*dserver.Turn) { panic("told too much") }})
	stop := run(t, dserver.Consumer{Logger: zerolog.New(zerolog.SyncWriter(&log))}, through, journals)
	for i := range 3 {
		must(t, journals.At(through, "a").Call(ctx, Append{Line: fmt.Sprint(i)}, nil))
	}
	stop()
	if got := log.String(); !strings.Contains(got, "told too much") || !strings.Contains(got, "an interceptor panicked") {
		t.Errorf("logged is %s", got)
	}
}

// Whoever uses the database with interceptors and whoever uses it without share the process: a message of the one joins the
// turns of the other, and is told to whom that turn is.
func TestInterceptedAndPlainHandlesShareAProcess(t *testing.T) {
	h, ctx := &heard{}, within(t)
	db := newStore(t, trails).Open()
	through := dserver.Intercept(db, h.telling("A"))
	if through == dserver.Intercept(db, h.telling("A")) || through != through { //nolint:gocritic // comparable is what it is
		t.Error("databases with interceptors are not compared by what they are")
	}
	var stamps []backend.Versionstamp
	def := trails.With(dserver.HandleCall(func(ctx *dserver.Context, _ *Trail, _ Wonder) (string, error) {
		stamps = append(stamps, ctx.Stamp())
		return ctx.Header("names"), nil
	}))
	start(t, through, def)
	for _, from := range []backend.Database{through, db, through} {
		names, err := dserver.Call(ctx, def.At(from, "a"), Wonder{})
		if must(t, err); (names == "A") != (from == through) {
			t.Errorf("the message has the names %q", names)
		}
	}
	if !stamps[1].IsZero() || !stamps[2].IsZero() {
		t.Errorf("they were queued: %v", stamps)
	}
	if lines := h.take(); len(lines) != 2*5 {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}

// Wonder is answered with the names in its headers.
type Wonder struct{ dserver.Returns[string] }

// All that is asked of a database is asked of the one inside.
func TestInterceptedDatabaseIsTheOneInside(t *testing.T) {
	db, ctx := backendtest.NewStore().Open(), within(t)
	reports := &reporting{Database: db}
	through := dserver.Intercept(reports, dserver.Interceptor{})
	through.(backend.Reporter).Report(func(error) {})()
	if reports.asked != 1 {
		t.Errorf("reports were asked for %d times", reports.asked)
	}
	dserver.Intercept(db).(backend.Reporter).Report(func(error) {})() // which has none
	must(t, journals.At(through, "a").Cast(ctx, Write{"l"}))
	status, err := journal.At(through, "a").Status(ctx)
	if must(t, err); status.Queued != 1 {
		t.Errorf("status %+v", status)
	}
	for typ, err := range dserver.Types(ctx, through) {
		if must(t, err); typ != "journal" {
			t.Errorf("type %q", typ)
		}
	}
	must(t, dserver.Check(ctx, through, journal))
	must(t, through.Close())
	if err := journals.At(db, "a").Cast(ctx, Write{"l"}); !errors.Is(err, backend.ErrClosed) {
		t.Errorf("the database is open: %v", err)
	}
}

// reporting counts who asks for reports.
type reporting struct {
	backend.Database
	asked int
}

func (r *reporting) Report(func(what error)) (stop func()) {
	r.asked++
	return func() {}
}

package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

type (
	// UseHandles makes a handler use a handle with its own context.
	UseHandles struct{ dserver.Returns[[]string] }
	// Meddle is a call whose handler does what a query must not.
	Meddle struct {
		dserver.Returns[int]
		How string
	}
)

// A query sees what has taken effect and nothing that waits; it stores nothing, and needs no consumer.
func TestQuerySeesWhatHasTakenEffect(t *testing.T) {
	store := newStore(t, journals)
	db := store.Open()
	s := journals.At(db, "a")
	if got, err := dserver.Query(within(t), s, Lines{}); len(got) != 0 || err != nil {
		t.Errorf("of a server without a state: %q, %v", got, err)
	}
	if _, err := s.State(within(t)); !errors.Is(err, dserver.ErrNotFound) {
		t.Errorf("State of a server without one: %v", err)
	}
	must(t, s.Cast(within(t), Write{"queued"}))
	if got, err := dserver.Query(within(t), s, Lines{}); len(got) != 0 || err != nil {
		t.Errorf("before it was handled: %q, %v", got, err)
	}
	if _, err := s.State(within(t)); !errors.Is(err, dserver.ErrNotFound) {
		t.Errorf("State before it was handled: %v", err)
	}
	stop := run(t, dserver.Consumer{}, db, journals)
	expectLines(t, lines(t, s), "queued")
	stop()
	for _, db := range []backend.Database{db, store.Open()} {
		got, err := dserver.Query(within(t), journals.At(db, "a"), Lines{})
		must(t, err)
		expectLines(t, got, "queued")
		state, err := journal.At(db, "a").State(within(t)) // an address is enough
		must(t, err)
		expectLines(t, state.Lines, "queued")
		if state.Seen["queued"] != 1 {
			t.Errorf("%v", state.Seen)
		}
	}
}

func TestQueryThatMeddlesFails(t *testing.T) {
	types := journals.With(dserver.HandleCall(func(ctx *dserver.Context, j *Journal, m Meddle) (int, error) {
		switch m.How {
		case "change":
			j.write("by a query")
		case "change in a map":
			j.Seen["first"] = 7
		case "send":
			ctx.Cast(ctx.Self(), Write{"by a query"})
		case "act":
			ctx.AfterCommit(func() { t.Error("it acted") })
		case "panic":
			panic("in a query")
		case "refuse":
			return 0, errDenied
		}
		return 7, nil
	}))
	db := newStore(t, types).Open()
	start(t, db, types)
	s := types.At(db, "a")
	must(t, s.Cast(within(t), Write{"first"}))
	for _, c := range []struct {
		how  string
		is   error
		text string
	}{
		{"change", nil, "changed the state"},
		{"change in a map", nil, "changed the state"},
		{"send", nil, "must not change or send"},
		{"act", nil, "must not change or send"},
		{"panic", dserver.ErrFault, "in a query"},
		{"refuse", errDenied, "no"},
	} {
		if n, err := dserver.Query(within(t), s, Meddle{How: c.how}); n != 0 || err == nil ||
			c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %d, %v", c.how, n, err)
		}
	}
	if n, err := dserver.Query(within(t), s, Meddle{}); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := dserver.Query(within(t), journal.At(db, "a"), Lines{}); !errors.Is(err, dserver.ErrNoHandler) {
		t.Errorf("through an address: %v", err)
	}
	if err := queryUntyped(within(t), s); !errors.Is(err, dserver.ErrNoHandler) {
		t.Errorf("for a message that it does not handle: %v", err)
	}
	expectLines(t, lines(t, s), "first")
}

func queryUntyped(ctx context.Context, s *dserver.DServer[Journal]) error {
	_, err := dserver.Query(ctx, s, AskStrange{})
	return err
}

// AskStrange is a request that journals do not handle.
type AskStrange struct{ dserver.Returns[int] }

// What a handler sends with a handle would not be part of its commit, so handles refuse its context.
func TestHandlesRefuseAHandlersContext(t *testing.T) {
	var s *dserver.DServer[Journal]
	types := journals.With(dserver.HandleCall(func(ctx *dserver.Context, _ *Journal, _ UseHandles) ([]string, error) {
		failed := verbs(ctx.Context(), s, Write{"x"})
		_, failed["Query"] = dserver.Query(ctx.Context(), s, Lines{})
		_, failed["State"] = s.State(ctx.Context())
		_, failed["typed Call"] = dserver.Call(ctx.Context(), s, Lines{})
		var wrong []string
		for verb, err := range failed {
			if err == nil || !strings.Contains(err.Error(), "in a handler would not be part of its commit") {
				wrong = append(wrong, fmt.Sprint(verb, ": ", err))
			}
		}
		return wrong, nil
	}))
	db := newStore(t, types).Open()
	start(t, db, types)
	s = types.At(db, "a")
	for _, ask := range []func(context.Context, *dserver.DServer[Journal], dserver.Request[[]string]) ([]string, error){
		func(ctx context.Context, s *dserver.DServer[Journal], m dserver.Request[[]string]) ([]string, error) {
			return dserver.Call(ctx, s, m)
		},
		dserver.Query[Journal, []string],
	} {
		if wrong, err := ask(within(t), s, UseHandles{}); len(wrong) > 0 || err != nil {
			t.Errorf("%q, %v", wrong, err)
		}
	}
}

// Handlers can be tested without a server: the zero Context does nothing.
func TestZeroContextDoesNothing(t *testing.T) {
	var ctx dserver.Context
	ctx.Cast(journal.Ref("a"), Write{"x"})
	ctx.Cast(dserver.Ref{}, nil)
	ctx.AfterCommit(func() { t.Error("it acted") })
	ctx.SetTimer("t", time.Second, Write{"x"})
	ctx.SetTimer("t", time.Second, nil, dserver.After(1), nil)
	ctx.CancelTimer("t")
	ctx.Lock()
	ctx.Unlock(nil)
	ctx.Reset()
	if from := dserver.ReplyLater(&ctx, Append{}); from != "" {
		t.Errorf("from %q", from)
	}
	if ctx.Self() != (dserver.Ref{}) || ctx.Context().Err() != nil {
		t.Error("it is somebody's")
	}
}

// A Context that was kept does nothing after its handler returned.
func TestKeptContextDoesNothing(t *testing.T) {
	kept := make(chan *dserver.Context, 1)
	types := journals.With(dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Mark) error {
		kept <- ctx
		return nil
	}))
	db := newStore(t, types).Open()
	start(t, db, types)
	s := types.At(db, "a")
	must(t, s.Call(within(t), Mark{}, nil)) // a cast may be queued, and its handler still run
	ctx := <-kept
	ctx.Cast(s.Ref(), Write{"late"})
	ctx.AfterCommit(func() { t.Error("it acted") })
	must(t, s.Cast(within(t), Write{"on time"}))
	expectLines(t, lines(t, s), "on time")
}

// Init is a part of the first message's turn: once when that succeeds, and again when it does not.
func TestInitIsPartOfTheFirstMessage(t *testing.T) {
	fails := true
	types := journals.With(dserver.Init(func(ctx *dserver.Context, j *Journal) error {
		if j.Lines != nil || j.Seen == nil {
			t.Errorf("Init is given %+v", j)
		}
		j.write("init")
		ctx.Cast(journal.Ref("other"), Write{"from init"})
		if fails {
			fails = false
			return errDenied
		}
		return nil
	}))
	db := newStore(t, types).Open()
	start(t, db, types)
	s := types.At(db, "a")
	if _, err := dserver.Call(within(t), s, Append{Line: "first"}); !errors.Is(err, errDenied) {
		t.Fatal(err)
	}
	if _, err := dserver.Call(within(t), s, Deny{Line: "second"}); !errors.Is(err, errDenied) {
		t.Fatal(err)
	}
	if _, err := s.State(within(t)); !errors.Is(err, dserver.ErrNotFound) {
		t.Fatalf("two failed messages left a state: %v", err)
	}
	must(t, s.CastAll(within(t), []any{Write{"third"}, Write{"fourth"}}))
	expectLines(t, lines(t, s), "init", "third", "fourth")
	other := types.At(db, "other")
	eventually(t, "both sends of an Init are handled", func() bool { // the other's own comes in a turn after its first
		state, err := other.State(within(t))
		return err == nil && len(state.Lines) >= 3
	})
	expectLines(t, lines(t, other), "init", "from init", "from init")
}

// A server that Init leaves as it is exists all the same, so Init runs once.
func TestInitThatChangesNothingRunsOnce(t *testing.T) {
	runs := 0
	types := journals.With(dserver.Init(func(*dserver.Context, *Journal) error { runs++; return nil }))
	db := newStore(t, types).Open()
	start(t, db, types)
	for range 3 {
		_ = lines(t, types.At(db, "a"))
	}
	if _, err := types.At(db, "a").State(within(t)); err != nil || runs != 1 {
		t.Errorf("Init ran %d times: %v", runs, err)
	}
}

// Maps of a state are never nil in a handler, a message's reader, or a State.
func TestMapsOfAStateAreNeverNil(t *testing.T) {
	type Deep struct {
		Top   map[string]int
		Inner struct{ Map map[int]string }
		By    map[string]*Deeper
	}
	deep := dserver.Define("deep", dserver.HandleCast(func(_ *dserver.Context, d *Deep, _ Write) error {
		d.Top["a"]++
		d.Inner.Map[1] += "x"
		if d.By["a"] == nil {
			d.By["a"] = &Deeper{Map: map[string]int{}}
		}
		d.By["a"].Map["b"]++
		if d.By["a"].Map["b"] == 2 {
			d.By["a"].Map = nil // and is stored, and read as an empty one
		}
		d.Top = nil // the next message finds an empty one
		return nil
	}))
	store := newStore(t, deep)
	db := store.Open()
	for range 2 {
		stop := run(t, dserver.Consumer{}, db, deep)
		must(t, deep.At(db, "a").Call(within(t), Write{}, nil))
		must(t, deep.At(db, "a").Call(within(t), Write{}, nil))
		stop()
	}
	s, err := deep.At(db, "a").State(within(t))
	if err != nil || s.Top == nil || s.Inner.Map[1] != "xxxx" || s.By["a"] == nil || s.By["a"].Map == nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// Deeper is a part of a state with a map of its own.
type Deeper struct{ Map map[string]int }

// Sends of one turn to one server arrive in the order of the calls, those to the server itself too.
func TestSendsOfATurnArriveInOrder(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		const each = 50
		types := journals.With(dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Mark) error {
			for i := range each {
				ctx.Cast(ctx.Self(), Write{fmt.Sprint(m.Line, i)})
				ctx.Cast(journal.Ref("b"), Write{fmt.Sprint(m.Line, i)})
			}
			return nil
		}))
		db := open()
		must(t, types.At(db, "a").CastAll(within(t), []any{Mark{"x"}, Mark{"y"}, Mark{"z"}}))
		for range 2 {
			start(t, open(), types)
		}
		want := slices.Concat(numbered("x", each), numbered("y", each), numbered("z", each))
		for _, id := range []string{"a", "b"} {
			s := types.At(db, id)
			eventually(t, "all are handled", func() bool {
				state, err := s.State(within(t))
				return err == nil && len(state.Lines) == len(want)
			})
			expectLines(t, lines(t, s), want...)
		}
	})
}

// Actions run after the commit, in the order in which they were registered, across a batch and from turn to turn.
func TestActionsRunInOrderAfterTheCommit(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		var mu sync.Mutex
		var acted []string
		var db backend.Database
		types := journals.With(dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Mark) error {
			j.write(m.Line)
			for i := range 3 {
				ctx.AfterCommit(func() {
					state, err := journal.At(db, "a").State(within(t))
					if err != nil || !slices.Contains(state.Lines, m.Line) {
						t.Errorf("the action of %s ran before its commit: %v", m.Line, err)
					}
					mu.Lock()
					defer mu.Unlock()
					acted = append(acted, fmt.Sprint(m.Line, i))
				})
			}
			return nil
		}))
		db = open()
		s := types.At(db, "a")
		var want []string
		for i := range 20 {
			line := string(rune('a' + i))
			must(t, s.Cast(within(t), Mark{line}))
			want = append(want, numbered(line, 3)...)
			if i == 10 { // what came before is one batch
				start(t, db, types)
			}
		}
		_ = lines(t, s)
		eventually(t, "all actions ran", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acted) >= len(want)
		})
		mu.Lock()
		defer mu.Unlock()
		expectLines(t, acted, want...)
	})
}

// Run ends with its context, and finishes the turn in hand. What it has not taken goes to the queue.
func TestRunFinishesTheTurnInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, goOn := make(chan struct{}), make(chan struct{})
		types := journals.With(dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Mark) error {
			close(began)
			<-goOn
			j.write(m.Line)
			return ctx.Context().Err()
		}))
		store := newStore(t, types)
		db := store.Open()
		s := types.At(db, "a")
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- dserver.Run(ctx, db, types) }()
		synctest.Wait()
		sent := make(chan error, 2)
		go func() { sent <- s.Cast(context.Background(), Mark{"in hand"}) }()
		<-began
		go func() { sent <- s.Cast(context.Background(), Write{"behind"}) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("Run ended with a turn in hand: %v", err)
		default:
		}
		close(goOn)
		must(t, <-ended)
		must(t, <-sent)
		must(t, <-sent)
		state, err := s.State(context.Background())
		must(t, err)
		expectLines(t, state.Lines, "in hand")
		if status, err := s.Status(context.Background()); status.Queued != 1 || err != nil {
			t.Errorf("%+v, %v", status, err)
		}
		run(t, dserver.Consumer{}, store.Open(), types)
		expectLines(t, lines(t, s), "in hand", "behind")
	})
}

// Two Runs in one process share its servers, and one that ends leaves them to the other.
func TestTwoRunsInOneProcess(t *testing.T) {
	db := newStore(t, journals).Open()
	stop := run(t, dserver.Consumer{}, db, journals)
	start(t, db, journals)
	s := journals.At(db, "a")
	var want []string
	for i := range 40 {
		want = append(want, fmt.Sprint(i))
		must(t, s.Call(within(t), Append{Line: fmt.Sprint(i)}, nil))
		if i == 20 {
			stop()
		}
	}
	expectLines(t, lines(t, s), want...)
}

// Everything survives the processes, and a message that one consumer leaves the next one handles.
func TestStateSurvivesItsProcesses(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		var want []string
		for i := range 5 {
			db := open()
			s := journals.At(db, "a")
			want = append(want, fmt.Sprint(i, " queued"), fmt.Sprint(i, " called"))
			must(t, s.Cast(within(t), Write{fmt.Sprint(i, " queued")}))
			stop := run(t, dserver.Consumer{}, db, journals)
			must(t, s.Call(within(t), Append{Line: fmt.Sprint(i, " called")}, nil))
			expectLines(t, lines(t, s), want...)
			stop()
			must(t, db.Close())
		}
	})
}

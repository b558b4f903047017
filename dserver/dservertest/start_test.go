package dservertest_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
)

// Memo is a state with a field that is not stored, which a warm cache hides.
type Memo struct {
	Lines []string
	Last  time.Time
	Hot   int `dserver:"-"`
}

type (
	Line struct{ Text string }
	Read struct{ dserver.Returns[string] }
	Wake struct{ In time.Duration }
	Boom struct{}
	Exit struct{}
	Copy struct{ To dserver.Ref }
	Work struct{ dserver.Returns[string] }
)

var memo = dserver.Define[Memo]("memo")

var memos = memo.With(
	dserver.HandleCast(func(_ *dserver.Context, m *Memo, l Line) error {
		m.Hot++
		m.Lines = append(m.Lines, l.Text)
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, m *Memo, _ Read) (string, error) {
		return fmt.Sprint(strings.Join(m.Lines, " "), " hot=", m.Hot), nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, _ *Memo, w Wake) error {
		ctx.SetTimer("wake", w.In, Line{"woken"})
		return nil
	}),
	dserver.HandleCast(func(*dserver.Context, *Memo, Boom) error { panic("boom") }),
	dserver.HandleCast(func(*dserver.Context, *Memo, Exit) error {
		runtime.Goexit()
		return nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, m *Memo, c Copy) error {
		for _, line := range m.Lines {
			ctx.Cast(c.To, Line{line})
		}
		return nil
	}),
	dserver.HandleLockedCall(
		func(ctx *dserver.LockedContext, m Memo, _ Work) (string, error) {
			if ctx.Attempt() == 1 {
				return "", fmt.Errorf("away")
			}
			return fmt.Sprint("worked on ", len(m.Lines)), nil
		},
		func(_ *dserver.Context, m *Memo, _ Work, found string) (string, error) {
			m.Lines = append(m.Lines, "worked")
			return found, nil
		}),
)

func read(t testing.TB, s *dserver.DServer[Memo]) string {
	t.Helper()
	text, err := dserver.Call(context.Background(), s, Read{})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// count is how many lines are stored.
func count(s *dserver.DServer[Memo]) int {
	state, _ := s.State(context.Background())
	return len(state.Lines)
}

func TestEveryMessageDecodesItsStateFromTheStore(t *testing.T) {
	db := dservertest.Start(t, memos)
	a := memos.At(db, "a")
	must(t, a.CastAll(t.Context(), []any{Line{"one"}, Line{"two"}})) // would be one batch
	must(t, a.Cast(t.Context(), Line{"three"}))
	if got := read(t, a); got != "one two three hot=0" {
		t.Errorf("it is %q: what is not stored has survived", got)
	}
}

func TestAConsumerRunsWhenStartReturns(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) { // in real time a busy machine might queue it
			db := dservertest.Start(t, memos)
			a := memos.At(db, "a")
			must(t, a.Cast(t.Context(), Line{"one"})) // joins a turn: were there no consumer yet, it would be queued
			if s, err := a.Status(t.Context()); s.Queued != 0 || err != nil {
				t.Fatalf("%+v, %v", s, err)
			}
		})
	}
}

// If it were not, the test would take hours.
func TestTimeInABubbleIsVirtual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := dservertest.Start(t, memos)
		a := memos.At(db, "a")
		must(t, a.Cast(t.Context(), Wake{4 * time.Hour}))
		<-time.After(3 * time.Hour)
		if got := read(t, a); got != " hot=0" {
			t.Errorf("too early: %q", got)
		}
		<-time.After(2 * time.Hour)
		if got := read(t, a); got != "woken hot=0" {
			t.Errorf("after hours: %q", got)
		}
	})
}

func TestSettleWaitsForWhatMessagesSendAndForWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := dservertest.Start(t, memos)
		a, b := memos.At(db, "a"), memos.At(db, "b")
		must(t, a.Cast(t.Context(), Line{"one"}))
		must(t, a.Cast(t.Context(), Work{}))
		must(t, a.Cast(t.Context(), Copy{b.Ref()}))
		dservertest.Settle(t, db)
		s, err := b.State(t.Context())
		if err != nil || fmt.Sprint(s.Lines) != "[one worked]" {
			t.Errorf("%v, %v", s.Lines, err)
		}
	})
}

// told is a test that notes why it has failed.
type told struct {
	testing.TB
	text string
}

func (x *told) Fatalf(format string, args ...any) {
	x.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failure is what a test tells that fails.
func failure(t *testing.T, test func(t testing.TB)) string {
	x, ended := &told{TB: t}, make(chan struct{})
	go func() {
		defer close(ended)
		test(x)
	}()
	<-ended
	return x.text
}

// In a bubble no time passes while a server sends to itself, so no time limit ends the wait for it.
func TestSettleEndsWhenServersSendWithoutEnd(t *testing.T) {
	dservertest.LimitSteps(t, 500)
	type Echo struct{}
	echoes := memos.With(dserver.HandleCast(func(ctx *dserver.Context, _ *Memo, _ Echo) error {
		ctx.Cast(ctx.Self(), Echo{})
		return nil
	}))
	const want = "settle: memo/a still has something to do after 500 commits in which no time passed"
	for _, interceptors := range [][]dserver.Interceptor{nil, {{}}} {
		synctest.Test(t, func(t *testing.T) {
			db := dservertest.Start(t, echoes)
			if interceptors != nil {
				db = dservertest.StartIntercepted(t, interceptors, echoes)
			}
			must(t, echoes.At(db, "a").Cast(t.Context(), Line{"one"}))
			dservertest.Settle(t, db)
			must(t, echoes.At(db, "a").Cast(t.Context(), Echo{}))
			if text := failure(t, func(t testing.TB) { dservertest.Settle(t, db) }); !strings.Contains(text, want) {
				t.Errorf("it failed by %q", text)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // as it does where a process dies
		f := dservertest.Chaos(t, 0, echoes)
		must(t, f.Do(func(ctx context.Context, db backend.Database) error {
			return echoes.At(db, "a").Cast(ctx, Echo{})
		}))
		if text := failure(t, func(x testing.TB) { dservertest.SettleFor(x, f) }); !strings.Contains(text, want) {
			t.Errorf("with faults it failed by %q", text)
		}
	})
}

func TestByHandHandlesOneMessageAtATime(t *testing.T) {
	h := dservertest.ByHand(t, memos)
	ctx := t.Context()
	a, b := memos.At(h.DB, "a"), memos.At(h.DB, "b")
	must(t, b.Cast(ctx, Line{"first"}))
	must(t, a.Cast(ctx, Line{"second"}))
	must(t, a.Cast(ctx, Copy{b.Ref()}))
	for i, want := range []string{"0 0", "0 1", "1 1", "1 1"} { // in the order in which they were sent
		if got := fmt.Sprint(count(a), count(b)); got != want {
			t.Errorf("after %d steps there are %s lines, want %s", i, got, want)
		}
		if !h.Step() {
			t.Fatalf("nothing to do after %d steps", i)
		}
	}
	if got := count(b); got != 2 {
		t.Errorf("after all steps there are %d lines", got)
	}
	if h.Step() {
		t.Error("there was one message more")
	}
}

func TestDrainHandlesPoisonAndLockedWorkToTheirEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := dservertest.ByHand(t, memos)
		ctx := t.Context()
		a := memos.At(h.DB, "a")
		must(t, a.CastAll(ctx, []any{Boom{}, Exit{}, Wake{time.Hour}, Work{}, Line{"last"}}))
		answer := make(chan string, 1)
		go func() { answer <- read(t, a) }()
		synctest.Wait()
		if n := h.Drain(); n != 5+5+1+1+1+1+1 { // attempts, timer, lock, release, line, read
			t.Errorf("%d steps", n)
		}
		if got := <-answer; got != "worked last hot=0" {
			t.Error(got)
		}
		if s, err := a.Status(ctx); s.DeadLetters != 2 || s.Queued != 0 || err != nil {
			t.Errorf("%+v, %v", s, err)
		}
		<-time.After(2 * time.Hour)
		if n := h.Drain(); n != 1 {
			t.Errorf("%d messages were due", n)
		}
		if got, _ := a.State(ctx); fmt.Sprint(got.Lines) != "[worked last woken]" {
			t.Error(got.Lines)
		}
	})
}

// The ends of locked work of several servers, come at once, are each a step.
func TestTwoLockedWorksEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		gated := dserver.Define("gated", dserver.HandleLockedCall(
			func(*dserver.LockedContext, Memo, Work) (string, error) { <-gate; return "", nil },
			func(_ *dserver.Context, m *Memo, _ Work, found string) (string, error) {
				m.Lines = append(m.Lines, "done")
				return found, nil
			}))
		h := dservertest.ByHand(t, gated)
		for _, id := range []string{"a", "b"} {
			go func() { _, _ = dserver.Call(t.Context(), gated.At(h.DB, id), Work{}) }()
		}
		synctest.Wait()
		h.Step()
		h.Step()
		close(gate)
		synctest.Wait()
		if n := h.Drain(); n != 2 {
			t.Errorf("%d steps after the work", n)
		}
	})
}

package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// Desk is a state with everything a server can do.
type Desk struct {
	Log     []string
	Waiting []dserver.From[string]
}

type (
	Jot    struct{ Text string }
	Jots   struct{ dserver.Returns[[]string] }
	Remind struct {
		Name string
		In   time.Duration
	}
	Forget struct{ Name string }
	Ask    struct{ dserver.Returns[string] }
	Tell   struct{ Text string }
	Pay    struct {
		dserver.Returns[string]
		How string
	}
	Poke struct{ Text string }
	End  struct{}
)

var errBroke = &dserver.Error{Code: "broke", Text: "no money"}

// desks is made for a test, which says what locked work does.
func desks(work func(ctx *dserver.LockedContext, d Desk, m Pay) (string, error)) *dserver.Definition[Desk] {
	return dserver.Define("desk",
		dserver.HandleCast(func(_ *dserver.Context, d *Desk, m Jot) error {
			d.Log = append(d.Log, m.Text)
			return nil
		}),
		dserver.HandleCall(func(_ *dserver.Context, d *Desk, _ Jots) ([]string, error) { return d.Log, nil }),
		dserver.HandleCast(func(ctx *dserver.Context, _ *Desk, m Remind) error {
			ctx.SetTimer(m.Name, m.In, Jot{"timer " + m.Name})
			return nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, _ *Desk, m Forget) error {
			ctx.CancelTimer(m.Name)
			return nil
		}),
		dserver.HandleCall(func(ctx *dserver.Context, d *Desk, m Ask) (string, error) {
			d.Waiting = append(d.Waiting, dserver.ReplyLater(ctx, m))
			return "", nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, d *Desk, m Tell) error {
			for _, from := range d.Waiting {
				from.Reply(ctx, m.Text)
			}
			d.Waiting = nil
			return nil
		}),
		dserver.HandleLockedCall(work, func(_ *dserver.Context, d *Desk, m Pay, receipt string) (string, error) {
			d.Log = append(d.Log, "paid "+m.How)
			return receipt, nil
		}),
		dserver.HandleInfo(func(_ *dserver.Context, d *Desk, m Poke) error {
			d.Log = append(d.Log, "poked "+m.Text)
			return nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, d *Desk, _ End) error {
			d.Log = append(d.Log, "end")
			ctx.Reset()
			return nil
		}),
	)
}

func noWork(*dserver.LockedContext, Desk, Pay) (string, error) { return "", nil }

func expectLog(t *testing.T, d *dserver.DServer[Desk], want ...string) {
	t.Helper()
	got, err := dserver.Call(within(t), d, Jots{})
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("the log is %q, %v; want %q", got, err, want)
	}
}

func TestTimersFireOnceAndNotWhenCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		def := desks(noWork)
		start(t, db, def)
		desk := def.At(db, "a")
		ctx := context.Background()
		for _, m := range []any{
			Remind{"kept", time.Hour}, Remind{"moved", time.Minute}, Remind{"moved", 2 * time.Hour},
			Remind{"cancelled", time.Minute}, Forget{"cancelled"},
		} {
			if err := desk.Cast(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(59 * time.Minute) // virtual
		expectLog(t, desk)
		<-time.After(2 * time.Minute)
		expectLog(t, desk, "timer kept")
		<-time.After(2 * time.Hour)
		expectLog(t, desk, "timer kept", "timer moved")
		if n := rows(t, db, "s", "desk", "a", "t"); n != 0 {
			t.Errorf("%d rows of timers that have fired are left", n)
		}
	})
}

func TestLockedWorkRunsOutsideAndAppliesToTheStateOfThen(t *testing.T) {
	db := backendtest.NewModel()
	ctx := within(t)
	working, go1 := make(chan struct{}), make(chan struct{})
	def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
		close(working)
		<-go1
		return "receipt", nil
	})
	start(t, db, def)
	desk := def.At(db, "a")
	done := make(chan error, 1)
	go func() {
		reply, err := dserver.Call(ctx, desk, Pay{How: "card"})
		if err == nil && reply != "receipt" {
			err = errors.New(reply)
		}
		done <- err
	}()
	<-working
	if err := desk.Cast(ctx, Jot{"waits"}); err != nil {
		t.Fatal(err)
	}
	if err := desk.Cast(ctx, Jot{"urgent"}, dserver.Priority()); err != nil {
		t.Fatal(err)
	}
	if err := desk.Info(ctx, Poke{"me"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both came past the lock", func() bool {
		s, err := desk.State(ctx)
		return err == nil && len(s.Log) == 2
	})
	close(go1)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got, err := dserver.Call(ctx, desk, Jots{})
	if err != nil || len(got) != 4 || got[2] != "paid card" || got[3] != "waits" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestLockedWorkIsTriedAgainWithOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		var attempts atomic.Int32
		keys := map[string]bool{}
		def := desks(func(ctx *dserver.LockedContext, _ Desk, m Pay) (string, error) {
			keys[ctx.IdempotencyKey()] = true
			if n := attempts.Add(1); n < 3 {
				return "", errors.New("the gateway is away")
			}
			if m.How == "broke" {
				return "", errBroke
			}
			return "ok", nil
		})
		start(t, db, def)
		if reply, err := dserver.Call(context.Background(), def.At(db, "a"), Pay{How: "card"}); reply != "ok" || err != nil {
			t.Fatalf("%q, %v", reply, err)
		}
		if attempts.Load() != 3 || len(keys) != 1 {
			t.Fatalf("%d attempts with %d keys", attempts.Load(), len(keys))
		}
		if _, err := dserver.Call(context.Background(), def.At(db, "b"), Pay{How: "broke"}); !errors.Is(err, errBroke) {
			t.Fatal(err)
		}
	})
}

func TestReplyLaterAnswersFromALaterTurn(t *testing.T) {
	db := backendtest.NewModel()
	ctx := within(t)
	def := desks(noWork)
	start(t, db, def)
	desk := def.At(db, "a")
	answers := make(chan string, 2)
	for range 2 {
		go func() {
			reply, err := dserver.Call(ctx, desk, Ask{})
			answers <- fmt.Sprint(reply, err)
		}()
	}
	eventually(t, "both wait", func() bool {
		s, err := desk.State(ctx)
		return err == nil && len(s.Waiting) == 2
	})
	if err := desk.Cast(ctx, Tell{"now"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := <-answers; got != "now<nil>" {
			t.Fatal(got)
		}
	}
}

func TestOnceIsHandledOnceAndAnswersAgain(t *testing.T) {
	db := backendtest.NewModel()
	ctx := within(t)
	def := desks(noWork)
	start(t, db, def)
	desk := def.At(db, "a")
	for range 3 {
		if err := desk.Cast(ctx, Jot{"x"}, dserver.Once("k")); err != nil {
			t.Fatal(err)
		}
		if got, err := dserver.Call(ctx, desk, Jots{}, dserver.Once("q")); err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
	}
	expectLog(t, desk, "x")
}

func TestAfterComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		def := desks(noWork)
		start(t, db, def)
		desk := def.At(db, "a")
		if err := desk.Cast(context.Background(), Jot{"later"}, dserver.After(time.Hour)); err != nil {
			t.Fatal(err)
		}
		<-time.After(59 * time.Minute)
		expectLog(t, desk)
		<-time.After(2 * time.Minute)
		expectLog(t, desk, "later")
	})
}

func TestResetFromAHandlerForgetsEverything(t *testing.T) {
	db := backendtest.NewModel()
	ctx := within(t)
	def := desks(noWork)
	start(t, db, def)
	desk := def.At(db, "a")
	for _, m := range []any{Jot{"x"}, Remind{"t", time.Hour}, End{}} {
		if err := desk.Cast(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	expectLog(t, desk) // after the casts, which may have been queued
	if _, err := desk.State(ctx); !errors.Is(err, dserver.ErrNotFound) {
		t.Fatal(err)
	}
	if n := rows(t, db, "s", "desk", "a", "t"); n != 0 {
		t.Fatalf("the timer's record is left: %d rows", n)
	}
}

func TestDeadHoldersLockIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := backendtest.NewStore()
		first := store.Open()
		entered := make(chan string, 2)
		hang := make(chan struct{})
		def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			entered <- ctx.IdempotencyKey()
			if ctx.Attempt() == 1 {
				<-hang
			}
			return "ok", nil
		})
		go func() { _ = dserver.Run(context.Background(), first, def) }()
		second := store.Open()
		answer := make(chan string, 1)
		go func() {
			reply, err := dserver.Call(context.Background(), def.At(second, "a"), Pay{How: "x"})
			answer <- fmt.Sprint(reply, err)
		}()
		key := <-entered
		if err := first.Close(); err != nil { // the holder's process dies
			t.Fatal(err)
		}
		began := time.Now()
		start(t, second, def)
		if again := <-entered; again != key {
			t.Fatalf("the key was %s, then %s", key, again)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Fatalf("taken over after %v", took)
		}
		if got := <-answer; got != "ok<nil>" {
			t.Fatal(got)
		}
		close(hang)
	})
}

func TestOlderStateIsUpgraded(t *testing.T) {
	type Old struct{ Lines []string }
	type Add struct{ Text string }
	db := backendtest.NewModel()
	ctx := within(t)
	old := dserver.Define("paper", dserver.HandleCast(func(_ *dserver.Context, o *Old, m Add) error {
		o.Lines = append(o.Lines, m.Text)
		return nil
	}))
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(run, db, old) }()
	if err := old.At(db, "a").Cast(ctx, Add{"one"}); err != nil {
		t.Fatal(err)
	}
	expectState(t, old.At(db, "a"), "{[one]}")
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	type New struct{ Count int }
	fresh := dserver.Define("paper",
		dserver.HandleCast(func(_ *dserver.Context, n *New, _ Add) error {
			n.Count++
			return nil
		}),
		dserver.Upgrade(1, func(o Old, n *New) error {
			n.Count = len(o.Lines)
			return nil
		}))
	start(t, db, fresh)
	expectState(t, fresh.At(db, "a"), "{1}")
	if err := fresh.At(db, "a").Cast(ctx, Add{"two"}); err != nil {
		t.Fatal(err)
	}
	expectState(t, fresh.At(db, "a"), "{2}")
}

// expectState waits for a state.
func expectState[S any](t *testing.T, d *dserver.DServer[S], want string) {
	t.Helper()
	ctx, got := within(t), ""
	defer func() {
		if got != want {
			t.Logf("the state is %s", got)
		}
	}()
	eventually(t, "the state is "+want, func() bool {
		s, err := d.State(ctx)
		if got = fmt.Sprint(s); err != nil {
			got = err.Error()
		}
		return got == want
	})
}

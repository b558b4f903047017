package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
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

// expectStored is expectLog without a consumer.
func expectStored(t *testing.T, d *dserver.DServer[Desk], want ...string) {
	t.Helper()
	state, err := d.State(within(t))
	if err != nil || fmt.Sprint(state.Log) != fmt.Sprint(want) {
		t.Fatalf("the log is %q, %v; want %q", state.Log, err, want)
	}
}

func TestTimersFireOnceAndNotWhenCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		def := desks(noWork)
		start(t, db, def)
		synctest.Wait()
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
		if n := rows(t, db, "t"); n != 2 {
			t.Errorf("%d rows say when two timers are due", n)
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

// Each of three consumers lives until some more timers have fired, and then there is nobody for a while. What a timer or
// After sends comes once, not before its time; what was stopped never comes.
func TestTimersFireOnceWhicheverConsumerLives(t *testing.T) {
	const count, last = 30, time.Second
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		types := safes(easyToil)
		db, ctx := open(), within(t)
		s := types.At(db, "a")
		set := []any{
			Wind{"late", "moved", time.Hour}, Wind{"soon", "moved", last / 2}, // the last one counts
			Wind{"early", "put off", time.Millisecond}, Wind{"later", "put off", last},
			Wind{"never", "stopped", time.Millisecond}, Unwind{"stop", "stopped"},
		}
		want := []string{"late", "soon", "soon rang", "early", "later", "later rang", "never", "stop", "after"}
		for i := range count {
			id := fmt.Sprint(i)
			set = append(set, Wind{id, id, last / count * time.Duration(i)})
			want = append(want, id, id+" rang")
		}
		began := time.Now()
		must(t, s.CastAll(ctx, set))
		must(t, s.Cast(ctx, Stow{"after"}, dserver.After(last)))
		for _, enough := range []int{count/3 - 1, 2*count/3 - 1, count - 1} {
			stop := run(t, dserver.Consumer{}, open(), types)
			eventually(t, "some timers have fired", func() bool {
				state, err := s.State(ctx)
				return err == nil && state.Seen[fmt.Sprint(enough, " rang")] > 0
			})
			if enough < count-1 {
				stop()
				<-time.After(last / 10) // some more are due
			}
		}
		expectSeen(t, s, want...)
		if took := time.Since(began); took < last {
			t.Errorf("all have fired after %v", took)
		}
		eventually(t, "nothing is to come", func() bool {
			return rows(t, db, "s", "safe", "a", "t")+rows(t, db, "s", "safe", "a", "a") == 0 && statusOf(t, s).Queued == 0
		})
		expectSeen(t, s, want...)
	})
}

func TestLockedWorkRunsOutsideAndAppliesToTheStateOfThen(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		working, goOn := make(chan struct{}, 10), make(chan struct{})
		def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
			working <- struct{}{}
			<-goOn
			return "receipt", nil
		})
		for range 2 {
			start(t, open(), def)
		}
		desk := def.At(open(), "a")
		answer := make(chan string, 1)
		go func(db backend.Database) {
			reply, err := dserver.Call(ctx, def.At(db, "a"), Pay{How: "card"})
			answer <- fmt.Sprint(reply, err)
		}(open())
		<-working
		must(t, desk.Cast(ctx, Jot{"waits"}))
		must(t, desk.Cast(ctx, Jot{"urgent"}, dserver.Priority()))
		must(t, desk.Info(ctx, Poke{"me"}))
		eventually(t, "both came past the lock", func() bool {
			s, err := desk.State(ctx)
			return err == nil && len(s.Log) == 2
		})
		close(goOn)
		if got := <-answer; got != "receipt<nil>" {
			t.Fatalf("the caller got %s", got)
		}
		got, err := dserver.Call(ctx, desk, Jots{})
		if err != nil || len(got) != 4 || got[2] != "paid card" || got[3] != "waits" {
			t.Fatalf("%q, %v", got, err)
		}
	})
}

func TestLockedWorkIsTriedAgainWithOneKey(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		keys := make(chan string, 20)
		def := desks(func(ctx *dserver.LockedContext, _ Desk, m Pay) (string, error) {
			keys <- ctx.IdempotencyKey()
			if ctx.Attempt() < 3 {
				return "", errors.New("the gateway is away")
			}
			if m.How == "broke" {
				return "", errBroke
			}
			return "ok", nil
		})
		db := open()
		for range 2 {
			start(t, open(), def)
		}
		if reply, err := dserver.Call(ctx, def.At(db, "a"), Pay{How: "card"}); reply != "ok" || err != nil {
			t.Fatalf("%q, %v", reply, err)
		}
		if n := len(keys); n < 3 {
			t.Errorf("%d attempts", n)
		}
		for first := <-keys; len(keys) > 0; {
			if key := <-keys; key != first {
				t.Errorf("the key was %s, then %s", first, key)
			}
		}
		if _, err := dserver.Call(ctx, def.At(db, "b"), Pay{How: "broke"}); !errors.Is(err, errBroke) {
			t.Fatal(err)
		}
	})
}

func TestReplyLaterAnswersFromALaterTurn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		def := desks(noWork)
		db := open()
		stop := run(t, dserver.Consumer{}, db, def)
		answers := make(chan string, 4)
		for i := range cap(answers) {
			from := db // beside the consumer, and apart
			if i%2 == 0 {
				from = open()
			}
			go func() {
				reply, err := dserver.Call(ctx, def.At(from, "a"), Ask{})
				answers <- fmt.Sprint(reply, err)
			}()
		}
		eventually(t, "all wait", func() bool {
			s, err := def.At(db, "a").State(ctx)
			return err == nil && len(s.Waiting) == cap(answers)
		})
		stop() // another process answers
		other := open()
		start(t, other, def)
		must(t, def.At(other, "a").Cast(ctx, Tell{"now"}))
		for range cap(answers) {
			if got := <-answers; got != "now<nil>" {
				t.Fatal(got)
			}
		}
	})
}

func TestOnceIsHandledOnceAndAnswersAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		def := desks(noWork)
		desks := []*dserver.DServer[Desk]{def.At(open(), "a")} // of a process without a consumer, and of two with one
		for range 2 {
			db := open()
			start(t, db, def)
			desks = append(desks, def.At(db, "a"))
		}
		for _, desk := range desks {
			must(t, desk.Cast(ctx, Jot{"x"}, dserver.Once("k")))
			if got, err := dserver.Call(ctx, desk, Jots{}, dserver.Once("q")); err != nil || fmt.Sprint(got) != "[x]" {
				t.Fatal(got, err)
			}
			must(t, desk.Cast(ctx, Jot{"y"})) // the answer is the first one's
		}
		expectLog(t, desks[0], "x", "y", "y", "y")

		var all sync.WaitGroup // at once
		for i := range 9 {
			all.Go(func() {
				if err := desks[i%len(desks)].Call(ctx, Jot{"z"}, nil, dserver.Once("z")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		expectLog(t, desks[0], "x", "y", "y", "y", "z")
	})
}

// What is due at once is queued, however much it is: more than one transaction takes.
func TestLargeMessagesThatAreDueAtOnceAreQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		types := journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Load) error {
			j.write(m.Line)
			return nil
		}))
		db := newStore(t, types).Open()
		s, ctx := types.At(db, "a"), context.Background()
		for range 6 {
			must(t, s.Cast(ctx, Load{"due", make([]byte, 3_000_000)}, dserver.After(time.Minute)))
		}
		run(t, dserver.Consumer{}, db, types)
		<-time.After(70 * time.Second)
		if n := len(lines(t, s)); n != 6 {
			t.Errorf("%d messages of 6 came", n)
		}
	})
}

func TestAfterComesLater(t *testing.T) {
	t.Parallel()
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
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		def := desks(noWork)
		for range 2 {
			start(t, open(), def)
		}
		desk := def.At(db, "a")
		for _, m := range []any{Jot{"x"}, Remind{"t", time.Hour}, End{}} {
			must(t, desk.Cast(ctx, m))
		}
		expectLog(t, desk) // after the casts, which may have been queued
		if _, err := desk.State(ctx); !errors.Is(err, dserver.ErrNotFound) {
			t.Fatal(err)
		}
		if n := rows(t, db, "s", "desk", "a", "t"); n != 0 {
			t.Fatalf("the timer's record is left: %d rows", n)
		}
	})
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
	type New struct{ Count int }
	type Add struct{ Text string }
	old := dserver.Define("paper", dserver.HandleCast(func(_ *dserver.Context, o *Old, m Add) error {
		o.Lines = append(o.Lines, m.Text)
		return nil
	}))
	fresh := dserver.Define("paper",
		dserver.HandleCast(func(_ *dserver.Context, n *New, _ Add) error {
			n.Count++
			return nil
		}),
		dserver.Upgrade(1, func(o Old, n *New) error {
			n.Count = len(o.Lines)
			return nil
		}))
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		stop := run(t, dserver.Consumer{}, db, old)
		must(t, old.At(db, "a").Cast(ctx, Add{"one"}))
		expectState(t, old.At(db, "a"), "{[one]}")
		stop()
		for range 2 {
			start(t, open(), fresh)
		}
		expectState(t, fresh.At(db, "a"), "{1}")
		must(t, fresh.At(db, "a").Cast(ctx, Add{"two"}))
		expectState(t, fresh.At(db, "a"), "{2}")
	})
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

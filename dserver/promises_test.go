package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Many consumers, which come and go: each timer fires once, at or after its time, and late ones when somebody comes.
func TestTimersFireOnceOverConsumersThatComeAndGo(t *testing.T) {
	random := seeded(t)
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		s, ctx := safe.At(store.Open(), "a"), context.Background()
		run(t, dserver.Consumer{}, store.Open(), types)()
		var want []string
		var set []any
		for i := range 60 {
			id := fmt.Sprint("t", i)
			set = append(set, Wind{id, id, time.Duration(random.IntN(10_000)) * time.Millisecond})
			want = append(want, id, id+" rang")
		}
		set = append(set, Wind{"moved 1", "moved", 5 * time.Second}, Wind{"moved 2", "moved", time.Hour}, Wind{"stopped", "stopped", 5 * time.Second})
		must(t, s.CastAll(ctx, set))
		until, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for until.Err() == nil {
					alive, stop := context.WithTimeout(until, 300*time.Millisecond)
					if err := dserver.Run(alive, store.Open(), types); err != nil {
						t.Errorf("Run: %v", err)
					}
					stop()
				}
			})
		}
		<-time.After(time.Second)
		must(t, s.Cast(ctx, Unwind{"stops", "stopped"}))
		wg.Wait()
		expectSeen(t, s, append(want, "moved 1", "moved 2", "stopped", "stops")...)
		<-time.After(3 * time.Hour) // nobody is there when it is due
		run(t, dserver.Consumer{}, store.Open(), types)
		<-time.After(time.Minute)
		expectSeen(t, s, append(want, "moved 1", "moved 2", "moved 2 rang", "stopped", "stops")...)
	})
}

// A timer whose message is queued already, behind one that backs off, is stopped all the same, and so is one that is
// set anew.
func TestTimerIsStoppedThoughItsMessageIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		s, ctx := safe.At(store.Open(), "a"), context.Background()
		run(t, dserver.Consumer{}, store.Open(), types)
		must(t, s.CastAll(ctx, []any{Wind{"stopped", "stopped", time.Second}, Wind{"moved", "moved", time.Second}, Strange{1}}))
		<-time.After(5 * time.Second) // the messages wait behind the strange one
		if n := statusOf(t, s).Queued; n != 3 {
			t.Fatalf("%d messages wait", n)
		}
		must(t, s.CastAll(ctx, []any{Unwind{"stops", "stopped"}, Wind{"moves", "moved", time.Hour}}, dserver.Priority()))
		<-time.After(30 * time.Minute)
		expectSeen(t, s, "stopped", "moved", "stops", "moves")
		<-time.After(time.Hour)
		expectSeen(t, s, "stopped", "moved", "stops", "moves", "moves rang")
	})
}

// Two sends of one turn with one key, or of one batch, arrive once.
func TestKeyTwiceInATurnIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		s, ctx := safe.At(store.Open(), "a"), context.Background()
		must(t, s.CastAll(ctx, []any{
			Remit{ID: "1", To: "b", Key: "k"}, Remit{ID: "2", To: "b", Key: "k"}, Remit{ID: "3", To: "c", Key: "k"}, Remit{ID: "4", To: "b", Key: "other"},
		}))
		run(t, dserver.Consumer{}, store.Open(), types)
		<-time.After(time.Minute)
		expectSeen(t, safe.At(store.Open(), "b"), "1 passed", "4 passed")
		expectSeen(t, safe.At(store.Open(), "c"), "3 passed")
	})
}

// A key is forgotten after a day, and then it is new.
func TestKeyIsKeptForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		db := store.Open()
		run(t, dserver.Consumer{}, db, types)
		s, ctx := safe.At(db, "a"), context.Background()
		must(t, s.Cast(ctx, Stow{"1"}, dserver.Once("k")))
		<-time.After(23 * time.Hour)
		must(t, s.Cast(ctx, Stow{"2"}, dserver.Once("k")))
		<-time.After(2 * time.Hour)
		must(t, s.Cast(ctx, Stow{"3"}, dserver.Once("k")))
		<-time.After(time.Minute)
		expectSeen(t, s, "1", "3")
	})
}

// A From answers once: later answers, and those to callers that have gone, hurt nobody.
func TestAnswersTooManyAndTooLateAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := desks(noWork).With(dserver.HandleCast(func(ctx *dserver.Context, d *Desk, m Mark) error {
			for _, from := range d.Waiting { // without forgetting them
				from.Reply(ctx, m.Line)
				from.Reply(ctx, m.Line+" again")
			}
			return nil
		}))
		store := newStore(t, types)
		db := store.Open()
		run(t, dserver.Consumer{}, db, types)
		for _, from := range []backend.Database{db, store.Open()} {
			d := types.At(from, "a")
			gone, cancel := context.WithTimeout(context.Background(), time.Second)
			if _, err := dserver.Call(gone, d, Ask{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
			answer := make(chan string, 1)
			go func() { got, err := dserver.Call(context.Background(), d, Ask{}); answer <- fmt.Sprint(got, err) }()
			<-time.After(time.Second)
			must(t, types.At(store.Open(), "a").Cast(t.Context(), Mark{"first"}))
			must(t, d.Cast(t.Context(), Mark{"second"}))
			if got := <-answer; got != "first<nil>" {
				t.Errorf("answered %s", got)
			}
		}
	})
}

// Servers that send to each other in a circle, all at once, wait for nobody.
func TestCyclesOfSendsAreNoDeadlock(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		type Round struct{ Left int }
		ring := dserver.Define[Counter]("ring")
		types := ring.With(dserver.HandleCast(func(ctx *dserver.Context, c *Counter, m Round) error {
			c.Count++
			if m.Left > 0 {
				next := map[string]string{"a": "b", "b": "c", "c": "a"}[ctx.Self().ID]
				ctx.Cast(ring.Ref(next), Round{m.Left - 1})
			}
			return nil
		}))
		db := open()
		start(t, db, types)
		start(t, open(), types)
		for _, id := range []string{"a", "b", "c"} {
			must(t, ring.At(db, id).Cast(within(t), Round{29}))
		}
		eventually(t, "all rounds are made", func() bool {
			total := int64(0)
			for _, id := range []string{"a", "b", "c"} {
				s, _ := ring.At(db, id).State(t.Context())
				total += s.Count
			}
			return total == 90
		})
	})
}

// Messages, replies and values of 4 MiB pass; beyond it whoever made them gets an error that names the limit.
func TestLargeThingsPassUpToTheLimitAndNameIt(t *testing.T) {
	type Album struct{ Picture []byte }
	type Show struct{ dserver.Returns[[]byte] }
	type Paint struct {
		dserver.Returns[int]
		Picture []byte
		Times   int
	}
	types := dserver.Define("album",
		dserver.HandleCall(func(_ *dserver.Context, a *Album, m Paint) (int, error) {
			a.Picture = bytes.Repeat(m.Picture, max(1, m.Times))
			return len(a.Picture), nil
		}),
		dserver.HandleCall(func(_ *dserver.Context, a *Album, _ Show) ([]byte, error) { return a.Picture, nil }))
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		start(t, db, types)
		const mib = 1 << 20
		for i, from := range []backend.Database{db, open()} {
			s := types.At(from, fmt.Sprint(i))
			picture := bytes.Repeat([]byte{byte(i), 2, 3, 4}, mib-100) // 4 MiB with its envelope
			if n, err := dserver.Call(within(t), s, Paint{Picture: picture}); n != len(picture) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			if got, err := dserver.Call(within(t), s, Show{}); !bytes.Equal(got, picture) || err != nil {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			_, err := dserver.Call(within(t), s, Paint{Picture: append(picture, make([]byte, 1000)...)})
			if !errors.Is(err, backend.ErrTooLarge) || !strings.Contains(err.Error(), "4194304") {
				t.Errorf("a message over the limit: %v", err)
			}
			var e *dserver.Error
			_, err = dserver.Call(within(t), s, Paint{Picture: picture, Times: 2})
			if !errors.As(err, &e) || !strings.Contains(err.Error(), "at most") {
				t.Errorf("a value over the limit: %v", err)
			}
			if got, err := dserver.Call(within(t), s, Show{}); !bytes.Equal(got, picture) || err != nil {
				t.Errorf("after what was refused: %d bytes, %v", len(got), err)
			}
		}
	})
}

// An older consumer leaves newer state to those that know it, says so, and serves the rest.
func TestNewerStateIsLeftAloneByOlderConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type Old struct{ Words []string }
		type New struct{ Text string }
		type Add struct{ Text string }
		old := dserver.Define("text", dserver.HandleCast(func(_ *dserver.Context, o *Old, m Add) error {
			o.Words = append(o.Words, m.Text)
			return nil
		}))
		fresh := dserver.Define("text",
			dserver.HandleCast(func(_ *dserver.Context, n *New, m Add) error { n.Text += m.Text; return nil }),
			dserver.Upgrade(1, func(o Old, n *New) error { n.Text = strings.Join(o.Words, ""); return nil }))
		store := newStore(t)
		var said bytes.Buffer
		db, ctx := store.Open(), context.Background()
		stopOld := run(t, dserver.Consumer{Logger: zerolog.New(zerolog.SyncWriter(&said))}, db, old)
		must(t, old.At(db, "a").Cast(ctx, Add{"1"}))
		stop := run(t, dserver.Consumer{}, store.Open(), fresh)
		newer := store.Open()
		eventually(t, "the newer consumer has had it", func() bool {
			must(t, fresh.At(newer, "a").Cast(ctx, Add{"+"}))
			<-time.After(time.Second)
			s, err := fresh.At(newer, "a").State(ctx)
			_, oldErr := old.At(newer, "a").State(ctx)
			return err == nil && s.Text != "" && oldErr != nil
		})
		stop()
		before, err := fresh.At(newer, "a").State(ctx)
		must(t, err)
		must(t, old.At(db, "a").Cast(ctx, Add{"waits"}))
		must(t, old.At(db, "b").Cast(ctx, Add{"old"}))
		<-time.After(time.Hour)
		if s, err := fresh.At(newer, "a").State(ctx); err != nil || s != before || statusOf(t, fresh.At(newer, "a")).Queued != 1 {
			t.Errorf("the older consumer touched it: %v, %v", s, err)
		}
		if s, err := old.At(db, "b").State(ctx); err != nil || len(s.Words) != 1 {
			t.Errorf("another server: %v, %v", s, err)
		}
		stopOld()
		if !strings.Contains(said.String(), "newer version") {
			t.Errorf("it said %s", &said)
		}
		run(t, dserver.Consumer{}, store.Open(), fresh)
		expectState(t, fresh.At(newer, "a"), fmt.Sprintf("{%swaits}", before.Text))
	})
}

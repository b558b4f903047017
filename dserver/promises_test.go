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

	"github.com/fxamacker/cbor/v2"
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

// A timer whose message is queued already, behind locked work, is stopped all the same, and so is one that is set anew.
func TestTimerIsStoppedThoughItsMessageIsQueued(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		w := newWorkshop()
		s, ctx := safe.At(open(), "a"), within(t)
		run(t, dserver.Consumer{}, open(), w.types)
		answer := toil(s, w)
		must(t, s.CastAll(ctx, []any{Wind{"stopped", "stopped", 0}, Wind{"moved", "moved", 0}}, dserver.Priority()))
		expectSeen(t, s, "stopped", "moved")
		eventually(t, "the timers' messages wait", func() bool { return statusOf(t, s).Queued == 2 })
		must(t, s.CastAll(ctx, []any{Unwind{"stops", "stopped"}, Wind{"moves", "moved", 0}}, dserver.Priority()))
		expectSeen(t, s, "stopped", "moved", "stops", "moves")
		eventually(t, "that of the one set anew waits behind them", func() bool { return statusOf(t, s).Queued == 3 })
		w.find <- "found"
		if got := <-answer; got != "found<nil>" {
			t.Errorf("the caller got %s", got)
		}
		must(t, s.Call(ctx, Stow{"after"}, nil))
		expectSeen(t, s, "toil", "stopped", "moved", "stops", "moves", "moves rang", "after")
	})
}

// Two sends of one turn with one key, or of one batch, arrive once.
func TestKeyTwiceInATurnIsSentOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		types := safes(easyToil)
		db, ctx := open(), within(t)
		s := safe.At(db, "a")
		must(t, s.CastAll(ctx, []any{
			Remit{ID: "1", To: "b", Key: "k"}, Remit{ID: "2", To: "b", Key: "k"}, Remit{ID: "3", To: "c", Key: "k"}, Remit{ID: "4", To: "b", Key: "other"},
		}))
		for range 2 {
			start(t, open(), types)
		}
		expectSeen(t, s, "1", "2", "3", "4")
		for id, want := range map[string][]string{"b": {"k passed", "other passed"}, "c": {"k passed"}} {
			must(t, safe.At(db, id).Call(ctx, Stow{"after"}, nil)) // and so after all that the turn sent
			expectSeen(t, safe.At(db, id), append(want, "after")...)
		}
	})
}

// A key is forgotten after a day, and then it is new.
func TestKeyIsKeptForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		db := store.Open()
		s, ctx := safe.At(db, "a"), context.Background()
		for _, c := range []struct {
			later time.Duration
			seen  int
		}{{time.Minute, 1}, {23 * time.Hour, 1}, {2 * time.Hour, 2}} {
			pass(t, c.later, db, types)
			must(t, s.Cast(ctx, Stow{"x"}, dserver.Once("k")))
			pass(t, time.Minute, db, types)
			if state, err := s.State(ctx); err != nil || state.Seen["x"] != c.seen {
				t.Errorf("it was handled %d times, not %d: %v", state.Seen["x"], c.seen, err)
			}
		}
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
	t.Parallel()
	type Album struct{ Picture []byte }
	type Show struct {
		dserver.Returns[[]byte]
		More int
	}
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
		dserver.HandleCall(func(_ *dserver.Context, a *Album, m Show) ([]byte, error) {
			return append(bytes.Clone(a.Picture), make([]byte, m.More)...), nil
		}))
	const mib4 = 4 << 20
	envelope, err := cbor.Marshal(Paint{Picture: make([]byte, mib4)})
	must(t, err)
	picture := bytes.Repeat([]byte{1, 2, 3, 4, 5}, mib4)[:mib4-(len(envelope)-mib4)] // what it is sent in has 4 MiB
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		start(t, db, types)
		for i, from := range []backend.Database{db, open()} {
			s := types.At(from, fmt.Sprint(i))
			if n, err := dserver.Call(within(t), s, Paint{Picture: picture}); n != len(picture) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			if got, err := dserver.Call(within(t), s, Show{}); !bytes.Equal(got, picture) || err != nil {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			_, err := dserver.Call(within(t), s, Paint{Picture: append(bytes.Clone(picture), 0)})
			if !errors.Is(err, backend.ErrTooLarge) || !strings.Contains(err.Error(), "4194304") {
				t.Errorf("a message of a byte over the limit: %v", err)
			}
			if i == 0 {
				continue
			}
			var e *dserver.Error
			if _, err = dserver.Call(within(t), s, Paint{Picture: picture, Times: 2}); !errors.As(err, &e) || !strings.Contains(err.Error(), "at most") {
				t.Errorf("a value over the limit: %v", err)
			}
			if _, err = dserver.Call(within(t), s, Show{More: len(picture)}); !errors.As(err, &e) || !strings.Contains(err.Error(), "at most") {
				t.Errorf("a reply over the limit: %v", err)
			}
			if got, err := dserver.Call(within(t), s, Show{}); !bytes.Equal(got, picture) || err != nil {
				t.Errorf("after what was refused: %d bytes, %v", len(got), err)
			}
		}
	})
}

// An older consumer leaves newer state to those that know it, says so, and serves the rest.
func TestNewerStateIsLeftAloneByOlderConsumers(t *testing.T) {
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
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		said := make(complaints, 1000)
		db, newer, ctx := open(), open(), within(t)
		must(t, old.At(db, "a").Cast(ctx, Add{"1"}))
		stopOld := run(t, dserver.Consumer{}, db, old)
		expectState(t, old.At(db, "a"), "{[1]}")
		stopOld()
		stop := run(t, dserver.Consumer{}, newer, fresh)
		must(t, fresh.At(newer, "a").Cast(ctx, Add{"2"}))
		expectState(t, fresh.At(newer, "a"), "{12}")
		stop()

		must(t, old.At(db, "a").Cast(ctx, Add{"waits"}))
		run(t, dserver.Consumer{Logger: zerolog.New(said)}, db, old)
		eventually(t, "it says so", func() bool { return said.have("newer version") })
		must(t, old.At(db, "b").Cast(ctx, Add{"old"}))
		expectState(t, old.At(db, "b"), "{[old]}") // another server
		expectState(t, fresh.At(newer, "a"), "{12}")
		if n := statusOf(t, fresh.At(newer, "a")).Queued; n != 1 {
			t.Errorf("%d messages wait for a newer consumer", n)
		}
		start(t, newer, fresh) // beside the older one
		expectState(t, fresh.At(newer, "a"), "{12waits}")
	})
}

// complaints is what a consumer logs. What does not fit is lost.
type complaints chan string

// have reports whether something is in what was logged since it was asked last.
func (c complaints) have(text string) (found bool) {
	for len(c) > 0 {
		found = strings.Contains(<-c, text) || found
	}
	return found
}

func (c complaints) Write(line []byte) (int, error) {
	select {
	case c <- string(line):
	default:
	}
	return len(line), nil
}

package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// strangers is journals that know one message more.
var strangers = journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Strange) error {
	j.write(fmt.Sprint("strange ", m.N))
	return nil
}))

// One that has the handler runs beside one that has not: no message waits, and none is set aside, whoever meets it first.
func TestMessagesAreLeftToWhoHasTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, strangers)
		run(t, dserver.Consumer{}, store.Open(), journals)
		run(t, dserver.Consumer{}, store.Open(), strangers)
		<-time.After(time.Minute) // in which each has told what it handles
		mixed(t, store.Open(), 15*time.Second)
	})
}

// The same while both have just been started.
func TestMessagesAreLeftToWhoHasTheHandlerFromTheStart(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		run(t, dserver.Consumer{}, open(), journals)
		run(t, dserver.Consumer{}, open(), strangers)
		mixed(t, open(), patience)
	})
}

// mixed sends messages that one of two consumers handles, and those that both do, and expects all of them to be handled
// in time.
func mixed(t *testing.T, db backend.Database, limit time.Duration) {
	t.Helper()
	const servers, messages = 10, 300
	ctx := context.Background()
	began := time.Now()
	for i := range messages {
		s := journal.At(db, fmt.Sprint(i%servers))
		if i%3 == 0 {
			must(t, s.Cast(ctx, Strange{i}))
		} else {
			must(t, s.Cast(ctx, Write{fmt.Sprint(i)}))
		}
	}
	for i := range servers {
		s := journal.At(db, fmt.Sprint(i))
		eventually(t, "all are handled", func() bool { return statusOf(t, s).Queued == 0 })
		state, err := s.State(ctx)
		if len(state.Lines) != messages/servers || err != nil {
			t.Errorf("%v has %d lines, %v", s.Ref(), len(state.Lines), err)
		}
		if dead := letters(t, s); len(dead) > 0 {
			t.Errorf("%v has %d dead letters: %+v", s.Ref(), len(dead), dead[0])
		}
	}
	if took := time.Since(began); took > limit {
		t.Errorf("it took %v", took)
	}
}

// While nobody has the handler for long, a message is set aside, which says so; or waits for ever, if that is the setting.
func TestAMessageThatNobodyHandlesIsTroubleThatIsShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		settings dserver.Settings[Journal]
		after    time.Duration // 0: never
	}{
		{"2 minutes", dserver.Settings[Journal]{}, 2 * time.Minute},
		{"10 minutes", dserver.Settings[Journal]{NoHandlerWait: 10 * time.Minute}, 10 * time.Minute},
		{"halts", dserver.Settings[Journal]{Halt: true}, 2 * time.Minute},
		{"for ever", dserver.Settings[Journal]{NoHandlerWait: -1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				types := journals.With(c.settings)
				store := newStore(t, types)
				said := make(complaints, 1000)
				run(t, dserver.Consumer{Logger: zerolog.New(said)}, store.Open(), types)
				s := journal.At(store.Open(), "a")
				must(t, s.CastAll(t.Context(), []any{Write{"before"}, Strange{1}, Write{"after"}}))
				wait := c.after
				if wait == 0 {
					wait = time.Hour
				}
				<-time.After(wait - 10*time.Second)
				if status := statusOf(t, s); status.Unhandled != "Strange" || status.Queued != 2 || status.Attempts != 0 || status.Halted {
					t.Errorf("while it waits: %+v", status)
				}
				<-time.After(30 * time.Second)
				status, dead := statusOf(t, s), letters(t, s)
				switch {
				case c.after == 0:
					if status.Queued != 2 || len(dead) > 0 {
						t.Errorf("%+v, %+v", status, dead)
					}
				case c.settings.Halt:
					if !status.Halted || status.Queued != 2 {
						t.Errorf("%+v", status)
					}
				default:
					if len(dead) != 1 || !strings.Contains(dead[0].Err.Text, "no handler for Strange in any living consumer since") || status.Unhandled != "" {
						t.Errorf("%+v, %+v", status, dead)
					}
				}
				lines := 0
				for len(said) > 0 {
					if strings.Contains(<-said, "no living consumer") {
						lines++
					}
				}
				if c.after > 0 && lines != 1 {
					t.Errorf("it was logged %d times", lines)
				}
			})
		})
	}
}

// A consumer with the handler that was killed counts as living until its record has stood still: the time of the others
// begins then. One that comes takes the message at once.
func TestTheHandlerOfTheDeadIsWaitedForAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, strangers)
		run(t, dserver.Consumer{}, store.Open(), journals)
		mortal := store.Open()
		gone := make(chan error, 1)
		go func() { gone <- dserver.Run(context.Background(), mortal, strangers) }()
		<-time.After(time.Minute)
		must(t, mortal.Close())
		if err := <-gone; !errors.Is(err, backend.ErrClosed) {
			t.Fatal(err)
		}
		s := journal.At(store.Open(), "a")
		must(t, s.Cast(t.Context(), Strange{1}))
		<-time.After(2*time.Minute + 10*time.Second)
		if status := statusOf(t, s); status.Queued != 1 || status.DeadLetters != 0 {
			t.Errorf("two minutes after the death: %+v", status)
		}
		began := time.Now()
		run(t, dserver.Consumer{}, store.Open(), strangers)
		for statusOf(t, s).Queued > 0 {
			<-time.After(10 * time.Millisecond)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("one that has the handler took it after %v", took)
		}
		expectLines(t, lines(t, s), "strange 1")
	})
}

// A call in the process of a consumer that has no handler goes to who has one.
func TestALocalCallGoesToWhoHasTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, strangers)
		db := store.Open()
		run(t, dserver.Consumer{}, db, journals)
		run(t, dserver.Consumer{}, store.Open(), strangers)
		synctest.Wait()
		must(t, journal.At(db, "a").Call(t.Context(), Strange{1}, nil))
		must(t, journal.At(db, "a").Cast(t.Context(), Strange{2}))
		expectLines(t, lines(t, journal.At(db, "a")), "strange 1", "strange 2")
	})
}

// What a consumer handles is told as long as it runs: not when it has ended, and again when it was taken for dead.
func TestAbilitiesAreThoseOfConsumersThatRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		count := func() (n int) {
			for key := range keysBelow(t, store.Open(), "p") {
				elements, err := key.Elements()
				must(t, err)
				if len(elements) > 2 && elements[2] == "s" {
					n++
				}
			}
			return n
		}
		stop := run(t, dserver.Consumer{}, store.Open(), journals, counters)
		synctest.Wait()
		if n := count(); n != 2 {
			t.Errorf("%d abilities of two types", n)
		}
		must(t, store.Open().Transact(t.Context(), func(tx backend.Tx) error { // as a sweep does
			tx.Clear(backend.NewKey("p").Below())
			return nil
		}))
		<-time.After(time.Minute)
		if n := count(); n != 2 {
			t.Errorf("%d abilities after the process was taken for dead", n)
		}
		stop()
		if n := count(); n != 0 {
			t.Errorf("%d abilities are left", n)
		}
	})
}

// keysBelow is the keys of a section.
func keysBelow(t *testing.T, db backend.Database, section string) func(func(backend.Key) bool) {
	t.Helper()
	var pairs []backend.KeyValue
	must(t, db.Read(context.Background(), func(tx backend.ReadTx) (err error) {
		pairs, err = tx.GetRange(backend.NewKey(section).Tree(), backend.RangeOptions{}).Get()
		return err
	}))
	return func(yield func(backend.Key) bool) {
		for _, pair := range pairs {
			if !yield(pair.Key) {
				return
			}
		}
	}
}

// An older consumer finds the claims of a newer one that was killed, on a server that only newer ones can handle: as the
// state is newer, or the message. It neither claims nor counts, and sets nothing aside.
func TestOlderConsumersLeaveAloneWhereANewerOneWasKilled(t *testing.T) {
	type Old struct{ Words []string }
	type New struct{ Text string }
	type Add struct{ Text string }
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	old := dserver.Define("text", dserver.HandleCast(func(_ *dserver.Context, o *Old, m Add) error {
		o.Words = append(o.Words, m.Text)
		return nil
	}))
	fresh := dserver.Define("text",
		dserver.HandleCast(func(ctx *dserver.Context, n *New, m Add) error {
			if m.Text == "hang" {
				<-ctx.Context().Done()
			}
			n.Text += m.Text
			return nil
		}),
		dserver.Upgrade(1, func(o Old, n *New) error { n.Text = strings.Join(o.Words, ""); return nil }))
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, fresh)
		s := fresh.At(store.Open(), "a")
		mortal, gone := store.Open(), make(chan error, 1)
		go func() { gone <- dserver.Run(context.Background(), mortal, fresh) }()
		must(t, s.Cast(t.Context(), Add{"1"}))
		<-time.After(time.Second)
		must(t, s.CastAll(t.Context(), []any{Add{"hang"}, Add{"2"}}))
		<-time.After(time.Second)
		go mortal.Close()
		<-gone
		said := make(complaints, 10_000)
		stop := run(t, dserver.Consumer{Logger: zerolog.New(said)}, store.Open(), old)
		<-time.After(20 * time.Minute)
		if status := statusOf(t, s); status.Queued != 2 || status.Attempts != 0 || status.DeadLetters != 0 || status.Unhandled != "Add" {
			t.Errorf("%+v", status)
		}
		lines := 0
		for len(said) > 0 {
			if strings.Contains(<-said, "newer version") {
				lines++
			}
		}
		if lines != 1 {
			t.Errorf("it was logged %d times", lines)
		}
		stop()
	})
}

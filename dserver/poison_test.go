package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

type (
	// Poison is called or cast; what it does to its handler is How.
	Poison struct{ How string }

	// Touchy is a state whose encoding panics when it is told to.
	Touchy struct {
		Count int
		Fuse  Fuse
	}
	Fuse struct{ Text string }
)

func (f Fuse) MarshalBinary() ([]byte, error) {
	if f.Text == "encode" {
		panic("the fuse blew")
	}
	return []byte(f.Text), nil
}

func (f *Fuse) UnmarshalBinary(b []byte) error {
	if f.Text = string(b); f.Text == "decode" {
		panic("the fuse cannot be read")
	}
	return nil
}

var touchy = dserver.Define("touchy",
	dserver.HandleCast(func(ctx *dserver.Context, s *Touchy, m Increment) error {
		s.Count += int(m.By)
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, s *Touchy, _ Value) (int64, error) { return int64(s.Count), nil }),
	dserver.HandleCast(func(ctx *dserver.Context, s *Touchy, m Poison) error {
		s.Count += 1000
		switch m.How {
		case "panic":
			panic("poison")
		case "goexit":
			runtime.Goexit()
		case "typed nil":
			var none *dserver.Error
			return none
		case "error that panics":
			return explosive{}
		case "encode":
			s.Fuse.Text = "encode"
		case "decode":
			s.Fuse.Text = "decode"
		case "overrun":
			<-ctx.Context().Done()
			<-time.After(time.Second)
		case "nil action":
			ctx.AfterCommit(nil)
		case "action that ends its goroutine":
			ctx.AfterCommit(runtime.Goexit)
		}
		return nil
	}),
)

type explosive struct{}

func (explosive) Error() string { panic("the error's text panics") }

// A message that breaks, in whatever way, is rolled back, tried again and set aside. The messages beside it, before and
// after it, are handled once, and the process lives.
func TestTrap12PoisonIsSetAsideAndTheQueueGoesOn(t *testing.T) {
	for _, how := range []string{"panic", "goexit", "typed nil", "error that panics", "encode", "overrun"} {
		for _, inline := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/inline=%v", how, inline), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { poison(t, how, inline) })
			})
		}
	}
}

func poison(t *testing.T, how string, inline bool) {
	store := newStore(t, touchy)
	db := store.Open()
	sender := touchy.At(db, "a")
	if !inline {
		sender = touchy.At(store.Open(), "a")
	}
	run(t, dserver.Consumer{}, db, touchy)
	synctest.Wait()
	limit := 30 * time.Second
	if how == "overrun" {
		limit = 3 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	must(t, sender.Cast(ctx, Increment{1}))
	must(t, sender.Cast(ctx, Poison{how}))
	must(t, sender.Cast(ctx, Increment{2}))
	must(t, sender.CastAll(ctx, []any{Increment{4}, Poison{how}, Increment{8}}))
	n, err := dserver.Call(ctx, sender, Value{})
	if n != 15 || err != nil {
		t.Errorf("counted %d, %v", n, err)
	}
	if n := deadLetters(t, touchy.At(db, "a")); n != 2 {
		t.Errorf("%d dead letters", n)
	}
	<-time.After(time.Minute) // the handlers that overran end
}

// deadLetters counts what was set aside.
func deadLetters[S any](t testing.TB, s *dserver.DServer[S]) (n int) {
	t.Helper()
	for _, err := range s.DeadLetters(context.Background()) {
		must(t, err)
		n++
	}
	return n
}

// The attempts of two consumers are those of one message. When there is none left it is set aside, its caller is told and
// the queue goes on; mended it is handled after all.
func TestPoisonIsSetAsideByWhicheverConsumerIsThere(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		var tries [2]atomic.Int32
		consumers := make([]*dserver.Definition[Safe], len(tries))
		for i := range consumers {
			consumers[i] = safes(easyToil).With(
				dserver.Settings[Safe]{MaxAttempts: 3},
				dserver.HandleCast(func(_ *dserver.Context, s *Safe, m Poison) error {
					tries[i].Add(1)
					_ = s.see("poisoned")
					panic(m.How)
				}))
		}
		db, ctx := open(), within(t)
		s := consumers[0].At(db, "a")
		must(t, s.Cast(ctx, Stow{"before"}))
		caller := make(chan error, 1)
		go func(db backend.Database) { caller <- consumers[0].At(db, "a").Call(ctx, Poison{"called"}, nil) }(open())
		eventually(t, "the call is queued", func() bool { return statusOf(t, s).Queued == 2 })
		must(t, s.CastAll(ctx, []any{Poison{"cast"}, Stow{"after"}}))

		stop := run(t, dserver.Consumer{}, open(), consumers[0])
		eventually(t, "an attempt is counted", func() bool { return statusOf(t, s).Attempts > 0 })
		stop()
		run(t, dserver.Consumer{}, open(), consumers[1])
		if err := <-caller; !errors.Is(err, dserver.ErrFault) {
			t.Errorf("the caller got %v", err)
		}
		expectSeen(t, s, "before", "after")
		found := letters(t, s)
		if len(found) != 2 || found[0].Attempts != 3 || found[1].Attempts != 3 {
			t.Fatalf("set aside: %+v", found)
		}
		// The second made at most two of the one, then a batch failed, and three of the other.
		if first, second := tries[0].Load(), tries[1].Load(); first == 0 || second < 3 || second > 6 {
			t.Errorf("the consumers tried %d and %d times", first, second)
		}
		must(t, s.Discard(ctx, found[0]))
		body, err := cbor.Marshal(Stow{"mended"})
		must(t, err)
		found[1].Message = dserver.Message{Name: "Stow", Body: body}
		must(t, s.Retry(ctx, found[1]))
		expectSeen(t, s, "before", "after", "mended")
		if status := statusOf(t, s); status.DeadLetters != 0 || status.Attempts != 0 {
			t.Errorf("%+v", status)
		}
	})
}

func TestPoisonInlineCallIsAnsweredAfterOneAttempt(t *testing.T) {
	for _, how := range []string{"panic", "goexit", "typed nil", "error that panics", "encode", "overrun"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := newStore(t, touchy).Open()
				run(t, dserver.Consumer{}, db, touchy)
				synctest.Wait() // the consumer is there
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				began := time.Now()
				err := touchy.At(db, "a").Call(ctx, Poison{how}, nil)
				if !errors.Is(err, dserver.ErrFault) || time.Since(began) > 6*time.Second {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if n, err := dserver.Call(ctx, touchy.At(db, "a"), Value{}); n != 0 || err != nil {
					t.Errorf("counted %d, %v", n, err)
				}
				<-time.After(time.Minute) // a handler that overran ends
			})
		})
	}
}

// A transaction whose function never returns gives back what it has of a real store.
func TestHandlersThatEndTheirGoroutineLeakNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		types := touchy.With(dserver.Settings[Touchy]{MaxAttempts: 1})
		db := open()
		run(t, dserver.Consumer{}, db, types)
		for range 20 {
			must(t, types.At(db, "a").Cast(within(t), Poison{"goexit"}))
			must(t, types.At(db, "a").Cast(within(t), Increment{1}))
		}
		if n, err := dserver.Call(within(t), types.At(db, "a"), Value{}); n != 20 || err != nil {
			t.Errorf("counted %d, %v", n, err)
		}
		must(t, db.Close()) // it waits for what runs
	})
}

// An action that panics undoes nothing and stops nothing.
func TestActionThatPanicsHurtsNobody(t *testing.T) {
	for _, how := range []string{"nil action", "action that ends its goroutine"} {
		t.Run(how, func(t *testing.T) {
			acted := make(chan struct{})
			types := touchy.With(dserver.HandleCast(func(ctx *dserver.Context, _ *Touchy, _ Mark) error {
				ctx.AfterCommit(func() { close(acted) })
				return nil
			}))
			store := newStore(t, types)
			must(t, types.At(store.Open(), "a").CastAll(within(t), []any{Poison{how}, Mark{}})) // one turn
			db := store.Open()
			run(t, dserver.Consumer{Turns: 1}, db, types)
			if n, err := dserver.Call(within(t), types.At(db, "a"), Value{}); n != 1000 || err != nil {
				t.Errorf("counted %d, %v", n, err)
			}
			select {
			case <-acted:
			case <-within(t).Done():
				t.Error("the action after it did not run")
			}
		})
	}
}

// A state that its own type cannot read, be it for a panic, is refused before it is committed.
func TestStateThatItsTypeCannotReadIsNotCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newStore(t, touchy).Open()
		run(t, dserver.Consumer{Turns: 1}, db, touchy)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		must(t, touchy.At(db, "a").Cast(ctx, Poison{"decode"}))
		if err := touchy.At(db, "a").Call(ctx, Poison{"decode"}, nil); err == nil || !strings.Contains(err.Error(), "read back") {
			t.Errorf("Call: %v", err)
		}
		if s, err := touchy.At(db, "a").Status(ctx); err != nil || s.DeadLetters != 1 || s.Queued != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		must(t, touchy.At(db, "a").Cast(ctx, Increment{1}))
		if n, err := dserver.Call(ctx, touchy.At(db, "a"), Value{}); n != 1 || err != nil {
			t.Errorf("counted %d, %v", n, err)
		}
	})
}

// The back-off is observed by an object in memory. When the cache forgets it, the message must not wait for ever.
func TestPoisonIsTriedAgainAlthoughTheCacheHasNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, touchy)
		db := store.Open()
		run(t, dserver.Consumer{Cache: 1}, db, touchy)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		sender := touchy.At(store.Open(), "a")
		must(t, sender.CastAll(ctx, []any{Poison{"panic"}, Increment{1}}))
		if n, err := dserver.Call(ctx, sender, Value{}); n != 1 || err != nil {
			t.Errorf("counted %d, %v", n, err)
		}
	})
}

// The largest message that can be sent can also be set aside, with an error and a stack of any length.
func TestTrap15TheLargestMessageCanBeSetAside(t *testing.T) {
	t.Parallel()
	type Huge struct{ Data []byte }
	for _, breaks := range []bool{true, false} {
		t.Run(fmt.Sprintf("breaks=%v", breaks), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				types := counters.With(dserver.HandleCast(func(_ *dserver.Context, _ *Counter, m Huge) error {
					if breaks {
						deep(200)
					}
					return errors.New(strings.Repeat("long ", 100_000))
				}))
				store := newStore(t, types)
				db := store.Open()
				run(t, dserver.Consumer{}, db, types)
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				size := 0
				for n := 4<<20 + 128<<10; size == 0; n -= 8 << 10 {
					err := types.At(db, "a").Cast(ctx, Huge{make([]byte, n)})
					if err == nil {
						size = n
					} else if !errors.Is(err, backend.ErrTooLarge) {
						t.Fatal(err)
					}
				}
				must(t, types.At(db, "a").Cast(ctx, Increment{1}))
				if n, err := dserver.Call(ctx, types.At(db, "a"), Value{}); n != 1 || err != nil {
					t.Errorf("with %d bytes: counted %d, %v", size, n, err)
				}
				if n := deadLetters(t, types.At(db, "a")); n != 1 {
					t.Errorf("%d dead letters", n)
				}
			})
		})
	}
}

func deep(n int) {
	if n == 0 {
		panic(strings.Repeat("deep ", 100_000))
	}
	deep(n - 1)
}

// A message that succeeds after all leaves no attempts behind.
func TestAttemptsEndWithTheirMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		types := journals.With(dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Mark) error {
			if tries++; tries < 4 {
				panic("not yet")
			}
			j.write(m.Line)
			return nil
		}))
		store := newStore(t, types)
		s := types.At(store.Open(), "a")
		run(t, dserver.Consumer{}, store.Open(), types)
		must(t, s.Cast(context.Background(), Mark{"at last"}))
		<-time.After(time.Second)
		if status, err := s.Status(context.Background()); status.Attempts < 2 || status.Queued != 1 || err != nil {
			t.Errorf("while it is tried: %+v, %v", status, err)
		}
		<-time.After(time.Minute)
		if status, err := s.Status(context.Background()); status.Attempts != 0 || status.Queued != 0 || err != nil {
			t.Errorf("after that: %+v, %v", status, err)
		}
		expectLines(t, lines(t, s), "at last")
	})
}

// A message that stops a batch is not tried again for each message before it.
func TestSlowMessageBehindOthersIsTriedSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32 // a handler that is left behind counts too
		types := journals.With(
			dserver.Settings[Journal]{MaxAttempts: 2},
			dserver.HandleCast(func(ctx *dserver.Context, _ *Journal, _ Mark) error {
				tries.Add(1)
				<-ctx.Context().Done()
				<-time.After(time.Minute)
				return nil
			}),
		)
		store := newStore(t, types)
		s := types.At(store.Open(), "a")
		ctx := context.Background()
		for i := range 20 {
			must(t, s.Cast(ctx, Write{fmt.Sprint(i)}, dserver.Priority()))
		}
		must(t, s.Cast(ctx, Mark{}))
		must(t, s.Cast(ctx, Write{"20"}))
		run(t, dserver.Consumer{}, store.Open(), types)
		expectLines(t, lines(t, s), numbered("", 21)...)
		if tries.Load() > 4 {
			t.Errorf("the slow handler ran %d times", tries.Load())
		}
		<-time.After(time.Hour)
	})
}

// A commit whose outcome stays unknown leaves a caller without an answer, and it must be told so: it would wait for ever.
func TestQueuedCallIsToldWhenItsCommitStaysUnknown(t *testing.T) {
	backendtest.EachFault(t, func(t *testing.T, f *backendtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			db := f.Open()
			stop := make(chan struct{})
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				defer close(stop)
				for ctx.Err() == nil {
					_ = dserver.Run(ctx, db, journals)
				}
			}()
			defer func() { cancel(); <-stop }()
			big := Append{Line: strings.Repeat("x", 40<<10)} // too large to join a turn
			answered := make(chan error, 1)
			go func() {
				_, err := dserver.Call(context.Background(), journal.At(db, "a"), big)
				answered <- err
			}()
			select {
			case <-answered:
			case <-time.After(time.Hour):
				t.Errorf("%v: nobody answered", f)
			}
		})
	})
}

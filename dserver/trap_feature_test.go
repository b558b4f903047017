package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// More of the defects that were found by running a forerunner of this design: of locks, timers and ends.

// The message is in the lock's record, so another consumer runs the work: the queue is never stuck.
func TestTrap03CommitUnknownOnTheLockLeavesNothingStuck(t *testing.T) {
	eachSafeFault(t, easyToil, func(h *house) {
		for _, id := range []string{"1", "clumsy 2", "3"} {
			h.toil(id)
			h.stow("after " + id)
		}
		h.verify()
	})
}

// A holder that dies leaves a lock that ends: by takeover, and at once by Kill and Reset.
func TestTrap05LockOfADeadHolderEnds(t *testing.T) {
	type handle = *dserver.DServer[Safe]
	for name, end := range map[string]func(context.Context, handle) error{
		"by itself": func(context.Context, handle) error { return nil },
		"kill":      func(ctx context.Context, s handle) error { return s.Kill(ctx) },
		"reset":     func(ctx context.Context, s handle) error { return s.Reset(ctx) },
		"unlock":    func(ctx context.Context, s handle) error { return s.Unlock(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := newWorkshop(), newWorkshop()
				store := newStore(t, first.types)
				db := store.Open()
				stop := run(t, dserver.Consumer{}, db, first.types)
				s, ctx := safe.At(store.Open(), "a"), context.Background()
				toil(s, first)
				stopNow(t, db, stop)
				must(t, end(ctx, s))
				must(t, s.Cast(ctx, Stow{"after"}))
				began := time.Now()
				run(t, dserver.Consumer{}, store.Open(), second.types)
				want := []string{"after"}
				if name == "by itself" {
					if again := <-second.entered; again.number != 2 {
						t.Errorf("it is attempt %d", again.number)
					}
					second.find <- "second"
					want = []string{"toil", "after"}
				}
				expectSeen(t, s, want...)
				if took := time.Since(began); took > 4*time.Second {
					t.Errorf("the queue went on after %v", took)
				}
			})
		})
	}
}

// The old holder comes back after another took its lock: its result is refused, it does not end the other's lock, and
// its context has ended.
func TestTrap06HolderThatLostItsLockUnlocksNobody(t *testing.T) {
	t.Parallel()
	for _, finishes := range []string{"while it is frozen", "after it goes on", "after the other"} {
		t.Run(finishes, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { comeBack(t, newStore(t, safe).Open, finishes, 10*time.Second) })
		})
	}
	eachRealStore(t, func(t *testing.T, open func() backend.Database) {
		comeBack(t, open, "after the other", 300*time.Millisecond)
	})
}

// comeBack says when the first holder finishes, and how long is waited for what must not happen.
func comeBack(t *testing.T, open func() backend.Database, finishes string, long time.Duration) {
	first, second := newWorkshop(), newWorkshop()
	frozen := &frozenDB{Database: open()}
	stop := run(t, dserver.Consumer{}, frozen, first.types)
	s, ctx := safe.At(open(), "a"), context.Background()
	answer := toil(s, first)
	must(t, s.Cast(ctx, Stow{"after"}))
	frozen.stop()
	run(t, dserver.Consumer{}, open(), second.types)
	<-second.entered // it has taken over
	if finishes == "while it is frozen" {
		first.finish("the first's")
	}
	if finishes != "after the other" {
		frozen.goOn()
		<-time.After(long)
	}
	if state, err := s.State(ctx); err == nil && len(state.Seen) > 0 || !statusOf(t, s).Locked {
		t.Errorf("the first ended the second's lock: %v, %v", state, err)
	}
	second.find <- "the second's"
	if got := <-answer; got != "the second's<nil>" {
		t.Errorf("the caller got %s", got)
	}
	if finishes == "after the other" {
		first.finish("the first's")
		frozen.goOn()
		<-time.After(long)
	}
	if finishes == "after it goes on" && !(<-first.ended).lost {
		t.Error("the first's context did not end")
	}
	stop() // all that it tries is tried
	expectSeen(t, s, "toil", "after")
}

// A message that wants the lock waits for it, also one that goes past the queue.
func TestTrap06LockIsOneMessagesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop()
		store := newStore(t, w.types)
		run(t, dserver.Consumer{}, store.Open(), w.types)
		s, ctx := safe.At(store.Open(), "a"), context.Background()
		answer := toil(s, w)
		must(t, s.Cast(ctx, Toil{ID: "second"}, dserver.Priority()))
		must(t, s.Cast(ctx, Toil{ID: "third"}))
		<-time.After(10 * time.Second)
		if len(w.entered) > 0 {
			t.Fatal("another one entered")
		}
		for range 3 {
			w.find <- "found"
		}
		if got := <-answer; got != "found<nil>" {
			t.Errorf("the caller got %s", got)
		}
		expectSeen(t, s, "toil", "second", "third")
	})
}

// What priority messages, info and others committed meanwhile is under what the work's result is applied to; the work's
// own copy is nobody's.
func TestTrap07LockedResultIsAppliedToTheStateOfThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, safe)
		working, goOn := make(chan struct{}), make(chan struct{})
		types := safes(func(_ *dserver.LockedContext, s Safe, m Toil) (string, error) {
			s.Seen["written to the copy"] = 1
			s.Seen["before"] = 7
			close(working)
			<-goOn
			return m.ID, nil
		}).With(dserver.HandleInfo(func(_ *dserver.Context, s *Safe, m Stow) error { return s.see(m.ID + " by info") }),
			dserver.HandleCall(func(_ *dserver.Context, s *Safe, _ Sight) (int, error) { return len(s.Seen), nil }))
		db := store.Open()
		run(t, dserver.Consumer{}, db, types)
		ctx := context.Background()
		s := types.At(db, "a")
		must(t, s.Cast(ctx, Stow{"before"}))
		answer := make(chan error, 1)
		go func() { answer <- s.Call(ctx, Toil{ID: "toil"}, nil) }()
		<-working
		if n, err := dserver.Call(ctx, s, Sight{}, dserver.Priority()); n != 1 || err != nil {
			t.Errorf("the consumer shares what the work has written: %d ids, %v", n, err)
		}
		must(t, s.Cast(ctx, Stow{"waits"}))
		must(t, types.At(store.Open(), "a").Info(ctx, Stow{"far"}))
		must(t, s.Info(ctx, Stow{"near"}))
		must(t, s.Call(ctx, Stow{"urgent"}, nil, dserver.Priority()))
		if state, err := s.State(ctx); err != nil || state.Seen["waits"] != 0 || state.Seen["toil"] != 0 {
			t.Errorf("under the lock: %v, %v", state.Seen, err)
		}
		close(goOn)
		must(t, <-answer)
		must(t, s.Call(ctx, Stow{"end"}, nil))
		expectSeen(t, s, "before", "far by info", "near by info", "urgent", "toil", "waits", "end")
		warm, err := dserver.Call(ctx, s, Sight{}) // as the consumer has it, not as it is stored
		if warm != 7 || err != nil {
			t.Errorf("the consumer has %d ids, %v", warm, err)
		}
	})
}

// Sight asks how many ids a safe has seen.
type Sight struct{ dserver.Returns[int] }

// Poison costs its attempts, over consumers and their ends, and the queue goes on.
func TestTrap12AttemptsAreCountedOverConsumersAndRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, safe)
		attempts := make(chan struct{}, 100)
		types := safes(easyToil).With(
			dserver.Settings[Safe]{MaxAttempts: 4},
		)
		poisoned := types.With(dserver.HandleCast(func(*dserver.Context, *Safe, Poison) error {
			attempts <- struct{}{}
			panic("poison")
		}))
		s := safe.At(store.Open(), "a")
		ctx := context.Background()
		must(t, s.CastAll(ctx, []any{Stow{"before"}, Poison{}, Stow{"after"}}))
		for len(attempts) < 4 {
			before := len(attempts)
			db := store.Open()
			stop := run(t, dserver.Consumer{}, db, poisoned)
			eventually(t, "another attempt", func() bool { return len(attempts) > before })
			<-time.After(time.Millisecond)
			if before%2 == 0 {
				must(t, db.Close()) // it dies
			}
			stop()
		}
		run(t, dserver.Consumer{}, store.Open(), poisoned)
		expectSeen(t, s, "before", "after")
		if n := deadLetters(t, s); n != 1 || len(attempts) < 4 || len(attempts) > 6 {
			t.Errorf("%d dead letters after %d attempts", n, len(attempts))
		}
	})
}

// Two consumers at one message: what both break at counts once, and what one of them handled is no attempt of the other.
func TestTrap12AttemptsOfTwoAtOnceCountOnce(t *testing.T) {
	for _, c := range []struct {
		name                       string
		secondBreaks               bool
		attempts                   int // of which more would set it aside
		counted, letters, happened int
	}{{"both break", true, 2, 1, 0, 0}, {"one breaks", false, 1, 0, 0, 1}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t, safe)
				entered, leave := make(chan int, 2), [2]chan struct{}{make(chan struct{}), make(chan struct{})}
				for i := range leave {
					var once sync.Once
					runRival(t, store.Open(), safe.With(
						dserver.Settings[Safe]{MaxAttempts: c.attempts},
						dserver.HandleCast(func(_ *dserver.Context, s *Safe, _ Poison) error {
							once.Do(func() { entered <- i; <-leave[i] })
							if i == 0 || c.secondBreaks {
								panic("poison")
							}
							return s.see("poison")
						})))
				}
				<-time.After(2 * time.Minute) // young consumers count before they try
				s, ctx := safe.At(store.Open(), "a"), context.Background()
				must(t, s.Cast(ctx, Poison{}))
				if first, second := <-entered, <-entered; first == second {
					t.Fatal("one consumer has it twice")
				}
				close(leave[1])
				synctest.Wait()
				close(leave[0])
				synctest.Wait()
				state, err := s.State(ctx)
				if err != nil && !errors.Is(err, dserver.ErrNotFound) {
					t.Error(err)
				}
				status := statusOf(t, s)
				if status.Attempts != c.counted || status.DeadLetters != int64(c.letters) || state.Seen["poison"] != c.happened {
					t.Errorf("%+v, it happened %d times", status, state.Seen["poison"])
				}
				if c.secondBreaks {
					must(t, s.Kill(ctx))
				}
			})
		})
	}
}

// It is refused, nothing is locked, and the process lives.
func TestTrap14InfoCannotLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, safe)
		types := safes(easyToil).With(
			dserver.HandleInfo(func(ctx *dserver.Context, s *Safe, m Toil) error {
				ctx.Lock()
				return s.see(m.ID)
			}),
			dserver.HandleInfo(func(ctx *dserver.Context, s *Safe, m Stow) error {
				ctx.Lock()
				return s.see(m.ID)
			}),
		)
		db := store.Open()
		run(t, dserver.Consumer{}, db, types)
		s, ctx := types.At(db, "a"), context.Background()
		for _, m := range []any{Toil{ID: "info"}, Stow{"info"}} {
			if err := s.Info(ctx, m); err == nil || !strings.Contains(err.Error(), "Lock") {
				t.Errorf("%T: %v", m, err)
			}
		}
		must(t, s.Cast(ctx, Stow{"after"}))
		must(t, s.Call(ctx, Toil{ID: "toil"}, nil))
		expectSeen(t, s, "after", "toil")
		if statusOf(t, s).Locked {
			t.Error("the server is locked")
		}
	})
}

// The answer comes from a later turn, inline and queued, of a cast as well, which nobody waits for.
func TestTrap16HandlerThatAnswersLaterLivesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		db, far := store.Open(), store.Open()
		run(t, dserver.Consumer{}, db, types)
		synctest.Wait() // the consumer is there, so the first call is inline
		ctx := context.Background()
		for i, from := range []backend.Database{db, far} {
			s := safe.At(from, "a")
			id := fmt.Sprint("call ", i)
			if got, err := dserver.Call(ctx, s, Defer{ID: id, By: "b"}); got != id || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			must(t, s.Cast(ctx, Defer{ID: fmt.Sprint("cast ", i), By: "b"}))
			must(t, s.Cast(ctx, Defer{ID: fmt.Sprint("itself ", i), By: "a"}))
		}
		<-time.After(time.Second)
		expectSeen(t, safe.At(db, "a"), "call 0", "call 1", "cast 0", "cast 1", "itself 0", "itself 1", "itself 0 answered", "itself 1 answered")
		expectSeen(t, safe.At(db, "b"), "call 0 answered", "call 1 answered", "cast 0 answered", "cast 1 answered")
	})
}

// A handler that resets its own server answers first, whatever path the call took; what was locked is told as well.
func TestTrap20And21HandlerThatEndsItsServerAnswersAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop()
		types := w.types.With(dserver.HandleCall(func(ctx *dserver.Context, s *Safe, _ Value) (int64, error) {
			ctx.SetTimer("of the last turn", time.Minute, Stow{"rang"})
			ctx.Reset()
			return int64(len(s.Seen)), s.see("trace")
		}))
		store := newStore(t, types)
		db, far := store.Open(), store.Open()
		run(t, dserver.Consumer{}, db, types)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // who is not answered is not a test that hangs
		defer cancel()
		for _, from := range []backend.Database{db, far} {
			s := safe.At(from, "a")
			must(t, s.CastAll(ctx, []any{Stow{"1"}, Wind{ID: "2", Name: "n", In: time.Minute}}))
			if n, err := dserver.Call(ctx, s, Value{}); n != 2 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			if _, err := s.State(ctx); !errors.Is(err, dserver.ErrNotFound) {
				t.Error(err)
			}
			// In one turn with what it forgets, under the lock of another message.
			answer := toil(s, w)
			must(t, s.CastAll(ctx, []any{Wind{ID: "3", Name: "n", In: time.Minute}, Stow{"4"}}, dserver.Priority()))
			if n, err := dserver.Call(ctx, s, Value{}, dserver.Priority()); n != 2 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			if got := <-answer; !strings.Contains(got, "killed") {
				t.Errorf("the locked message's caller got %s", got)
			}
			if !(<-w.ended).lost {
				t.Error("the work's context did not end")
			}
			<-time.After(2 * time.Minute)
			if _, err := s.State(ctx); !errors.Is(err, dserver.ErrNotFound) || statusOf(t, s).Locked {
				t.Errorf("something is left: %v, %+v", err, statusOf(t, s))
			}
		}
	})
}

// The same in one turn: what the messages before the reset set is forgotten with the rest.
func TestTrap21ResetForgetsWhatItsTurnSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, safe)
		types := desks(noWork)
		d := types.At(store.Open(), "a")
		ctx := context.Background()
		must(t, d.CastAll(ctx, []any{Jot{"x"}, Remind{"t", time.Minute}, End{}, Jot{"kept"}}))
		run(t, dserver.Consumer{}, store.Open(), types)
		<-time.After(time.Hour)
		expectLog(t, d, "kept")
	})
}

func TestTrap22TypesDoNotShareAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, counters)
		types := safes(easyToil)
		db := store.Open()
		run(t, dserver.Consumer{}, db, types, counters)
		ctx := context.Background()
		s, c := types.At(db, "same"), counters.At(db, "same")
		must(t, s.CastAll(ctx, []any{Stow{"1"}, Wind{ID: "2", Name: "n", In: time.Minute}}))
		must(t, c.CastAll(ctx, []any{Increment{1}, Increment{2}}))
		if err := s.Cast(ctx, Increment{1}); !errors.Is(err, dserver.ErrNoHandler) {
			t.Errorf("a message for the other type: %v", err)
		}
		must(t, c.Call(ctx, Value{}, nil))
		must(t, c.Kill(ctx))
		must(t, s.Call(ctx, Stow{"3"}, nil))
		expectSeen(t, s, "1", "2", "3")
		<-time.After(2 * time.Minute)
		expectSeen(t, s, "1", "2", "3", "2 rang")
		if n, err := dserver.Call(ctx, c, Value{}); n != 0 || err != nil {
			t.Errorf("counted %d, %v", n, err)
		}
		var got []string
		for ref, err := range dserver.Servers(ctx, db, "safe") {
			must(t, err)
			got = append(got, ref.String())
		}
		if len(got) != 1 {
			t.Errorf("servers %q", got)
		}
		defer func() {
			if recover() == nil {
				t.Error("two types of one name run beside each other")
			}
		}()
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_ = dserver.Run(short, db, types, dserver.Define("safe", answers[Append]()))
	})
}

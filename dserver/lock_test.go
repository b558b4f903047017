package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// lockFloor is two processes with a consumer each, of which the first is locked in its work.
type lockFloor struct {
	store         *backendtest.Store
	first, second *workshop
	s             *dserver.DServer[Safe] // of a third process
	answer        chan string
	stop          func() // the first, in order
	kill          func()
}

func newLockFloor(t *testing.T, parts ...dserver.Part[Safe]) *lockFloor {
	l := &lockFloor{first: newWorkshop(), second: newWorkshop()}
	l.first.types, l.second.types = l.first.types.With(parts...), l.second.types.With(parts...)
	l.store = newStore(t, l.first.types)
	db := l.store.Open()
	l.stop = run(t, dserver.Consumer{}, db, l.first.types)
	l.kill = func() { stopNow(t, db, l.stop) }
	l.s = safe.At(l.store.Open(), "a")
	l.answer = toil(l.s, l.first)
	return l
}

func (l *lockFloor) startSecond(t *testing.T) {
	run(t, dserver.Consumer{}, l.store.Open(), l.second.types)
}

func expectAnswer(t *testing.T, answer chan string, want string) {
	t.Helper()
	if got := <-answer; got != want {
		t.Errorf("the caller got %s, want %s", got, want)
	}
}

// Shutdown gives the lock up: another goes on at once, in the same attempt and with the same key.
func TestLockIsGivenUpWhenItsConsumerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockFloor(t)
		l.startSecond(t)
		began := time.Now()
		l.stop()
		if !(<-l.first.ended).lost {
			t.Error("the work's context did not end")
		}
		again := <-l.second.entered
		if took := time.Since(began); took > time.Second || again.number != 1 {
			t.Errorf("attempt %d after %v", again.number, took)
		}
		l.second.find <- "found"
		expectAnswer(t, l.answer, "found<nil>")
		expectSeen(t, l.s, "toil")
	})
}

// A consumer that starts later than the end of the other finds the lock given up.
func TestLockThatWasGivenUpIsFoundByALaterConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockFloor(t)
		l.stop()
		<-time.After(time.Hour)
		began := time.Now()
		l.startSecond(t)
		<-l.second.entered
		if took := time.Since(began); took > time.Second {
			t.Errorf("after %v", took)
		}
		l.second.find <- "found"
		expectAnswer(t, l.answer, "found<nil>")
	})
}

// A holder that lives keeps its lock, however long it works and however many look.
func TestLockOfALivingHolderIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockFloor(t, dserver.Settings[Safe]{WorkLimit: 24 * time.Hour})
		for range 3 {
			l.startSecond(t)
		}
		<-time.After(10 * time.Hour)
		if len(l.second.entered) > 0 {
			t.Error("it was taken over")
		}
		l.first.find <- "found"
		expectAnswer(t, l.answer, "found<nil>")
		expectSeen(t, l.s, "toil")
	})
}

// A store that is away for a while makes nobody take over by itself: what was not looked at was not seen unchanged.
func TestOutageIsNoReasonToTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockFloor(t)
		frozen := &frozenDB{Database: l.store.Open()}
		run(t, dserver.Consumer{}, frozen, l.second.types)
		for range 20 {
			frozen.stop() // the observer sees nothing; the holder beats
			<-time.After(5 * time.Second)
			frozen.goOn()
			<-time.After(700 * time.Millisecond)
		}
		if len(l.second.entered) > 0 {
			t.Error("it was taken over")
		}
		l.first.find <- "found"
		expectAnswer(t, l.answer, "found<nil>")
	})
}

// Taken over within the lease and a second, by one of many.
func TestDeadHoldersLockIsTakenOverByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockFloor(t)
		for range 4 {
			l.startSecond(t)
		}
		<-time.After(10 * time.Second)
		began := time.Now()
		l.kill()
		<-l.second.entered
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("taken over after %v", took)
		}
		<-time.After(10 * time.Second)
		if n := len(l.second.entered); n > 0 {
			t.Errorf("%d more took it over", n)
		}
		l.second.find <- "found"
		expectAnswer(t, l.answer, "found<nil>")
		expectSeen(t, l.s, "toil")
	})
}

// A message of the priority lane that wants the lock waits for its end, and is in nobody's way.
func TestPriorityMessageThatLocksWaitsForTheLock(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprint("dies=", dies), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLockFloor(t)
				l.startSecond(t)
				must(t, l.s.Cast(t.Context(), Toil{ID: "urgent"}, dserver.Priority()))
				<-time.After(10 * time.Second)
				if len(l.first.entered)+len(l.second.entered) > 0 {
					t.Fatal("it locked what is locked")
				}
				if dies {
					l.kill()
					<-l.second.entered
					l.second.find <- "found"
				} else {
					l.first.find <- "found"
				}
				expectAnswer(t, l.answer, "found<nil>")
				select {
				case <-l.first.entered:
					l.first.find <- "urgent too"
				case <-l.second.entered:
					l.second.find <- "urgent too"
				}
				expectSeen(t, l.s, "toil", "urgent")
			})
		})
	}
}

// A priority message under the lock that breaks backs off and is set aside; the work goes on.
func TestPriorityPoisonUnderTheLockIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockFloor(t, dserver.Settings[Safe]{WorkLimit: time.Hour})
		must(t, l.s.Cast(t.Context(), Explode{"x"}, dserver.Priority()))
		must(t, l.s.Call(t.Context(), Stow{"urgent"}, nil, dserver.Priority()))
		if n := deadLetters(t, l.s); n != 1 {
			t.Errorf("%d dead letters", n)
		}
		l.first.find <- "found"
		expectAnswer(t, l.answer, "found<nil>")
		expectSeen(t, l.s, "urgent", "toil")
	})
}

// Under the lock more priority messages than a turn has room for are handled, the others wait.
func TestPriorityPassesTheLockInAnyNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockFloor(t)
		var want []string
		var urgent []any
		for _, id := range numbered("urgent ", 700) {
			want, urgent = append(want, id), append(urgent, Stow{id})
		}
		must(t, l.s.Cast(t.Context(), Stow{"waits"}))
		must(t, l.s.CastAll(t.Context(), urgent[:262], dserver.Priority()))
		began := time.Now()
		expectSeen(t, l.s, want[:262]...)
		must(t, l.s.CastAll(t.Context(), urgent[262:], dserver.Priority()))
		expectSeen(t, l.s, want...)
		if took := time.Since(began); took > time.Second {
			t.Errorf("they took %v", took)
		}
		l.first.find <- "found"
		expectAnswer(t, l.answer, "found<nil>")
		expectSeen(t, l.s, append(want, "toil", "waits")...)
	})
}

// Messages that go on coming with priority leave a place for the others.
func TestPriorityStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		s := safe.At(store.Open(), "a")
		var urgent []any
		for _, id := range numbered("urgent ", 2000) {
			urgent = append(urgent, Stow{id})
		}
		must(t, s.CastAll(t.Context(), []any{Stow{"1"}, Stow{"2"}, Stow{"3"}}))
		must(t, s.CastAll(t.Context(), urgent, dserver.Priority()))
		handled := make(chan int, 1) // before the last of the normal lane
		must(t, s.Cast(t.Context(), Mark{}))
		run(t, dserver.Consumer{}, store.Open(), types.With(dserver.HandleCast(func(ctx *dserver.Context, s *Safe, m Mark) error {
			before := len(s.Seen)
			ctx.AfterCommit(func() { handled <- before })
			return nil
		})))
		if n := <-handled; n > 1100 {
			t.Errorf("the fourth normal message came when %d were handled", n)
		}
		eventually(t, "all", func() bool { state, _ := s.State(t.Context()); return len(state.Seen) == 2003 })
	})
}

// While the head of one lane backs off, all of the other lane is handled at once.
func TestBackOffOfOneLaneDoesNotHoldUpTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil)
		store := newStore(t, types)
		s := safe.At(store.Open(), "a")
		var want []string
		var normal []any
		for _, id := range numbered("normal ", 260) {
			want, normal = append(want, id), append(normal, Stow{id})
		}
		must(t, s.Cast(t.Context(), Strange{1}, dserver.Priority())) // no handler: it backs off for long
		run(t, dserver.Consumer{}, store.Open(), types)
		eventually(t, "it backs off", func() bool { return statusOf(t, s).Attempts == 1 })
		began := time.Now()
		must(t, s.CastAll(t.Context(), normal))
		expectSeen(t, s, want...)
		if took := time.Since(began); took > time.Second {
			t.Errorf("they took %v", took)
		}
	})
}

// A timer's message may lock. The timer is gone when it does, and its name free for the next setting.
func TestTimerMessageThatLocksIsAppliedAndSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(func(_ *dserver.LockedContext, _ Safe, m Toil) (string, error) { return m.ID, nil }).With(
			dserver.HandleCast(func(ctx *dserver.Context, s *Safe, m Mark) error {
				ctx.SetTimer("tick", time.Minute, Tick{1})
				return nil
			}),
			dserver.HandleCast(func(ctx *dserver.Context, s *Safe, m Tick) error {
				if m.N < 5 {
					ctx.SetTimer("tick", time.Minute, Tick{m.N + 1})
				}
				ctx.Lock()
				return s.see(fmt.Sprint("tick ", m.N))
			}),
			dserver.HandleLocked(func(_ *dserver.LockedContext, _ Safe, m Tick) (int, error) { return m.N, nil },
				func(_ *dserver.Context, s *Safe, m Tick, n int) error { return s.see(fmt.Sprint("tock ", n)) }),
		)
		store := newStore(t, types)
		db := store.Open()
		run(t, dserver.Consumer{}, db, types)
		must(t, types.At(db, "a").Cast(t.Context(), Mark{}))
		<-time.After(time.Hour)
		expectSeen(t, safe.At(db, "a"), "tick 1", "tock 1", "tick 2", "tock 2", "tick 3", "tock 3", "tick 4", "tock 4", "tick 5", "tock 5")
	})
}

// Tick is sent by a timer.
type Tick struct{ N int }

// Work that fails for good: the caller is told, a cast is set aside with its attempts, or the server halts until it is
// resumed with all attempts, or unlocked without the message.
func TestWorkThatFailsForGood(t *testing.T) {
	for name, c := range map[string]struct {
		halt bool
		end  func(context.Context, *dserver.DServer[Safe]) error
		want []string
		dead int
	}{
		"set aside": {false, nil, []string{"after"}, 1},
		"resumed":   {true, func(ctx context.Context, s *dserver.DServer[Safe]) error { return s.Resume(ctx) }, []string{"toil", "after"}, 0},
		"unlocked":  {true, func(ctx context.Context, s *dserver.DServer[Safe]) error { return s.Unlock(ctx) }, []string{"after"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts, keys, mended := 0, map[string]bool{}, false
				types := safes(func(ctx *dserver.LockedContext, _ Safe, m Toil) (string, error) {
					attempts++
					keys[ctx.IdempotencyKey()] = true
					if mended {
						return m.ID, nil
					}
					if attempts%2 == 0 {
						panic("the world is broken")
					}
					return "", errors.New("the world is away")
				}).With(dserver.Settings[Safe]{MaxAttempts: 3, Halt: c.halt})
				store := newStore(t, types)
				db := store.Open()
				stop := run(t, dserver.Consumer{}, db, types)
				s, ctx := safe.At(store.Open(), "a"), t.Context()
				must(t, s.CastAll(ctx, []any{Toil{ID: "toil"}, Stow{"after"}}))
				if c.halt {
					eventually(t, "it halts", func() bool { return statusOf(t, s).Halted })
					stop()
					run(t, dserver.Consumer{}, store.Open(), types)
					<-time.After(time.Hour)
					if state, err := s.State(ctx); err == nil && len(state.Seen) > 0 || attempts != 3 {
						t.Errorf("after it halted: %v, %d attempts", state, attempts)
					}
					mended = true
					must(t, c.end(ctx, s))
				}
				expectSeen(t, s, c.want...)
				if n := deadLetters(t, s); n != c.dead || len(keys) != 1 {
					t.Errorf("%d dead letters, keys %v", n, keys)
				}
				if err := s.Resume(ctx); !errors.Is(err, dserver.ErrNotFound) {
					t.Errorf("Resume of a server that goes on: %v", err)
				}
			})
		})
	}
}

// A halted queue goes on when it is told to, and only then.
func TestHaltedServerGoesOnWhenResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mended := false
		types := safes(easyToil).With(
			dserver.Settings[Safe]{MaxAttempts: 2, Halt: true},
			dserver.HandleCast(func(_ *dserver.Context, s *Safe, m Mark) error {
				if !mended {
					panic("not yet")
				}
				return s.see(m.Line)
			}))
		store := newStore(t, types)
		s, ctx := safe.At(store.Open(), "a"), t.Context()
		stop := run(t, dserver.Consumer{}, store.Open(), types)
		must(t, s.CastAll(ctx, []any{Stow{"before"}, Mark{"halts"}, Stow{"after"}}))
		eventually(t, "it halts", func() bool { return statusOf(t, s).Halted })
		stop()
		run(t, dserver.Consumer{}, store.Open(), types)
		must(t, s.Cast(ctx, Stow{"later"}))
		<-time.After(time.Hour)
		expectSeen(t, s, "before")
		mended = true
		must(t, s.Resume(ctx))
		expectSeen(t, s, "before", "halts", "after", "later")
		if n := deadLetters(t, s); n != 0 {
			t.Errorf("%d dead letters", n)
		}
	})
}

// What the work's apply does: an error is the answer and rolls back, a panic is another attempt of the work.
func TestApplyThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		works := 0
		types := safe.With(
			dserver.HandleCast(func(_ *dserver.Context, s *Safe, m Stow) error { return s.see(m.ID) }),
			dserver.HandleLockedCall(
				func(ctx *dserver.LockedContext, _ Safe, m Toil) (int, error) { works++; return ctx.Attempt(), nil },
				func(ctx *dserver.Context, s *Safe, m Toil, attempt int) (string, error) {
					ctx.Cast(safe.Ref("b"), Stow{fmt.Sprint(m.ID, " ", attempt)})
					if err := s.see(fmt.Sprint(m.ID, " ", attempt)); err != nil || attempt == 3 {
						return "done", err
					}
					panic("apply breaks")
				}))
		store := newStore(t, types)
		db := store.Open()
		run(t, dserver.Consumer{}, db, types)
		for i, from := range []backend.Database{db, store.Open()} {
			s := safe.At(from, "a")
			if _, err := dserver.Call(t.Context(), s, Toil{ID: "refused"}); !errors.Is(err, errDenied) {
				t.Errorf("refused: %v", err)
			}
			works = 0
			id := fmt.Sprint("toil ", i)
			if got, err := dserver.Call(t.Context(), s, Toil{ID: id}); got != "done" || err != nil || works != 3 {
				t.Errorf("%q, %v after %d works", got, err, works)
			}
		}
		expectSeen(t, safe.At(db, "a"), "toil 0 3", "toil 1 3")
		expectSeen(t, safe.At(db, "b"), "toil 0 3", "toil 1 3")
	})
}

// Locked work that calls its own server would wait for itself: it is refused, at once.
func TestWorkCannotCallItsOwnServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var db backend.Database
		types := safes(func(ctx *dserver.LockedContext, _ Safe, m Toil) (string, error) {
			_, err := dserver.Call(ctx, safe.At(db, m.ID), Grab{ID: "from work"})
			return fmt.Sprint(err), nil
		})
		db = newStore(t, types).Open()
		run(t, dserver.Consumer{}, db, types)
		began := time.Now()
		got, err := dserver.Call(t.Context(), safe.At(db, "a"), Toil{ID: "a"})
		if err != nil || !strings.Contains(got, "itself") || time.Since(began) > time.Second {
			t.Errorf("after %v: %q, %v", time.Since(began), got, err)
		}
		if got, err := dserver.Call(t.Context(), safe.At(db, "a"), Toil{ID: "b"}); got != "<nil>" || err != nil {
			t.Errorf("another server: %q, %v", got, err)
		}
	})
}

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

type (
	Wake    struct{ In time.Duration } // sets a timer whose message wants the lock
	Slog    struct{ Text string }      // is done under the lock
	Double  struct{ To dserver.Ref }   // casts twice under one key
	Restart struct{}                   // resets the server
	Shift   struct{ Name, Text string }
)

// toilers is a type whose casts lock.
func toilers(work func(ctx *dserver.LockedContext, d Desk, m Slog) (string, error)) *dserver.Definition[Desk] {
	return desks(noWork).With(
		dserver.HandleCast(func(ctx *dserver.Context, _ *Desk, m Wake) error {
			ctx.SetTimer("wake", m.In, Slog{"woken"})
			return nil
		}),
		dserver.HandleLocked(work, func(_ *dserver.Context, d *Desk, m Slog, found string) error {
			d.Log = append(d.Log, m.Text+" "+found)
			return nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, _ *Desk, m Double) error {
			ctx.Cast(m.To, Jot{"once"}, dserver.Once("key"))
			return nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, _ *Desk, _ Restart) error {
			ctx.Reset()
			return nil
		}),
	)
}

func quickWork(*dserver.LockedContext, Desk, Slog) (string, error) { return "done", nil }

// The end of locked work is no timer's message any more, although its envelope says so.
func TestLockedWorkOfATimerIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		db := store.Open()
		def := toilers(quickWork)
		run(t, dserver.Consumer{}, db, def)
		desk := def.At(db, "a")
		must(t, desk.Cast(t.Context(), Wake{time.Minute}))
		<-time.After(2 * time.Minute) // virtual
		expectLog(t, desk, "woken done")
	})
}

// A timer that is set again while the work of its last message runs is another timer.
func TestTimerSetDuringItsLockedWorkFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		db := store.Open()
		def := toilers(func(ctx *dserver.LockedContext, _ Desk, _ Slog) (string, error) {
			<-time.After(10 * time.Second)
			return "done", nil
		})
		run(t, dserver.Consumer{}, db, def)
		desk := def.At(db, "a")
		must(t, desk.Cast(t.Context(), Wake{time.Minute}))
		<-time.After(65 * time.Second) // the work runs
		must(t, desk.Cast(t.Context(), Wake{time.Minute}, dserver.Priority()))
		<-time.After(3 * time.Minute)
		expectLog(t, desk, "woken done", "woken done")
	})
}

// A lock is looked at although the head of the priority lane waits for it.
func TestDeadHoldersLockIsTakenOverBeforeAPriorityMessageThatWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		first, second := store.Open(), store.Open()
		entered, hang := make(chan int, 3), make(chan struct{})
		defer close(hang)
		def := toilers(func(ctx *dserver.LockedContext, _ Desk, _ Slog) (string, error) {
			entered <- ctx.Attempt()
			if len(entered) == 1 {
				<-hang
			}
			return "done", nil
		})
		go func() { _ = dserver.Run(context.Background(), first, def) }()
		desk := def.At(second, "a")
		must(t, desk.Cast(t.Context(), Slog{"first"}))
		synctest.Wait()
		must(t, desk.Cast(t.Context(), Slog{"second"}, dserver.Priority()))
		must(t, first.Close()) // the holder's process dies
		run(t, dserver.Consumer{}, second, def)
		<-time.After(time.Minute) // virtual
		expectLog(t, desk, "first done", "second done")
	})
}

// Handlers of one batch that send with one key send once.
func TestTwoCastsOfATurnWithOneKeyAreOne(t *testing.T) {
	store := newStore(t)
	db := store.Open()
	def := toilers(quickWork)
	to := def.At(db, "to")
	must(t, def.At(db, "from").CastAll(t.Context(), []any{Double{to.Ref()}, Double{to.Ref()}, Double{to.Ref()}}))
	run(t, dserver.Consumer{}, db, def)
	eventually(t, "the senders are done", func() bool {
		s, err := def.At(db, "from").Status(t.Context())
		return err == nil && s.Queued == 0
	})
	expectLog(t, to, "once")
}

// A reset from a handler ends the locked work of another message: its caller is told.
func TestResetFromAHandlerTellsTheCallerOfLockedWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		db := store.Open()
		hang := make(chan struct{})
		def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		})
		defer close(hang)
		run(t, dserver.Consumer{}, db, def)
		desk := def.At(db, "a")
		told := make(chan error, 1)
		go func() {
			_, err := dserver.Call(context.Background(), desk, Pay{How: "card"}, dserver.Once("k"))
			told <- err
		}()
		synctest.Wait() // the work runs
		must(t, desk.Cast(t.Context(), End{}, dserver.Priority()))
		select {
		case err := <-told:
			if !errors.Is(err, dserver.ErrKilled) {
				t.Fatalf("the caller is told %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the caller is not told")
		}
		again, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := dserver.Call(again, desk, Pay{How: "card"}, dserver.Once("k")); !errors.Is(err, dserver.ErrKilled) {
			t.Fatalf("with the same key: %v", err)
		}
	})
}

// A reset from a handler forgets the timers that messages of the same batch have set.
func TestResetFromAHandlerForgetsTimersOfItsBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		db := store.Open()
		def := desks(noWork)
		desk := def.At(db, "a")
		must(t, desk.CastAll(t.Context(), []any{Remind{"t", time.Hour}, End{}}))
		run(t, dserver.Consumer{}, db, def)
		<-time.After(2 * time.Hour)
		expectLog(t, desk)
	})
}

// The record of a key that expired while its message waited would stay for ever.
func TestKeyThatExpiredWhileItsMessageWaitedLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		db := store.Open()
		def := desks(noWork)
		desk := def.At(db, "a")
		other := desks(noWork).At(db, "b")
		must(t, desk.Cast(t.Context(), Jot{"waits"}, dserver.Once("k")))
		must(t, other.Cast(t.Context(), Jot{"later"}, dserver.Once("k"), dserver.After(30*time.Hour)))
		pass(t, 26*time.Hour, db, def)
		must(t, other.Cast(t.Context(), Jot{"later"}, dserver.Once("k")))
		expectStored(t, desk, "waits")
		pass(t, 5*time.Hour, db, def)
		expectStored(t, other, "later")
		pass(t, 24*time.Hour, db, def)
		pass(t, 24*time.Hour, db, def)
		if n := rows(t, db, "s", "desk", "a", "e") + rows(t, db, "s", "desk", "b", "e"); n != 0 {
			t.Fatalf("%d records of keys are left", n)
		}
	})
}

// A key does not end before its message is handled, which waits behind one that halts its server; and then it does.
func TestKeyWhoseTimeIsUpBeforeItsMessageIsHandledLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		db := store.Open()
		def := desks(noWork).With(dserver.Settings[Desk]{MaxAttempts: 1, Halt: true})
		desk := def.At(store.Open(), "a")
		must(t, desk.Ref().At(db).Cast(t.Context(), blocked{}))
		must(t, desk.Cast(t.Context(), Jot{"waits"}, dserver.Once("k")))
		pass(t, 26*time.Hour, db, def)
		if n := rows(t, db, "s", "desk", "a", "e"); n != 1 {
			t.Fatalf("the key of a message that waits has %d records", n)
		}
		must(t, desk.Withdraw(t.Context(), waiting(t, desk)[0].Stamp))
		pass(t, time.Minute, db, def)
		expectStored(t, desk, "waits")
		pass(t, 25*time.Hour, db, def)
		pass(t, 25*time.Hour, db, def)
		if n := rows(t, db, "s", "desk", "a", "e"); n != 0 {
			t.Errorf("%d records of keys are left", n)
		}
	})
}

// A call with a key that is answered later and twice: whoever sends it again gets the first answer.
func TestFirstAnswerIsTheOutcomeOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := desks(noWork).With(dserver.HandleCast(func(ctx *dserver.Context, d *Desk, m Mark) error {
			for _, from := range d.Waiting { // without forgetting them
				from.Reply(ctx, m.Line)
				from.Reply(ctx, "not "+m.Line)
			}
			return nil
		}))
		store := newStore(t, types)
		db := store.Open()
		run(t, dserver.Consumer{}, db, types)
		d := types.At(db, "a")
		first := make(chan string, 1)
		go func() {
			got, err := dserver.Call(context.Background(), d, Ask{}, dserver.Once("k"))
			first <- fmt.Sprint(got, err)
		}()
		synctest.Wait()
		must(t, d.Cast(t.Context(), Mark{"first"}))
		must(t, d.Cast(t.Context(), Mark{"second"}))
		if got := <-first; got != "first<nil>" {
			t.Errorf("answered %s", got)
		}
		if got, err := dserver.Call(t.Context(), d, Ask{}, dserver.Once("k")); got != "first" || err != nil {
			t.Errorf("sent again, it is answered %q, %v", got, err)
		}
	})
}

// A reset forgets a timer and leaves its row in the index, which is nothing to a timer of that name that is set later.
func TestTimerThatIsSetAnewAfterAResetKeepsItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		db := store.Open()
		def := desks(noWork)
		run(t, dserver.Consumer{}, db, def)
		desk := def.At(db, "a")
		must(t, desk.Call(t.Context(), Remind{"t", time.Hour}, nil))
		must(t, desk.Reset(t.Context()))
		must(t, desk.Call(t.Context(), Remind{"t", 2 * time.Hour}, nil))
		<-time.After(90 * time.Minute)
		expectLog(t, desk)
		<-time.After(time.Hour)
		expectLog(t, desk, "timer t")
	})
}

// A timer is stopped by a message that is just ahead of its own, in the same turn, and so it is when it is set anew.
func TestTimerIsStoppedInTheTurnOfItsMessage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		m    any
		want []string
	}{
		"cancelled": {Forget{"t"}, []string{"paid lock"}},
		"set anew":  {Remind{"t", time.Hour}, []string{"paid lock", "timer t"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t)
				db := store.Open()
				hang := make(chan struct{})
				def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) { <-hang; return "", nil })
				run(t, dserver.Consumer{}, db, def)
				desk := def.At(db, "a")
				must(t, desk.Cast(t.Context(), Remind{"t", 10 * time.Second}))
				must(t, desk.Cast(t.Context(), Pay{How: "lock"}))
				synctest.Wait() // the work runs: what comes now waits
				must(t, desk.Cast(t.Context(), c.m))
				<-time.After(20 * time.Second)
				if n := statusOf(t, desk).Queued; n != 2 {
					t.Fatalf("%d messages wait", n)
				}
				close(hang)
				<-time.After(3 * time.Hour)
				expectLog(t, desk, c.want...)
			})
		})
	}
}

// rows counts the keys below a prefix.
func rows(t testing.TB, db backend.Database, prefix ...string) (n int) {
	t.Helper()
	must(t, db.Read(t.Context(), func(tx backend.ReadTx) error {
		pairs, err := tx.GetRange(backend.Key(nil).Str(prefix...).Tree(), backend.RangeOptions{}).Get()
		n = len(pairs)
		return err
	}))
	return n
}

// A timer's message that is stale says nothing about the timer as it is set now.
func TestWithdrawingAStaleTimerMessageLeavesTheTimer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		db := store.Open()
		hang := make(chan struct{})
		def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
			<-hang
			return "", nil
		})
		run(t, dserver.Consumer{}, db, def)
		desk := def.At(db, "a")
		must(t, desk.Cast(t.Context(), Remind{"t", 10 * time.Second}))
		must(t, desk.Cast(t.Context(), Pay{How: "lock"}))
		<-time.After(20 * time.Second) // the message waits for the lock
		must(t, desk.Cast(t.Context(), Remind{"t", time.Hour}, dserver.Priority()))
		synctest.Wait() // the timer is set again
		for q, err := range desk.Queue(t.Context()) {
			must(t, err)
			must(t, desk.Withdraw(t.Context(), q.Stamp))
		}
		close(hang)
		<-time.After(2 * time.Hour)
		expectLog(t, desk, "paid lock", "timer t")
	})
}

// A process that was taken for dead, and whose mailbox is gone, tells the calls that wait, whoever writes its record anew.
func TestCallsOfAProcessThatWasTakenForDeadEnd(t *testing.T) {
	for _, consumes := range []bool{false, true} {
		t.Run(fmt.Sprint("consumes ", consumes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := backendtest.NewStore()
				db := store.Open()
				def := desks(noWork)
				if consumes {
					run(t, dserver.Consumer{}, db, journals)
				}
				told := make(chan error, 1)
				go func() {
					_, err := dserver.Call(context.Background(), def.At(db, "a"), Jots{}) // nobody runs desks
					told <- err
				}()
				synctest.Wait()
				<-time.After(2 * time.Minute)
				must(t, store.Open().Transact(t.Context(), func(tx backend.Tx) error {
					tx.Clear(backend.NewKey("p").Below())
					return nil
				}))
				if !consumes { // another call's push writes the record
					<-time.After(61 * time.Second)
					short, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_, _ = dserver.Call(short, def.At(db, "b"), Jots{})
				}
				select {
				case err := <-told:
					if !errors.Is(err, dserver.ErrReplyLost) {
						t.Fatal(err)
					}
				case <-time.After(time.Hour):
					t.Fatal("the call waits for ever")
				}
			})
		})
	}
}

// An attempt that fails in one consumer, while another one is handling the message, is not counted for a message that is
// gone: the record would stay, and the server would look like one that has trouble, for ever.
func TestAttemptsAreThoseOfAMessageThatWaits(t *testing.T) {
	for _, priority := range []bool{false, true} {
		t.Run(fmt.Sprintf("priority=%v", priority), func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() backend.Database) {
				ctx := within(t)
				began, counted := make(chan struct{}), make(chan struct{})
				var first sync.Once
				types := func(handle func() error) *dserver.Definition[Journal] {
					return journals.With(
						dserver.Settings[Journal]{MaxAttempts: 100},
						dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Mark) error {
							j.write(m.Line)
							return handle()
						}))
				}
				succeeds := types(func() error {
					first.Do(func() {
						close(began)
						<-counted
					})
					return nil
				})
				breaks := types(func() error { panic("it breaks") })
				s := succeeds.At(open(), "a")
				opts := []dserver.Option{}
				if priority {
					opts = append(opts, dserver.Priority())
				}
				must(t, s.Cast(ctx, Mark{"once"}, opts...))
				run(t, dserver.Consumer{}, open(), succeeds)
				<-began
				stop := run(t, dserver.Consumer{}, open(), breaks)
				eventually(t, "an attempt is counted", func() bool { return statusOf(t, s).Attempts > 0 })
				stop()
				close(counted)
				eventually(t, "it is handled", func() bool { return statusOf(t, s).Queued == 0 })
				if got := statusOf(t, s); got.Attempts != 0 {
					t.Errorf("afterwards it is %+v", got)
				}
				state, err := s.State(ctx)
				must(t, err)
				expectLines(t, state.Lines, "once")
			})
		})
	}
}

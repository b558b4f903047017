package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Till is a server whose locked work must not take too long.
type Till struct {
	Paying     string // the payment that the lock is for
	Paid, Late []string
	Log        []string
}

type (
	Charge struct {
		dserver.Returns[string]
		ID    string
		Limit time.Duration
	}
	TooSlow struct{ ID string }
)

var errTooSlow = &dserver.Error{Code: "too-slow", Text: "the payment takes too long"}

// tills ends a payment that takes too long, by a timer that goes past the lock.
func tills(charge func(ctx *dserver.LockedContext, t Till, m Charge) (string, error)) *dserver.Definition[Till] {
	return dserver.Define("till",
		dserver.HandleCall(func(ctx *dserver.Context, t *Till, m Charge) (string, error) {
			t.Paying = m.ID
			ctx.SetTimer("too slow", m.Limit, TooSlow{m.ID}, dserver.Priority())
			ctx.Lock()
			return "", nil
		}),
		dserver.HandleLockedCall(charge, func(ctx *dserver.Context, t *Till, m Charge, receipt string) (string, error) {
			t.Paying, t.Paid = "", append(t.Paid, m.ID)
			ctx.CancelTimer("too slow")
			return receipt, nil
		}),
		dserver.HandleCast(func(ctx *dserver.Context, t *Till, m TooSlow) error {
			if t.Paying == m.ID {
				t.Paying, t.Late = "", append(t.Late, m.ID)
				ctx.Unlock(fmt.Errorf("%s: %w", m.ID, errTooSlow))
			}
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, t *Till, m Jot) error { t.Log = append(t.Log, m.Text); return nil }),
		dserver.HandleCall(func(_ *dserver.Context, t *Till, _ Jots) ([]string, error) {
			return slices.Concat(t.Log, t.Late, t.Paid), nil
		}),
	)
}

// The program that a timer with Priority and Unlock are for: the customer is told in time, the server goes on, the work's
// context ends, and a receipt that comes after all is refused.
func TestTimerEndsWorkThatTakesTooLong(t *testing.T) {
	t.Parallel()
	for _, apart := range []bool{false, true} {
		t.Run(map[bool]string{false: "beside", true: "apart"}[apart], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				endSlowPayment(t, newStore(t, tills(nil)).Open, apart, 20*time.Second, time.Second)
			})
			eachRealStore(t, func(t *testing.T, open func() backend.Database) {
				endSlowPayment(t, open, apart, 50*time.Millisecond, patience)
			})
		})
	}
}

// endSlowPayment lets a payment take longer than a limit, and expects that its work knows within a time.
func endSlowPayment(t *testing.T, open func() backend.Database, apart bool, limit, known time.Duration) {
	working, ended, seen := make(chan struct{}), make(chan time.Time, 1), make(chan time.Time, 1)
	def := tills(func(ctx *dserver.LockedContext, _ Till, m Charge) (string, error) {
		if m.ID != "slow" {
			return "receipt of " + m.ID, nil
		}
		close(working)
		<-ctx.Done()
		seen <- time.Now()
		return "a receipt that comes too late", nil
	})
	db := open()
	run(t, dserver.Consumer{}, db, def)
	if apart {
		run(t, dserver.Consumer{}, open(), def) // who handles the timer may not be who works
		db = open()
	}
	s, ctx := def.At(db, "a"), within(t)
	began := time.Now()
	answer := make(chan error, 1)
	go func() {
		_, err := dserver.Call(ctx, s, Charge{ID: "slow", Limit: limit})
		ended <- time.Now()
		answer <- err
	}()
	<-working
	must(t, s.Cast(ctx, Jot{"waited"}))
	if err := <-answer; !errors.Is(err, errTooSlow) || !strings.Contains(err.Error(), "slow: the payment takes too long") {
		t.Errorf("its caller got %v", err)
	}
	at := <-ended
	if took := at.Sub(began); took < limit {
		t.Errorf("it was ended after %v", took)
	}
	if took := (<-seen).Sub(at); took > known {
		t.Errorf("its context ended %v later", took)
	}
	if receipt, err := dserver.Call(ctx, s, Charge{ID: "quick", Limit: time.Hour}); receipt != "receipt of quick" || err != nil {
		t.Errorf("the next one is answered %q, %v", receipt, err)
	}
	if got, err := dserver.Call(ctx, s, Jots{}); fmt.Sprint(got, err) != "[waited slow quick] <nil>" {
		t.Errorf("%q, %v", got, err)
	}
	if status := statusOf(t, s); status.Locked || status.DeadLetters != 0 || status.Queued != 0 {
		t.Errorf("%+v", status)
	}
	if n := rows(t, open(), "s", "till", "a", "t") + rows(t, open(), "s", "till", "a", "w"); n != 0 {
		t.Errorf("%d rows are left of timers and of the message", n)
	}
}

// Of the end of the work and the end before its time one counts, whoever is first, and the caller is told which.
func TestWorkIsAppliedOrEndedBeforeItsTime(t *testing.T) {
	const payments, limit = 40, 20 * time.Millisecond
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		def := tills(func(_ *dserver.LockedContext, _ Till, m Charge) (string, error) {
			<-time.After(limit + rand.N(limit/2)) // the timer is set some time before, and takes some to come
			return m.ID, nil
		})
		for range 2 {
			start(t, open(), def)
		}
		db, ctx := open(), within(t)
		var all sync.WaitGroup
		var mu sync.Mutex
		paid := 0
		for i := range payments {
			all.Go(func() {
				s := def.At(db, fmt.Sprint(i))
				receipt, err := dserver.Call(ctx, s, Charge{ID: "x", Limit: limit})
				if err != nil && !errors.Is(err, errTooSlow) || err == nil && receipt != "x" {
					t.Errorf("%d: %q, %v", i, receipt, err)
				}
				must(t, s.Call(ctx, Jot{"after"}, nil))
				state, stateErr := s.State(ctx)
				must(t, stateErr)
				if isPaid := err == nil; len(state.Paid) != map[bool]int{true: 1}[isPaid] || len(state.Late) != 1-len(state.Paid) {
					t.Errorf("%d: its caller got %v, and the state is %+v", i, err, state)
				}
				mu.Lock()
				paid += len(state.Paid)
				mu.Unlock()
			})
		}
		all.Wait()
		t.Logf("%d of %d were paid", paid, payments)
	})
}

// Quit ends the locked work of a safe, in each way in which a handler can ask for that.
type Quit struct {
	dserver.Returns[string]
	How string
}

var errQuit = &dserver.Error{Code: "quit", Text: "it was ended"}

// quitting is a workshop whose work can be ended.
func quitting(w *workshop) *dserver.Definition[Safe] {
	return w.types.With(
		dserver.HandleCall(quit),
		dserver.HandleInfo(func(ctx *dserver.Context, s *Safe, m Quit) error {
			_, err := quit(ctx, s, m)
			return err
		}))
}

func quit(ctx *dserver.Context, s *Safe, m Quit) (string, error) {
	ctx.Cast(safe.Ref("other"), Stow{"told"})
	switch m.How {
	case "locks":
		ctx.Lock()
	case "resets":
		ctx.Reset()
	case "says nothing":
		ctx.Unlock(nil)
		return "done", s.see("quit")
	}
	ctx.Unlock(errQuit)
	switch m.How {
	case "refuses":
		return "", errors.Join(s.see("quit"), errDenied)
	case "keeps":
		return "", dserver.Keep(errors.Join(s.see("quit"), errDenied))
	}
	return "done", s.see("quit")
}

// The end of the work is committed with all else that the handler did, or not at all.
func TestUnlockIsPartOfItsTurn(t *testing.T) {
	t.Parallel()
	for how, c := range map[string]struct {
		reply string // of who asks for it
		ends  bool
		seen  []string // when the work was ended, and the queue has gone on
	}{
		"succeeds":     {"done, <nil>", true, []string{"quit", "waits", "after"}},
		"by info":      {", <nil>", true, []string{"quit", "waits", "after"}},
		"keeps":        {", no", true, []string{"quit", "waits", "after"}},
		"resets":       {"done, <nil>", true, []string{"waits", "after"}},
		"refuses":      {", no", false, nil},
		"says nothing": {", dserver: Unlock without an error: the caller of the work has to be told something", false, nil},
		"locks":        {", dserver: Lock and Unlock in one turn: cast what locks to this server, and it comes next", false, nil},
	} {
		t.Run(how, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() backend.Database) {
				w := newWorkshop()
				def := quitting(w)
				db, ctx := open(), within(t)
				start(t, db, def)
				s, other := def.At(db, "a"), def.At(db, "other")
				answer := toil(s, w)
				must(t, s.Cast(ctx, Stow{"waits"}))
				var reply string
				var err error
				if how == "by info" {
					err = s.Info(ctx, Quit{})
				} else {
					reply, err = dserver.Call(ctx, s, Quit{How: how}, dserver.Priority())
				}
				if got := fmt.Sprintf("%s, %v", reply, err); got != c.reply {
					t.Errorf("who asked for it got %s", got)
				}
				if !c.ends {
					if _, err := other.State(ctx); !errors.Is(err, dserver.ErrNotFound) || !statusOf(t, s).Locked {
						t.Errorf("what was rolled back left something: %v", err)
					}
					w.find <- "found"
					if got := <-answer; got != "found<nil>" {
						t.Errorf("the locked message's caller got %s", got)
					}
					expectSeen(t, s, "toil", "waits")
					return
				}
				if got := <-answer; got != "it was ended" {
					t.Errorf("the locked message's caller got %s", got)
				}
				if !(<-w.ended).lost {
					t.Error("the work's context did not end")
				}
				must(t, s.Call(ctx, Stow{"after"}, nil))
				expectSeen(t, s, c.seen...)
				expectSeen(t, other, "told")
				if status := statusOf(t, s); status.Locked || status.DeadLetters != 0 || status.Queued != 0 {
					t.Errorf("%+v", status)
				}
			})
		})
	}
}

// Work that nobody waits for is set aside with what the handler says, and can be retried. Its idempotency key has that
// outcome. Whoever holds the lock, or does not any more: it is ended.
func TestWorkThatWasCastIsSetAsideWhenItIsEnded(t *testing.T) {
	for _, holder := range []string{"lives", "died", "gave it up"} {
		t.Run(holder, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { quitCast(t, newStore(t, safe).Open, holder) })
			if holder != "gave it up" { // after the grace of a stop, which is long
				eachRealStore(t, func(t *testing.T, open func() backend.Database) { quitCast(t, open, holder) })
			}
		})
	}
}

func quitCast(t *testing.T, open func() backend.Database, holder string) {
	w := newWorkshop()
	def := quitting(w)
	first, db, ctx := open(), open(), within(t)
	stop := run(t, dserver.Consumer{}, first, def)
	s := def.At(db, "a")
	must(t, s.Cast(ctx, Toil{ID: "toil"}, dserver.Once("k")))
	<-w.entered
	switch holder {
	case "died":
		stopNow(t, first, stop)
	case "gave it up":
		stop()
	}
	before := statusOf(t, s)
	if !before.Locked {
		t.Fatalf("%+v", before)
	}
	log := &logged{t: t}
	second := def
	if holder == "gave it up" { // whoever comes takes it over at once, unless it cannot
		second = safe.With(dserver.HandleCall(quit))
	}
	run(t, dserver.Consumer{Logger: log.logger()}, db, second)
	must(t, s.Call(ctx, Quit{}, nil, dserver.Priority()))
	all := letters(t, s)
	if len(all) != 1 || all[0].Stamp.IsZero() || !errors.Is(&all[0].Err, errQuit) || all[0].Message.Name != "Toil" || all[0].Attempts != before.Attempts {
		t.Fatalf("%+v", all)
	}
	if err := s.Call(ctx, Toil{ID: "toil"}, nil, dserver.Once("k")); !errors.Is(err, errQuit) {
		t.Errorf("sent again with its key, it is %v", err)
	}
	told := log.about("warn", "Toil")
	if holder != "lives" && (len(told) != 1 || told[0]["stamp"] != all[0].Stamp.String() || told[0]["code"] != "quit") {
		t.Errorf("it was logged as %v", told)
	}
	if status := statusOf(t, s); status.Locked || status.DeadLetters != 1 || status.Queued != 0 {
		t.Errorf("%+v", status)
	}
	expectSeen(t, s, "quit")
	if holder == "gave it up" {
		run(t, dserver.Consumer{}, open(), def)
	}
	<-w.ended
	must(t, s.Retry(ctx, all[0]))
	<-w.entered
	w.find <- "found"
	expectSeen(t, s, "quit", "toil")
}

// A server that has halted under its lock goes on without the message, whoever ends it: nothing else leads to it then.
func TestUnlockEndsWorkThatHasHalted(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(ctx context.Context, s *dserver.DServer[Safe]) error{
		"by a message": func(ctx context.Context, s *dserver.DServer[Safe]) error {
			return s.Call(ctx, Quit{}, nil, dserver.Priority())
		},
		"by info": func(ctx context.Context, s *dserver.DServer[Safe]) error { return s.Info(ctx, Quit{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				def := quitting(&workshop{types: safes(func(*dserver.LockedContext, Safe, Toil) (string, error) {
					return "", errors.New("away")
				})}).With(dserver.Settings[Safe]{MaxAttempts: 2, Halt: true})
				store, ctx := newStore(t, def), context.Background()
				run(t, dserver.Consumer{}, store.Open(), def)
				s := def.At(store.Open(), "a")
				must(t, s.CastAll(ctx, []any{Toil{ID: "toil"}, Stow{"waits"}}))
				expectHalted(t, s, 2, 1, time.Hour)
				must(t, end(ctx, s))
				expectSeen(t, s, "quit", "waits")
				if status := statusOf(t, s); status.Halted || status.Locked {
					t.Errorf("%+v", status)
				}
				if all := letters(t, s); len(all) != 1 || all[0].Attempts != 2 {
					t.Errorf("%+v", all)
				}
			})
		})
	}
}

// Without work there is nothing to end: of before its time, of none, and of work that is about to be applied.
func TestUnlockWithoutWorkDoesNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ending := journals.With(
			dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Mark) error {
				ctx.Unlock(errQuit)
				j.write(m.Line)
				return nil
			}),
			dserver.HandleLocked(
				func(*dserver.LockedContext, Journal, Guarded) (int, error) { return 0, nil },
				func(ctx *dserver.Context, j *Journal, m Guarded, _ int) error {
					ctx.Unlock(errQuit)
					j.write("applied " + m.Line)
					if m.Line == "kept" {
						return dserver.Keep(errDenied)
					}
					return nil
				}))
		db, ctx := open(), within(t)
		start(t, db, ending)
		s, away := ending.At(db, "a"), ending.At(open(), "a")
		must(t, s.Call(ctx, Mark{"here"}, nil))
		must(t, away.CastAll(ctx, []any{Mark{"1"}, Mark{"2"}, Write{"3"}}))
		must(t, away.Cast(ctx, Mark{"4"}, dserver.Priority()))
		if err := away.Call(ctx, Guarded{"x"}, nil); err == nil || !strings.Contains(err.Error(), "Unlock in the apply of locked work") {
			t.Errorf("in apply it is %v", err)
		}
		if err := away.Call(ctx, Guarded{"kept"}, nil); !errors.Is(err, errDenied) {
			t.Errorf("in apply that keeps its changes it is %v", err)
		}
		seen := lines(t, s)
		if slices.Sort(seen); !slices.Equal(seen, []string{"1", "2", "3", "4", "applied kept", "here"}) {
			t.Errorf("%q", seen)
		}
		if status := statusOf(t, s); status.DeadLetters != 0 || status.Locked {
			t.Errorf("%+v", status)
		}
	})
}

// The holder's beats are no conflict for a handler that takes longer than from one to the next.
func TestSlowHandlerEndsLockedWork(t *testing.T) {
	for _, how := range []string{"", "resets"} {
		synctest.Test(t, func(t *testing.T) {
			w, runs := newWorkshop(), 0
			def := w.types.With(dserver.HandleCall(func(ctx *dserver.Context, s *Safe, m Quit) (string, error) {
				runs++
				<-time.After(3 * time.Second)
				return quit(ctx, s, m)
			}))
			db := newStore(t, def).Open()
			run(t, dserver.Consumer{}, db, def)
			s := def.At(db, "a")
			answer := toil(s, w)
			<-time.After(10 * time.Second) // it has beaten
			must(t, s.Call(within(t), Quit{How: how}, nil, dserver.Priority()))
			if got := <-answer; got != "it was ended" || runs != 1 {
				t.Errorf("the locked message's caller got %s after %d runs", got, runs)
			}
		})
	}
}

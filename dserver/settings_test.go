package dserver_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Each type has its own time for its handlers, and a worker that ran one type gives the next its own.
func TestHandlerLimitIsOfTheType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lingers := func(name string, limit, want time.Duration) *dserver.Definition[Journal] {
			return dserver.Define(name, dserver.Settings[Journal]{HandlerLimit: limit},
				dserver.HandleCast(func(ctx *dserver.Context, _ *Journal, m Linger) error {
					if at, _ := ctx.Context().Deadline(); time.Until(at) != want {
						t.Errorf("%s: the deadline is in %v", name, time.Until(at))
					}
					<-time.After(m.For)
					return nil
				}))
		}
		short, long := lingers("short", time.Second, time.Second), lingers("long", 0, 4*time.Second)
		db := newStore(t, short, long).Open()
		run(t, dserver.Consumer{Turns: 1}, db, short, long)
		synctest.Wait()
		for _, c := range []struct {
			def  *dserver.Definition[Journal]
			took time.Duration
			text string // of the error; "": none
		}{
			{short, 900 * time.Millisecond, ""}, {long, 3 * time.Second, ""}, {short, 2 * time.Second, "within 1s"},
			{long, 3 * time.Second, ""}, {long, 5 * time.Second, "within 4s"}, {short, 900 * time.Millisecond, ""},
		} {
			began := time.Now()
			err := c.def.At(db, "a").Call(within(t), Linger{c.took}, nil)
			took := time.Since(began)
			switch {
			case c.text == "" && err != nil:
				t.Errorf("%s, %v: %v", c.def.Name(), c.took, err)
			case c.text != "" && (!errors.Is(err, dserver.ErrFault) || !strings.Contains(err.Error(), c.text)):
				t.Errorf("%s, %v: %v", c.def.Name(), c.took, err)
			case c.text != "" && took >= c.took:
				t.Errorf("%s, %v: it was given up after %v", c.def.Name(), c.took, took)
			}
		}
		<-time.After(time.Minute) // those that were left behind return
	})
}

// A batch ends early enough for a short limit: messages that are much quicker do not overrun it together.
func TestBatchEndsWellBeforeAShortLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		types := dserver.Define("brisk", dserver.Settings[Journal]{HandlerLimit: 100 * time.Millisecond},
			dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Linger) error {
				runs.Add(1)
				<-time.After(m.For)
				j.write("lingered")
				return nil
			}))
		store := newStore(t, types)
		batch := make([]any, 40)
		for i := range batch {
			batch[i] = Linger{15 * time.Millisecond}
		}
		must(t, types.At(store.Open(), "a").CastAll(t.Context(), batch))
		run(t, dserver.Consumer{}, store.Open(), types)
		<-time.After(10 * time.Second)
		if n := runs.Load(); n != 40 {
			t.Errorf("40 messages were handled %d times", n)
		}
	})
}

// The waits between attempts are those of the settings, of messages and of locked work.
func TestBackOffIsOfTheType(t *testing.T) {
	const first, most = 10 * time.Second, 25 * time.Second
	for _, isLocked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Time
			def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
				at = append(at, time.Now())
				return "", errors.New("the gateway is away")
			})
			if !isLocked {
				def = dserver.Define("desk", dserver.HandleCall(func(*dserver.Context, *Desk, Pay) (string, error) {
					at = append(at, time.Now())
					panic("a blot")
				}))
			}
			def = def.With(dserver.Settings[Desk]{MaxAttempts: 4, BackOff: first, MaxBackOff: most})
			store := newStore(t, def)
			must(t, def.At(store.Open(), "a").Cast(t.Context(), Pay{}))
			stop := run(t, dserver.Consumer{}, store.Open(), def)
			<-time.After(5 * time.Minute)
			stop()
			if len(at) != 4 {
				t.Fatalf("locked %v: %d attempts", isLocked, len(at))
			}
			for i, longest := range []time.Duration{first, most, most} {
				if gap := at[i+1].Sub(at[i]); gap < longest*3/4 || gap > longest {
					t.Errorf("locked %v: after attempt %d it waited %v, not up to %v", isLocked, i+1, gap, longest)
				}
			}
		})
	}
}

// A consumer with other settings keeps to the wait that was stored.
func TestStoredBackOffIsKeptByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts atomic.Int64
		define := func(s dserver.Settings[Journal]) *dserver.Definition[Journal] {
			return dserver.Define("brittle", s, dserver.HandleCast(func(*dserver.Context, *Journal, Mark) error {
				attempts.Add(1)
				panic("brittle")
			}))
		}
		patient, hasty := define(dserver.Settings[Journal]{BackOff: 20 * time.Second}), define(dserver.Settings[Journal]{BackOff: time.Millisecond})
		store := newStore(t, hasty)
		must(t, hasty.At(store.Open(), "a").Cast(t.Context(), Mark{}))
		stop := run(t, dserver.Consumer{}, store.Open(), patient)
		<-time.After(time.Second)
		stop()
		run(t, dserver.Consumer{}, store.Open(), hasty)
		<-time.After(14 * time.Second)
		if n := attempts.Load(); n != 1 {
			t.Errorf("%d attempts before the wait was over", n)
		}
		<-time.After(10 * time.Second)
		if n := attempts.Load(); n != 5 {
			t.Errorf("%d attempts after it", n)
		}
	})
}

// Run waits for its grace and no longer, and work is told shortly before.
func TestGraceIsOfTheConsumer(t *testing.T) {
	for _, c := range []struct{ grace, work time.Duration }{
		{time.Second, 900 * time.Millisecond}, {0, 9 * time.Second}, {time.Minute, 59 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkshop()
			types := w.types.With(dserver.Settings[Safe]{WorkLimit: time.Hour})
			store := newStore(t, types)
			stop := run(t, dserver.Consumer{Grace: c.grace}, store.Open(), types)
			answer := toil(types.At(store.Open(), "a"), w)
			run(t, dserver.Consumer{}, store.Open(), types)
			began := time.Now()
			stop()
			if a := <-w.ended; !a.lost || time.Since(began) != c.work {
				t.Errorf("grace %v: the work ended after %v, its context: %v", c.grace, time.Since(began), a.lost)
			}
			if a := <-w.entered; a.number != 1 || time.Since(began) > c.work+500*time.Millisecond {
				t.Errorf("grace %v: attempt %d began elsewhere after %v", c.grace, a.number, time.Since(began))
			}
			w.find <- "found"
			<-answer
		})
		synctest.Test(t, func(t *testing.T) { graceEnds(t, c.grace, c.work) })
	}
}

// graceEnds is of work that does not return: its lock is given up within the grace.
func graceEnds(t *testing.T, grace, work time.Duration) {
	goOn, began := make(chan struct{}), make(chan struct{}, 9)
	def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
		began <- struct{}{}
		<-goOn
		return "", nil
	}).With(dserver.Settings[Desk]{WorkLimit: time.Hour})
	store := newStore(t, def)
	must(t, def.At(store.Open(), "a").Cast(t.Context(), Pay{}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func(db backend.Database) {
		ended <- dserver.Consumer{Grace: grace, Logger: zerolog.Nop()}.Run(ctx, db, def)
	}(store.Open())
	<-began
	run(t, dserver.Consumer{}, store.Open(), def)
	stopped := time.Now()
	cancel()
	<-began
	if took, whole := time.Since(stopped), work*10/9; took < work || took > whole {
		t.Errorf("grace %v: work began elsewhere after %v", grace, took)
	}
	err := <-ended
	most := grace + 2*time.Second
	if grace == 0 {
		most = 12 * time.Second
	}
	if took := time.Since(stopped); took != most || err == nil || !strings.Contains(err.Error(), "within "+most.String()) {
		t.Errorf("grace %v: Run ended after %v with %v", grace, took, err)
	}
	close(goOn)
}

// What work has found within a short grace, and what no turn takes in it, gives its lock up while that can be committed.
func TestResultWithoutATurnInAShortGraceGivesTheLockUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, goOn := make(chan struct{}, 9), make(chan struct{})
		var lingered atomic.Bool
		def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
			began <- struct{}{}
			<-goOn
			return "receipt", nil
		}).With(dserver.HandleCast(func(_ *dserver.Context, _ *Desk, m Linger) error {
			if lingered.CompareAndSwap(false, true) { // elsewhere it returns
				<-time.After(m.For)
			}
			return nil
		}))
		store := newStore(t, def)
		d := def.At(store.Open(), "a")
		must(t, d.Cast(t.Context(), Pay{}))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func(db backend.Database) {
			ended <- dserver.Consumer{Grace: time.Second, Logger: zerolog.Nop()}.Run(ctx, db, def)
		}(store.Open())
		<-began
		must(t, d.Cast(t.Context(), Linger{2 * time.Second}, dserver.Priority()))
		<-time.After(100 * time.Millisecond)
		run(t, dserver.Consumer{}, store.Open(), def)
		stopped := time.Now()
		cancel()
		close(goOn)
		<-began
		if took := time.Since(stopped); took > 1200*time.Millisecond {
			t.Errorf("work began elsewhere after %v", took)
		}
		<-ended
	})
}

// A grace that is none is an error of Run.
func TestGraceIsNotNegative(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := dserver.Consumer{Grace: -time.Second}.Run(ctx, newStore(t, journals).Open(), journals)
	if err == nil || !strings.Contains(err.Error(), "Consumer.Grace of -1s") {
		t.Errorf("Run: %v", err)
	}
}

package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Drawer is a Journal of an older form.
type Drawer struct{ Lines []string }

// hanging is journals of which what, and nothing else, calls hang: a part of the program that does not return.
func hanging(what string, hang func()) *dserver.Definition[Journal] {
	hangsAt := func(at string) {
		if at == what {
			hang()
		}
	}
	return journals.With(
		dserver.Settings[Journal]{MaxAttempts: 99, WorkLimit: time.Second},
		dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Mark) error {
			hangsAt("the handler of Mark")
			j.write(m.Line)
			ctx.AfterCommit(func() { hangsAt("an AfterCommit function") })
			return nil
		}),
		dserver.HandleLocked(
			func(*dserver.LockedContext, Journal, Guarded) (int, error) {
				hangsAt("the work of Guarded")
				return 0, nil
			},
			func(_ *dserver.Context, j *Journal, m Guarded, _ int) error {
				j.write(m.Line)
				return nil
			}),
		dserver.Upgrade(1, func(old Drawer, j *Journal) error {
			hangsAt("a turn")
			j.Lines = old.Lines
			return nil
		}),
	)
}

// Run ends although something of the user's does not return, and says what. It is not committed when it returns after
// all, and its message is there for others.
func TestRunEndsWithoutWhatDoesNotReturn(t *testing.T) {
	for _, what := range []string{"the handler of Mark", "an AfterCommit function", "the work of Guarded", "a turn"} {
		for _, before := range []time.Duration{0, time.Minute} { // how long it has not returned when Run's context ends
			t.Run(what+" for "+before.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { leftBehind(t, what, before) })
			})
		}
	}
}

func leftBehind(t *testing.T, what string, before time.Duration) {
	goOn, hangs := make(chan struct{}), make(chan struct{}, 99)
	letGo := sync.OnceFunc(func() { close(goOn) })
	defer letGo()
	types := hanging(what, func() {
		hangs <- struct{}{}
		<-goOn
	})
	whole := hanging("nothing", nil)
	store := newStore(t, whole)
	s := whole.At(store.Open(), "a")
	ctx := context.Background()
	if what == "a turn" {
		older := dserver.Define("journal", dserver.HandleCast(func(_ *dserver.Context, d *Drawer, m Write) error {
			d.Lines = append(d.Lines, m.Line)
			return nil
		}))
		stop := run(t, dserver.Consumer{}, store.Open(), older)
		must(t, older.At(store.Open(), "a").Cast(ctx, Write{"older"}))
		synctest.Wait()
		stop()
	}
	var m any = Mark{"once"}
	if what == "the work of Guarded" {
		m = Guarded{"once"}
	}
	must(t, s.Cast(ctx, m))

	var log bytes.Buffer
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- dserver.Consumer{Logger: zerolog.New(zerolog.SyncWriter(&log))}.Run(running, store.Open(), types)
	}()
	<-hangs
	<-time.After(before)
	began := time.Now()
	stop()
	err := <-ended
	if took := time.Since(began); took > 13*time.Second {
		t.Errorf("Run ended after %v", took)
	}
	if err == nil || !strings.Contains(err.Error(), what+" in journal/a") {
		t.Errorf("Run: %v", err)
	}
	if lines := log.String(); !strings.Contains(lines, `"function":"`+what+`"`) || strings.Contains(lines, "careful") {
		t.Errorf("the log is %s", lines)
	}

	run(t, dserver.Consumer{}, store.Open(), whole)
	want := []string{"once"}
	if what == "a turn" {
		want = []string{"older", "once"}
	}
	all, err := dserver.Call(ctx, s, Lines{}) // after the back-off
	must(t, err)
	expectLines(t, all, want...)
	letGo()
	synctest.Wait()
	expectLines(t, lines(t, s), want...)
}

// A Run that waits long enough for what returns late ends in good order.
func TestRunWaitsForAHandlerThatReturnsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan struct{}, 9)
		types := hanging("the handler of Mark", func() {
			entered <- struct{}{}
			<-time.After(9 * time.Second)
		})
		store := newStore(t, types)
		s := types.At(store.Open(), "a")
		must(t, s.Cast(context.Background(), Mark{"once"}))
		stop := run(t, dserver.Consumer{}, store.Open(), types)
		<-entered
		began := time.Now()
		stop() // it expects no error
		if took := time.Since(began); took < 8*time.Second || took > 10*time.Second {
			t.Errorf("Run ended after %v", took)
		}
		if status := statusOf(t, s); status.Queued != 1 || status.Attempts != 1 {
			t.Errorf("%+v", status)
		}
	})
}

// Work that ends its goroutine has failed at once, and not when its time is up.
func TestWorkThatEndsItsGoroutineIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		types := hanging("the work of Guarded", func() {
			if runs++; runs == 1 {
				runtime.Goexit()
			}
		})
		store := newStore(t, types)
		run(t, dserver.Consumer{}, store.Open(), types)
		s, began := types.At(store.Open(), "a"), time.Now()
		must(t, s.Call(context.Background(), Guarded{"once"}, nil))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		expectLines(t, lines(t, s), "once")
	})
}

// A handler that overran and returns while the store would still take its commit has no effect: its caller was told so.
func TestHandlerThatReturnsAfterItsTurnWasTakenOverHasNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := sync.OnceFunc(func() { <-time.After(4500 * time.Millisecond) })
		types := hanging("the handler of Mark", late)
		db := newStore(t, types).Open()
		run(t, dserver.Consumer{}, db, types)
		synctest.Wait()
		s, ctx := types.At(db, "a"), context.Background()
		if err := s.Call(ctx, Mark{"late"}, nil); !errors.Is(err, dserver.ErrFault) {
			t.Errorf("its caller is told %v", err)
		}
		<-time.After(time.Minute)
		must(t, s.Call(ctx, Mark{"next"}, nil))
		expectLines(t, lines(t, s), "next")
	})
}

// What returned late after all is not among what Run leaves behind.
func TestRunNamesOnlyWhatHasNotReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn, hangs := make(chan struct{}), make(chan struct{}, 9)
		defer close(goOn)
		var n atomic.Int32
		types := hanging("the handler of Mark", func() {
			switch n.Add(1) {
			case 1:
				<-time.After(10 * time.Second)
			case 3:
				hangs <- struct{}{}
				<-goOn
			}
		})
		store := newStore(t, types)
		db := store.Open()
		running, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- dserver.Run(running, db, types) }()
		far := store.Open()
		must(t, types.At(far, "late").Call(context.Background(), Mark{"again"}, nil))
		<-time.After(time.Minute)
		must(t, types.At(far, "never").Cast(context.Background(), Mark{}))
		<-hangs
		stop()
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "journal/never") || strings.Contains(err.Error(), "journal/late") {
			t.Errorf("Run: %v", err)
		}
	})
}

// stuckDB is a store that from some moment on answers no commit before the context ends.
type stuckDB struct {
	backend.Database
	stuck atomic.Bool
}

func (d *stuckDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	if d.stuck.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.Database.Transact(ctx, fn)
}

// A turn that waits for the store when Run ends is given up after the grace, and is not left behind.
func TestRunGivesUpCommitsThatTheStoreDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		db := &stuckDB{Database: store.Open()}
		stop := run(t, dserver.Consumer{}, db, journals)
		synctest.Wait()
		db.stuck.Store(true)
		told := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			told <- journals.At(db, "a").Call(ctx, Append{}, nil)
		}()
		<-time.After(5 * time.Millisecond) // the turn has it
		stop()                             // it expects no error
		db.stuck.Store(false)
		<-told
	})
}

// Locked work whose end finds no worker when Run ends is applied all the same, as soon as there is one.
func TestEndOfWorkThatFindsNoWorkerWhenRunEndsIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn, busy := make(chan struct{}), make(chan struct{})
		w := newWorkshop()
		store := newStore(t, w.types)
		db := store.Open()
		types := w.types.With(dserver.HandleCast(func(*dserver.Context, *Safe, Mark) error {
			close(busy)
			<-goOn
			return nil
		}))
		stop := run(t, dserver.Consumer{Turns: 1}, db, types)
		answer := toil(w.types.At(store.Open(), "a"), w)
		<-time.After(time.Second)
		must(t, types.At(store.Open(), "b").Cast(context.Background(), Mark{}))
		<-busy
		w.find <- "first"
		synctest.Wait() // its release waits for a worker
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }() // it expects no error
		synctest.Wait()
		close(goOn)
		<-stopped
		if got := <-answer; got != "first<nil>" {
			t.Errorf("the answer is %s", got)
		}
	})
}

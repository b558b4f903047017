package dserver_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// However locked work is ended from outside, its caller is told, its context ends, and what it found is refused.
func TestEndOfLockedWorkTellsTheCallerAndRefusesTheHolder(t *testing.T) {
	t.Parallel()
	type desk = *dserver.DServer[Desk]
	for name, c := range map[string]struct {
		end  func(context.Context, desk) error
		told *dserver.Error
		log  []string
		dead int64
	}{
		"kill":   {func(ctx context.Context, d desk) error { return d.Kill(ctx) }, dserver.ErrKilled, nil, 0},
		"reset":  {func(ctx context.Context, d desk) error { return d.Reset(ctx) }, dserver.ErrKilled, []string{"waits"}, 0},
		"unlock": {func(ctx context.Context, d desk) error { return d.Unlock(ctx) }, dserver.ErrFault, []string{"before", "waits"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			end := func(t *testing.T, open func() backend.Database, limit time.Duration) {
				d, took := endLockedWork(t, open, c.end, c.told)
				if took > limit {
					t.Errorf("its context ended after %v: it is its own time limit, and not the next beat", took)
				}
				expectLog(t, d, c.log...)
				if status := statusOf(t, d); status.Locked || status.DeadLetters != c.dead {
					t.Errorf("%+v", status)
				}
				for _, record := range []string{"b", "f", "k"} { // beat, fence, lock
					if rows(t, open(), "s", "desk", "a", "h", record) != 0 {
						t.Errorf("the lock has left its record %q", record)
					}
				}
			}
			synctest.Test(t, func(t *testing.T) { end(t, newStore(t, desks(noWork)).Open, time.Second) })
			eachRealStore(t, func(t *testing.T, open func() backend.Database) { end(t, open, patience) })
		})
	}
}

// endLockedWork ends work from another process than that of its holder, and says how long it took until the work knew.
func endLockedWork(
	t *testing.T, open func() backend.Database, end func(context.Context, *dserver.DServer[Desk]) error, told *dserver.Error,
) (d *dserver.DServer[Desk], took time.Duration) {
	t.Helper()
	entered, ended := make(chan struct{}, 10), make(chan struct{}, 10)
	def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return "a receipt that comes too late", nil
	})
	db := open()
	start(t, db, def)
	d = def.At(db, "a")
	ctx := within(t)
	must(t, d.Cast(ctx, Jot{"before"}))
	answer := make(chan error, 1)
	go func() { _, err := dserver.Call(ctx, d, Pay{}); answer <- err }()
	<-entered
	must(t, d.Cast(ctx, Jot{"waits"}))
	began := time.Now()
	must(t, end(ctx, def.At(open(), "a")))
	if err := <-answer; !errors.Is(err, told) {
		t.Errorf("the caller got %v", err)
	}
	<-ended
	return d, time.Since(began)
}

// Timers and messages with After are of one life: a later one does not get them.
func TestWhatIsDueLaterEndsWithTheServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end func(context.Context, *dserver.DServer[Desk]) error
		log []string
	}{
		"kill":  {func(ctx context.Context, d *dserver.DServer[Desk]) error { return d.Kill(ctx) }, []string{"timer new"}},
		"reset": {func(ctx context.Context, d *dserver.DServer[Desk]) error { return d.Reset(ctx) }, []string{"after", "timer new"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				def := desks(noWork)
				db := newStore(t, def).Open()
				start(t, db, def)
				d, ctx := def.At(db, "a"), context.Background()
				must(t, d.Cast(ctx, Remind{"old", 10 * time.Minute}))
				must(t, d.Cast(ctx, Jot{"after"}, dserver.After(10*time.Minute))) // it is as if it were on the queue
				expectLog(t, d)
				must(t, c.end(ctx, d))
				must(t, d.Cast(ctx, Remind{"new", 20 * time.Minute}))
				<-time.After(30 * time.Minute) // virtual
				expectLog(t, d, c.log...)
			})
		})
	}
}

func TestRetryWithPriorityGoesAheadOfTheQueue(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, d := setAside(t, db, Refusal{"no"})
		must(t, s.Cast(ctx, Note{1}))
		d.Message = dserver.Message{Name: "Note", Body: []byte{0xa1, 0x61, 'N', 0x02}}
		for _, opt := range []dserver.Option{dserver.Once("key"), dserver.After(time.Hour)} {
			if err := s.Retry(ctx, d, opt); err == nil {
				t.Error("an option that Retry does not know was taken")
			}
		}
		must(t, s.Retry(ctx, d, dserver.Priority()))
		start(t, db, ledgers)
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{2, 1}) {
			t.Errorf("seen %v", seen)
		}
	})
}

// A message with an idempotency key was taken, though nobody handled it: its outcome is that it was withdrawn.
func TestWithdrawnMessageIsTheOutcomeOfItsKey(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		must(t, s.Cast(ctx, Note{1}, dserver.Once("key")))
		must(t, s.Withdraw(ctx, waiting(t, s)[0].Stamp))
		if err := s.Call(ctx, Note{1}, nil, dserver.Once("key")); !errors.Is(err, dserver.ErrWithdrawn) {
			t.Errorf("sent again, it is %v", err)
		}
		if n := statusOf(t, s).Queued; n != 0 {
			t.Errorf("%d messages wait", n)
		}
	})
}

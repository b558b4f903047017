package dserver_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

func TestAPausedServerHandlesNothing(t *testing.T) {
	t.Parallel()
	def := ledgers.With(dserver.HandleInfo(func(_ *dserver.Context, l *Ledger, m Note) error { l.Seen = append(l.Seen, m.N); return nil }))
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s, far := def.At(db, "x"), def.At(open(), "x")
		start(t, db, def)
		must(t, s.Call(ctx, Note{0}, nil))
		must(t, far.Pause(dserver.WithActor(ctx, "ada")))
		must(t, far.Pause(dserver.WithActor(ctx, "bob"))) // it is paused
		must(t, s.Cast(ctx, Note{3}))
		must(t, far.Cast(ctx, Note{4}))
		must(t, s.Cast(ctx, Note{1}, dserver.Priority()))
		must(t, far.Cast(ctx, Note{2}, dserver.Priority()))
		if err := s.Info(ctx, Note{9}); !errors.Is(err, dserver.ErrPaused) {
			t.Errorf("an info of a paused server is %v", err)
		}
		<-time.After(1500 * time.Millisecond) // it is parked by now
		status := statusOf(t, s)
		if !status.Paused || status.PausedBy != "ada" || time.Since(status.PausedSince) > time.Minute || status.Queued != 4 {
			t.Errorf("%+v", status)
		}
		if seen, err := dserver.Query(ctx, s, Read{}); err != nil || !slices.Equal(seen, []int{0}) {
			t.Errorf("it has handled %v, %v", seen, err)
		}
		if ids := troubled(t, db); !slices.Equal(ids, []string{"x"}) {
			t.Errorf("in trouble are %v", ids)
		}
		must(t, far.Resume(ctx))
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{0, 1, 2, 3, 4}) {
			t.Errorf("it has handled %v", seen)
		}
		if err := s.Resume(ctx); !errors.Is(err, dserver.ErrNotFound) {
			t.Errorf("the second time: %v", err)
		}
		if ids := troubled(t, db); len(ids) > 0 {
			t.Errorf("in trouble are %v", ids)
		}
	})
}

// What runs as its server is paused is not committed, nor is it an attempt that failed; it is handled once, later.
func TestATurnDoesNotCommitAfterAPause(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]bool{"returns": false, "panics": true} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() backend.Database) {
				ctx := within(t)
				var runs atomic.Int32
				entered, leave := make(chan struct{}, 10), make(chan struct{})
				def := ledgers.With(dserver.HandleCast(func(_ *dserver.Context, l *Ledger, _ Write) error {
					l.Seen = append(l.Seen, 7)
					if runs.Add(1) == 1 {
						entered <- struct{}{}
						<-leave
						if breaks {
							panic("it broke")
						}
					}
					return nil
				}))
				db := open()
				s := def.At(db, "x")
				must(t, s.Cast(ctx, Write{}))
				start(t, db, def)
				<-entered
				must(t, def.At(open(), "x").Pause(ctx))
				close(leave)
				<-time.After(300 * time.Millisecond)
				status := statusOf(t, s)
				if _, err := s.State(ctx); !errors.Is(err, dserver.ErrNotFound) || status.Queued != 1 || status.Attempts != 0 || runs.Load() != 1 {
					t.Errorf("%d runs, %+v, %v", runs.Load(), status, err)
				}
				must(t, s.Resume(ctx))
				if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{7}) {
					t.Errorf("it has handled %v", seen)
				}
			})
		})
	}
}

// Work that has begun may end, and its result is applied. None begins while the server is paused: not the next attempt, not by
// another consumer, and not when the holder dies.
func TestLockedWorkOfAPausedServer(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"ends": false, "fails": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				attempts, leave := make(chan int, 10), make(chan struct{})
				def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
					attempts <- ctx.Attempt()
					<-leave
					if fails && ctx.Attempt() == 1 {
						return "", errors.New("the gateway is away")
					}
					return "ok", nil
				})
				store := newStore(t, def)
				s := def.At(store.Open(), "a")
				must(t, s.Cast(ctx, Pay{How: "card"}))
				run(t, dserver.Consumer{}, store.Open(), def)
				run(t, dserver.Consumer{}, store.Open(), def)
				<-attempts
				must(t, s.Pause(ctx))
				close(leave)
				<-time.After(10 * time.Minute)
				if !fails {
					expectStored(t, s, "paid card")
				}
				if status := statusOf(t, s); len(attempts) > 0 || status.Locked != fails || !status.Paused {
					t.Errorf("%d attempts, %+v", len(attempts), status)
				}
				must(t, s.Resume(ctx))
				expectLog(t, s, "paid card")
				if fails && <-attempts != 2 {
					t.Error("the attempt after the pause has another number")
				}
			})
		})
	}
}

// A server whose holder dies while it is paused is not taken over before its Resume.
func TestNobodyTakesOverTheLockOfAPausedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		attempts, leave := make(chan int, 10), make(chan struct{})
		def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			attempts <- ctx.Attempt()
			<-leave
			return "ok", nil
		})
		store := newStore(t, def)
		s := def.At(store.Open(), "a")
		must(t, s.Cast(ctx, Pay{How: "card"}))
		db := store.Open()
		go func() { _ = dserver.Run(ctx, db, def) }()
		<-attempts
		must(t, s.Pause(ctx))
		must(t, db.Close())
		run(t, dserver.Consumer{}, store.Open(), def)
		<-time.After(10 * time.Minute)
		if len(attempts) > 0 {
			t.Errorf("attempt %d was begun", <-attempts)
		}
		close(leave)
		must(t, s.Resume(ctx))
		expectLog(t, s, "paid card")
	})
}

// One that is paused costs the others of its shard nothing: it leaves the ready marks, and comes back.
func TestAPausedServerLeavesTheMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		store := newStore(t, ledgers)
		db := store.Open()
		s := ledgers.At(db, "x")
		must(t, s.Pause(ctx))
		must(t, s.Cast(ctx, Note{1}))
		run(t, dserver.Consumer{}, store.Open(), ledgers)
		<-time.After(time.Minute)
		must(t, db.Read(ctx, func(tx backend.ReadTx) error {
			for _, index := range []string{"r", "w", "l"} {
				pairs, err := tx.GetRange(backend.NewKey(index).Below(), backend.RangeOptions{}).Get()
				if err != nil || len(pairs) > 0 {
					t.Errorf("below %q are %v, %v", index, pairs, err)
				}
			}
			return nil
		}))
		must(t, s.Resume(ctx))
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{1}) {
			t.Errorf("it has handled %v", seen)
		}
	})
}

// Timers and delayed messages come on the queue while their server is paused, and are handled afterwards.
func TestWhatIsDueOfAPausedServerWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		def := desks(noWork)
		store := newStore(t, def)
		s := def.At(store.Open(), "a")
		run(t, dserver.Consumer{}, store.Open(), def)
		must(t, s.Call(ctx, Remind{Name: "bell", In: time.Minute}, nil))
		must(t, s.Cast(ctx, Jot{"later"}, dserver.After(2*time.Minute)))
		must(t, s.Pause(ctx))
		<-time.After(time.Hour)
		if status := statusOf(t, s); status.Queued != 2 {
			t.Errorf("%+v", status)
		}
		must(t, s.Resume(ctx))
		expectLog(t, s, "timer bell", "later")
	})
}

// Resume of a server that is paused and has halted lets it go on with all its attempts; a kill ends a pause.
func TestResumeAndKillEndAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var mended atomic.Bool
		def := ledgers.With(dserver.Settings[Ledger]{MaxAttempts: 2, Halt: true},
			dserver.HandleCast(func(_ *dserver.Context, l *Ledger, _ Write) error {
				if !mended.Load() {
					panic("it broke")
				}
				l.Seen = append(l.Seen, 7)
				return nil
			}))
		store := newStore(t, def)
		s := def.At(store.Open(), "x")
		must(t, s.Cast(ctx, Write{}))
		run(t, dserver.Consumer{}, store.Open(), def)
		eventually(t, "it halts", func() bool { return statusOf(t, s).Halted })
		must(t, s.Pause(ctx))
		mended.Store(true)
		must(t, s.Resume(ctx))
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{7}) {
			t.Errorf("it has handled %v", seen)
		}
		must(t, s.Pause(ctx))
		must(t, s.Cast(ctx, Note{1}))
		must(t, s.Kill(ctx))
		must(t, s.Cast(ctx, Note{2}))
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{2}) {
			t.Errorf("after a kill it has handled %v", seen)
		}
	})
}

func TestEachFaultLeavesAPauseWhole(t *testing.T) {
	eachOperatorFault(t, func(o *operator) {
		ctx := within(o.t)
		s := o.plain()
		stop := run(o.t, dserver.Consumer{}, o.store.Open(), ledgers)
		must(o.t, s.Call(ctx, Note{1}, nil))
		o.do("pause", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Pause(ctx) })
		must(o.t, s.Cast(ctx, Note{2}))
		stop()
		start(o.t, o.store.Open(), ledgers)
		if status := statusOf(o.t, s); status.Queued != 1 || !status.Paused {
			o.t.Errorf("%v: %+v", o.f, status)
		}
		o.do("resume", func(ctx context.Context, s *dserver.DServer[Ledger]) error { return s.Resume(ctx) })
		if seen := seenAfter(o.t, ctx, s); !slices.Equal(seen, []int{1, 2}) {
			o.t.Errorf("%v: seen %v", o.f, seen)
		}
	})
}

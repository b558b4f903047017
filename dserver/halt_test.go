package dserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// expectHalted waits for a server to halt, and for long after that: it stands where it stood.
func expectHalted[S any](t *testing.T, s *dserver.DServer[S], attempts int, queued int64, long time.Duration) {
	t.Helper()
	eventually(t, "it halts", func() bool { return statusOf(t, s).Halted })
	<-time.After(long)
	status, err := s.Status(context.Background())
	if err != nil || !status.Halted || status.Attempts != attempts || status.Queued != queued || status.DeadLetters != 0 {
		t.Fatalf("%+v, %v", status, err)
	}
}

// A server that halts stands at the message that broke, whatever consumers come, until an operator lets it go on: with
// the message, or without.
func TestHaltedServerPassesNothingOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		act  func(ctx context.Context, s *dserver.DServer[Journal]) error
		want []string
	}{
		"resume": {func(ctx context.Context, s *dserver.DServer[Journal]) error { return s.Resume(ctx) }, []string{"1", "2", "3"}},
		"withdraw": {func(ctx context.Context, s *dserver.DServer[Journal]) error {
			for q, err := range s.Queue(ctx) {
				return errors.Join(err, s.Withdraw(ctx, q.Stamp))
			}
			return dserver.ErrNotFound
		}, []string{"1", "3"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { haltAndGoOn(t, newStore(t, journal).Open, c.act, c.want, 10*time.Minute) })
			eachRealStore(t, func(t *testing.T, open func() backend.Database) {
				haltAndGoOn(t, open, c.act, c.want, 100*time.Millisecond)
			})
		})
	}
}

func haltAndGoOn(
	t *testing.T, open func() backend.Database, act func(context.Context, *dserver.DServer[Journal]) error, want []string, long time.Duration,
) {
	ctx := context.Background()
	var made atomic.Int32
	var mended atomic.Bool
	def := journal.With(
		dserver.Settings[Journal]{MaxAttempts: 3, Halt: true},
		dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Write) error { j.write(m.Line); return nil }),
		dserver.HandleCall(func(_ *dserver.Context, j *Journal, _ Lines) ([]string, error) { return j.Lines, nil }),
		dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Blow) error {
			j.write(m.Line)
			if made.Add(1); !mended.Load() {
				panic("it broke")
			}
			return nil
		}),
	)
	s := def.At(open(), "a")
	stop := run(t, dserver.Consumer{}, open(), def)
	must(t, s.CastAll(ctx, []any{Write{"1"}, Blow{"2"}, Write{"3"}}))
	expectHalted(t, s, 3, 2, long)
	runs := made.Load() // its batch may have made one more
	stop()
	run(t, dserver.Consumer{}, open(), def)
	expectHalted(t, s, 3, 2, long)
	if made.Load() != runs {
		t.Error("another consumer tried again")
	}

	mended.Store(true)
	must(t, act(ctx, s))
	got, err := dserver.Call(within(t), s, Lines{})
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if err := s.Resume(ctx); !errors.Is(err, dserver.ErrNotFound) {
		t.Errorf("resumed a server that had not halted: %v", err)
	}
}

// Locked work that has no attempts left keeps the lock. Resumed it runs again with its key; unlocked it is set aside.
func TestHaltedLockWaitsForAnOperator(t *testing.T) {
	for _, resume := range []bool{true, false} {
		t.Run(fmt.Sprintf("resume=%v", resume), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { haltUnderLock(t, resume) })
		})
	}
}

func haltUnderLock(t *testing.T, resume bool) {
	ctx := context.Background()
	var made, last atomic.Int32
	var mended atomic.Bool
	keys := make(chan string, 10)
	def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
		keys <- ctx.IdempotencyKey()
		last.Store(int32(ctx.Attempt()))
		if made.Add(1); !mended.Load() {
			return "", errors.New("the gateway is away")
		}
		return "ok", nil
	}).With(dserver.Settings[Desk]{MaxAttempts: 2, Halt: true})
	store := newStore(t, def)
	s := def.At(store.Open(), "a")
	stop := run(t, dserver.Consumer{}, store.Open(), def)
	answer := make(chan error, 1)
	go func() { answer <- s.Call(ctx, Pay{How: "card"}, nil) }()
	answered := func() error {
		select {
		case err := <-answer:
			return err
		case <-time.After(time.Minute):
			return errors.New("nobody answered")
		}
	}
	synctest.Wait()
	must(t, s.Cast(ctx, Jot{"next"}))
	expectHalted(t, s, 2, 1, 10*time.Minute)
	stop()
	run(t, dserver.Consumer{}, store.Open(), def)
	fence := fenceOf(t, store.Open(), s.Ref())
	expectHalted(t, s, 2, 1, 10*time.Minute)
	if n := made.Load(); n != 2 {
		t.Errorf("%d attempts were made", n)
	}
	if now := fenceOf(t, store.Open(), s.Ref()); !bytes.Equal(now, fence) {
		t.Error("the lock of a server that halts is taken over")
	}

	mended.Store(true)
	if resume {
		must(t, s.Resume(ctx))
		if err := answered(); err != nil || last.Load() != 1 {
			t.Errorf("attempt %d after Resume: %v", last.Load(), err)
		}
		expectLog(t, s, "paid card", "next")
	} else {
		must(t, s.Unlock(ctx))
		if err := answered(); !errors.Is(err, dserver.ErrFault) {
			t.Error(err)
		}
		expectLog(t, s, "next")
	}
	close(keys)
	first := <-keys
	for key := range keys {
		if key != first {
			t.Errorf("the key was %s, then %s", first, key)
		}
	}
}

// fenceOf is the fence of a server's lock.
func fenceOf(t *testing.T, db backend.Database, ref dserver.Ref) (fence []byte) {
	t.Helper()
	must(t, db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		fence, err = tx.Get(backend.NewKey("s", ref.Type, ref.ID, "h", "f")).Get()
		return err
	}))
	return fence
}

// Work that killed its process in each attempt halts its server, too.
func TestLockOfDeadHoldersHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		entered, hang := make(chan int, 10), make(chan struct{})
		def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			entered <- ctx.Attempt()
			<-hang
			return "", errBroke
		}).With(dserver.Settings[Desk]{MaxAttempts: 2, Halt: true})
		store := newStore(t, def)
		s := def.At(store.Open(), "a")
		must(t, s.Cast(ctx, Pay{How: "card"}))
		for attempt := 1; attempt <= 2; attempt++ {
			db := store.Open()
			go func() { _ = dserver.Run(ctx, db, def) }()
			if n := <-entered; n != attempt {
				t.Fatalf("attempt %d, want %d", n, attempt)
			}
			must(t, db.Close()) // the holder's process dies
		}
		stop := run(t, dserver.Consumer{}, store.Open(), def)
		expectHalted(t, s, 2, 0, 10*time.Minute)
		if len(entered) > 0 {
			t.Errorf("attempt %d", <-entered)
		}
		must(t, s.Unlock(ctx))
		expectLog(t, s)
		stop()
		close(hang)
	})
}

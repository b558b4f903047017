package dserver_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// whatFails waits until a server has something that fails as it is asked for, and returns that.
func whatFails[S any](t *testing.T, s *dserver.DServer[S], is func(dserver.Failing) bool) (found dserver.Failing) {
	t.Helper()
	eventually(t, "it fails", func() bool {
		all := statusOf(t, s).Failing
		if len(all) == 1 {
			found = all[0]
		}
		return len(all) == 1 && is(found)
	})
	return found
}

// whys is how many records say why something of a server failed.
func whys(t *testing.T, db backend.Database, ref dserver.Ref) (n int) {
	t.Helper()
	must(t, db.Read(t.Context(), func(tx backend.ReadTx) error {
		pairs, err := tx.GetRange(backend.NewKey("s", ref.Type, ref.ID, "f").Tree(), backend.RangeOptions{}).Get()
		n = len(pairs)
		return err
	}))
	return n
}

// stubborn is ledgers whose message is tried for as long as anybody waits.
var stubborn = ledgers.With(dserver.Settings[Ledger]{MaxAttempts: 1000, BackOff: time.Hour, MaxBackOff: time.Hour})

func TestWhatFailsSaysWhyWhileItFails(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		s := stubborn.At(db, "x")
		must(t, s.Cast(within(t), Burst{}))
		before := time.Now()
		start(t, db, stubborn)
		f := whatFails(t, stubborn.At(open(), "x"), func(dserver.Failing) bool { return true })
		if f.Message != "Burst" || f.Stamp != waiting(t, s)[0].Stamp || f.Priority || f.Locked || f.Attempts != 1 || f.MaxAttempts != 1000 {
			t.Errorf("%+v", f)
		}
		if f.Error != "panic: burst" || !strings.Contains(f.Stack, "operator_test.go") {
			t.Errorf("its error is %q, at %s", f.Error, f.Stack)
		}
		if f.Since.Before(before.Truncate(time.Millisecond)) || f.Since.After(time.Now()) {
			t.Errorf("it failed at %v, after %v", f.Since, before)
		}
		if wait := f.Next.Sub(f.Since); wait < 45*time.Minute || wait > time.Hour {
			t.Errorf("it is tried again after %v", wait)
		}
	})
}

// However the trouble of a message ends, nothing is left of why it failed.
func TestWhyAMessageFailedGoesWithIt(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	def := stubborn.With(dserver.HandleCast(func(*dserver.Context, *Ledger, Write) error {
		if !mended.Load() {
			panic("it broke")
		}
		return nil
	}))
	patient := def.With(dserver.Settings[Ledger]{MaxAttempts: 3, BackOff: time.Minute, MaxBackOff: time.Minute})
	halting := patient.With(dserver.Settings[Ledger]{Halt: true})
	head := func(s *dserver.DServer[Ledger], act func(context.Context, dserver.Queued) error) error {
		for q, err := range s.Queue(context.Background()) {
			return errors.Join(err, act(context.Background(), q))
		}
		return dserver.ErrNotFound
	}
	for name, c := range map[string]struct {
		def *dserver.Definition[Ledger]
		end func(s *dserver.DServer[Ledger]) error
	}{
		"handled":   {patient, func(*dserver.DServer[Ledger]) error { mended.Store(true); return nil }},
		"set aside": {patient, func(*dserver.DServer[Ledger]) error { return nil }},
		"withdrawn": {def, func(s *dserver.DServer[Ledger]) error {
			return head(s, func(ctx context.Context, q dserver.Queued) error { return s.Withdraw(ctx, q.Stamp) })
		}},
		"reset":  {def, func(s *dserver.DServer[Ledger]) error { mended.Store(true); return s.Reset(context.Background()) }},
		"killed": {def, func(s *dserver.DServer[Ledger]) error { return s.Kill(context.Background()) }},
		"resumed": {halting, func(s *dserver.DServer[Ledger]) error {
			<-time.After(10 * time.Minute)
			mended.Store(true)
			return s.Resume(context.Background())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			mended.Store(false)
			synctest.Test(t, func(t *testing.T) {
				db := newStore(t, c.def).Open()
				s := c.def.At(db, "x")
				must(t, s.Cast(context.Background(), Write{"1"}))
				run(t, dserver.Consumer{}, db, c.def)
				whatFails(t, s, func(f dserver.Failing) bool { return f.Error == "panic: it broke" })
				if n := whys(t, db, s.Ref()); n != 1 {
					t.Errorf("%d records say why", n)
				}
				must(t, c.end(s))
				eventually(t, "it is over", func() bool { status := statusOf(t, s); return status.Queued == 0 && status.Attempts == 0 })
				if n := whys(t, db, s.Ref()); n != 0 || statusOf(t, s).Failing != nil {
					t.Errorf("%d records say why, of what does not fail: %+v", n, statusOf(t, s).Failing)
				}
			})
		})
	}
}

// A server that has halted says why, and that nothing is due.
func TestAHaltedServerSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := ledgers.With(dserver.Settings[Ledger]{MaxAttempts: 2, Halt: true})
		db := newStore(t, def).Open()
		s := def.At(db, "x")
		must(t, s.Cast(context.Background(), Burst{}, dserver.Priority()))
		run(t, dserver.Consumer{}, db, def)
		eventually(t, "it halts", func() bool { return statusOf(t, s).Halted })
		f := whatFails(t, s, func(dserver.Failing) bool { return true })
		if f.Error != "panic: burst" || !f.Priority || f.Attempts != 2 || f.MaxAttempts != 2 || !f.Next.IsZero() {
			t.Errorf("%+v", f)
		}
	})
}

// Locked work that fails says why, and forgets it with its lock. So does work whose holder died.
func TestLockedWorkThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		def := desks(func(*dserver.LockedContext, Desk, Pay) (string, error) {
			if !mended.Load() {
				return "", errors.New("the gateway is away")
			}
			return "ok", nil
		}).With(dserver.Settings[Desk]{BackOff: time.Minute, MaxBackOff: time.Minute})
		db := newStore(t, def).Open()
		s := def.At(db, "a")
		must(t, s.Cast(context.Background(), Pay{How: "card"}))
		run(t, dserver.Consumer{}, db, def)
		f := whatFails(t, s, func(f dserver.Failing) bool { return f.Attempts == 2 })
		if f.Error != "the gateway is away" || !f.Locked || f.Message != "Pay" || f.MaxAttempts != 5 || f.Next.Sub(f.Since) < 45*time.Second {
			t.Errorf("%+v", f)
		}
		if l := statusOf(t, s).Lock; time.Since(l.Since) > time.Hour || l.Limit != time.Minute || l.Attempt < 2 {
			t.Errorf("the lock is %+v", l)
		}
		mended.Store(true)
		expectLog(t, s, "paid card")
		if n := whys(t, db, s.Ref()); n != 0 || statusOf(t, s).Failing != nil {
			t.Errorf("%d records say why, of what does not fail", n)
		}
	})
}

func TestWorkWhoseHolderDiedSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		entered := make(chan int, 10)
		def := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			entered <- ctx.Attempt()
			<-hang
			return "ok", nil
		})
		store := newStore(t, def)
		s := def.At(store.Open(), "a")
		must(t, s.Cast(context.Background(), Pay{How: "card"}))
		db := store.Open()
		go func() { _ = dserver.Run(context.Background(), db, def) }()
		<-entered
		must(t, db.Close())
		run(t, dserver.Consumer{}, store.Open(), def)
		<-entered
		f := whatFails(t, s, func(dserver.Failing) bool { return true })
		if f.Error != "the consumer vanished while it worked" || f.Attempts != 1 || !f.Locked {
			t.Errorf("%+v", f)
		}
		close(hang)
		expectLog(t, s, "paid card")
	})
}

// What is long is cut, and stands where no turn reads it.
func TestALongReasonIsCutAndIsNotInTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := stubborn.With(dserver.HandleCast(func(*dserver.Context, *Ledger, Write) error { panic(strings.Repeat("long ", 100_000)) }))
		db := newStore(t, def).Open()
		s := def.At(db, "x")
		must(t, s.Cast(context.Background(), Write{}))
		run(t, dserver.Consumer{}, db, def)
		f := whatFails(t, s, func(dserver.Failing) bool { return true })
		if !strings.HasSuffix(f.Error, "…") || len(f.Error) > 4<<10+10 || len(f.Stack) > 16<<10+10 {
			t.Errorf("an error of %d bytes that ends in %q, and a stack of %d", len(f.Error), f.Error[len(f.Error)-10:], len(f.Stack))
		}
		var head []backend.KeyValue
		must(t, db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
			head, err = tx.GetRange(backend.NewKey("s", "ledger", "x", "h").Tree(), backend.RangeOptions{}).Get()
			return err
		}))
		bytes := 0
		for _, pair := range head {
			bytes += len(pair.Value)
		}
		if len(head) == 0 || bytes > 200 {
			t.Errorf("the head has %d records of %d bytes", len(head), bytes)
		}
	})
}

// A record that is left behind is found by Check.
func TestCheckFindsAReasonOfNothing(t *testing.T) {
	db := backendtest.NewModel()
	must(t, stubborn.At(db, "x").Cast(t.Context(), Note{1}))
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Set(backend.NewKey("s", "ledger", "x", "f", int64(1)), []byte("\xa4estampLABCDEFGHIJKLbof\x01dtexta?bat\x01"))
		return nil
	}))
	err := dserver.Check(t.Context(), db)
	if !errors.Is(err, backend.ErrCorrupt) || !strings.Contains(err.Error(), "has no attempts") {
		t.Errorf("%v", err)
	}
}

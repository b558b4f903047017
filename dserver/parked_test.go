package dserver_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/internal/kit"
	"github.com/dserver-go/dserver/internal/consumer"
	logging "github.com/dserver-go/dserver/internal/logs"
)

// Wreck breaks its handler until that is mended.
type Wreck struct{ Text string }

// hasty is dserver.Run of a consumer that parks at once what cannot go on.
func hasty(ctx context.Context, db backend.Database, types ...dserver.Type) error {
	how := consumer.Options{Park: true, Logger: logging.Default()}
	return consumer.Run(ctx, db, how, kit.Definitions(types)...)
}

// runHasty is run of such a consumer.
func runHasty(t *testing.T, db backend.Database, types dserver.Type) (stop func()) {
	t.Helper()
	return runBy(t, hasty, db, types)
}

// rival is dserver.Run of a consumer that begins with a server at once, although another one has begun.
func rival(ctx context.Context, db backend.Database, types ...dserver.Type) error {
	how := consumer.Options{Rival: true, Logger: logging.Default()}
	return consumer.Run(ctx, db, how, kit.Definitions(types)...)
}

// runRival is run of such a consumer.
func runRival(t *testing.T, db backend.Database, types dserver.Type) (stop func()) {
	t.Helper()
	return runBy(t, rival, db, types)
}

func runBy(
	t *testing.T, run func(context.Context, backend.Database, ...dserver.Type) error, db backend.Database, types dserver.Type,
) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, db, types) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// shut is what a standstill is made with: handlers and work fail, or wait, until it is opened.
type shut struct {
	mended atomic.Bool
	work   chan struct{} // closed when work may end
}

func (s *shut) open() {
	s.mended.Store(true)
	close(s.work)
}

func (s *shut) types(settings dserver.Settings[Desk]) *dserver.Definition[Desk] {
	return desks(func(ctx *dserver.LockedContext, _ Desk, m Pay) (string, error) {
		if m.How == "slowly" {
			select {
			case <-s.work:
			case <-ctx.Done():
			}
		} else if !s.mended.Load() {
			return "", errors.New("it cannot be paid")
		}
		return "a receipt", ctx.Err()
	}).With(settings, dserver.HandleCast(func(_ *dserver.Context, d *Desk, m Wreck) error {
		if !s.mended.Load() {
			panic("wrecked")
		}
		d.Log = append(d.Log, m.Text)
		return nil
	}))
}

// standstill is a way in which a server cannot go on.
type standstill struct {
	settings dserver.Settings[Desk]
	first    any // what it stands at
	rows     int // in the index of those that wait
	goesOn   func(ctx context.Context, s *dserver.DServer[Desk]) error
	want     string // of its log, before the others
}

func standstills() map[string]standstill {
	itself := func(context.Context, *dserver.DServer[Desk]) error { return nil }
	resume := func(ctx context.Context, s *dserver.DServer[Desk]) error { return s.Resume(ctx) }
	return map[string]standstill{
		"it halts":       {dserver.Settings[Desk]{MaxAttempts: 1, Halt: true}, Wreck{"wreck"}, 0, resume, "wreck"},
		"it backs off":   {dserver.Settings[Desk]{MaxAttempts: 1000}, Wreck{"wreck"}, 1, itself, "wreck"},
		"it is locked":   {dserver.Settings[Desk]{}, Pay{How: "slowly"}, 1, itself, "paid slowly"},
		"its lock halts": {dserver.Settings[Desk]{MaxAttempts: 1, Halt: true}, Pay{How: "well"}, 0, resume, "paid well"},
	}
}

func expectMarks(t *testing.T, db backend.Database, marks, waiting int) {
	t.Helper()
	eventually(t, "it leaves the marks", func() bool { return rows(t, db, "r") == marks && rows(t, db, "w") == waiting })
}

// What cannot go on is in no range that a bell makes anyone read, and goes on all the same when it can: in the consumer
// that has seen it, and in one that comes when that has ended.
func TestWhatCannotGoOnLeavesTheMarks(t *testing.T) {
	t.Parallel()
	stands := func(t *testing.T, open func() backend.Database, how standstill, another bool) {
		gate := &shut{work: make(chan struct{})}
		types, db, ctx := gate.types(how.settings), open(), context.Background()
		s := types.At(db, "a")
		stop := runHasty(t, open(), types)
		must(t, s.CastAll(ctx, []any{how.first, Jot{"behind"}}))
		expectMarks(t, db, 0, how.rows)
		check(t, db, types)
		if another && how.want != "paid slowly" { // else it ends the work by its end
			stop()
		}
		gate.open()
		if another {
			runHasty(t, open(), types)
		}
		must(t, how.goesOn(ctx, s))
		eventually(t, "all is handled", func() bool { return statusOf(t, s).Queued == 0 && !statusOf(t, s).Locked })
		expectLog(t, s, how.want, "behind")
		expectMarks(t, db, 0, 0)
	}
	for name, how := range standstills() {
		for other, another := range map[string]bool{"the same": false, "another": true} {
			t.Run(name+"/"+other, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { stands(t, checked(t, backendtest.NewStore().Open), how, another) })
				if !another {
					eachRealStore(t, func(t *testing.T, open func() backend.Database) { stands(t, open, how, another) })
				}
			})
		}
	}
}

// A message of priority is handled at once where normal ones stand still, and an operator's removal of the first makes
// the others go on, though no mark leads there.
func TestWhatStandsStillIsWokenByWhatCanBeDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &shut{work: make(chan struct{})}
		types := gate.types(dserver.Settings[Desk]{MaxAttempts: 1, Halt: true})
		store, ctx := newStore(t, types), context.Background()
		db := store.Open()
		s := types.At(db, "a")
		run(t, dserver.Consumer{}, store.Open(), types)
		must(t, s.CastAll(ctx, []any{Wreck{"wreck"}, Jot{"behind"}}))
		<-time.After(time.Minute)
		expectMarks(t, db, 0, 0)
		must(t, s.Cast(ctx, Jot{"urgent"}, dserver.Priority()))
		must(t, s.Cast(ctx, Jot{"last"}))
		<-time.After(100 * time.Millisecond)
		expectStored(t, s, "urgent")
		<-time.After(time.Minute)
		expectMarks(t, db, 0, 0)
		for q, err := range s.Queue(ctx) {
			must(t, err)
			must(t, s.Withdraw(ctx, q.Stamp))
			break
		}
		<-time.After(100 * time.Millisecond)
		expectStored(t, s, "urgent", "behind", "last")
	})
}

// A state that this program cannot read, and a message that it has no handler for, wait without a mark for a program that
// can go on.
func TestWhatWaitsForAnotherProgramLeavesTheMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t), context.Background()
		db, able := store.Open(), oldGauges()
		s := able.At(db, "a")
		stop := run(t, dserver.Consumer{}, store.Open(), able)
		must(t, s.Cast(ctx, setGauge{1}))
		eventually(t, "it is stored", func() bool { return !statusOf(t, s).Created.IsZero() })
		stop()
		run(t, dserver.Consumer{}, store.Open(), newGauges())
		must(t, s.Cast(ctx, setGauge{2}))
		strange := journal.At(db, "a")
		run(t, dserver.Consumer{}, store.Open(), journals.With(dserver.Settings[Journal]{NoHandlerWait: -1}))
		must(t, strange.Cast(ctx, Strange{1}))
		<-time.After(time.Minute)
		expectMarks(t, db, 0, 2)
		check(t, db)

		run(t, dserver.Consumer{}, store.Open(), able)
		var handled atomic.Bool
		run(t, dserver.Consumer{}, store.Open(), journals.With(dserver.HandleCast(func(_ *dserver.Context, _ *Journal, _ Strange) error {
			handled.Store(true)
			return nil
		})))
		<-time.After(time.Minute)
		if state, err := s.State(ctx); state.N != 3 || err != nil || !handled.Load() {
			t.Errorf("%+v, %v; handled: %v", state, err, handled.Load())
		}
		expectMarks(t, db, 0, 0)
	})
}

// What waits for a place for its work, or for the lock that it needs though it is of priority, leaves the marks as well.
func TestWhatWaitsForAPlaceOrALockLeavesTheMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &shut{work: make(chan struct{})}
		types := gate.types(dserver.Settings[Desk]{WorkLimit: time.Hour})
		store, ctx := newStore(t, types), context.Background()
		db := store.Open()
		run(t, dserver.Consumer{Work: 1}, store.Open(), types)
		first, second := types.At(db, "first"), types.At(db, "second")
		must(t, first.Cast(ctx, Pay{How: "slowly"}))
		eventually(t, "it is locked", func() bool { return statusOf(t, first).Locked })
		must(t, first.Cast(ctx, Pay{How: "slowly"}, dserver.Priority()))
		must(t, second.Cast(ctx, Pay{How: "slowly"}))
		<-time.After(time.Minute)
		expectMarks(t, db, 0, 2)
		gate.open()
		expectLog(t, first, "paid slowly", "paid slowly")
		expectLog(t, second, "paid slowly")
		<-time.After(time.Minute)
		expectMarks(t, db, 0, 0)
	})
}

// A state that was unreadable for long is looked at again soon when another program has written it, though that left no
// mark: it has died before it could handle what waits.
func TestParkedStateIsLookedAtThoughItWasUnreadableForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t), context.Background()
		db, old, fresh := store.Open(), oldGauges(), newGauges()
		stop := run(t, dserver.Consumer{}, store.Open(), old)
		must(t, old.At(db, "a").Cast(ctx, setGauge{1}))
		eventually(t, "it is stored", func() bool { return !statusOf(t, old.At(db, "a")).Created.IsZero() })
		stop()
		run(t, dserver.Consumer{}, store.Open(), fresh)
		must(t, fresh.At(db, "b").Cast(ctx, setGauge{2}))
		must(t, fresh.At(db, "a").Cast(ctx, setGauge{3}))
		<-time.After(62 * time.Minute) // the next try is some minutes away
		expectMarks(t, db, 0, 1)
		a, b := backend.NewKey("s", "gauge", "a"), backend.NewKey("s", "gauge", "b")
		must(t, db.Transact(ctx, func(tx backend.Tx) error { // as that program wrote it
			state, err := tx.GetRange(b.Str("s").Tree(), backend.RangeOptions{}).Get()
			for _, row := range state {
				rest, _ := row.Key.CutPrefix(b)
				tx.Set(append(slices.Clip(a), rest...), row.Value)
			}
			tx.Stamp(a.Str("h"))
			return err
		}))
		<-time.After(time.Minute)
		if s, err := fresh.At(db, "a").State(ctx); s.N != "+++++" || err != nil {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

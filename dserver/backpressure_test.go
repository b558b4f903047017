package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// maxQueued is the bound of these tests.
const maxQueued = 3

var bounded = journals.With(dserver.Settings[Journal]{MaxQueued: maxQueued})

// fillUp lets as many messages wait as may.
func fillUp(t testing.TB, s *dserver.DServer[Journal]) {
	t.Helper()
	for i := range maxQueued {
		must(t, s.Cast(within(t), Write{fmt.Sprint(i)}))
	}
	expectQueued(t, s, maxQueued)
}

func expectQueued[S any](t testing.TB, s *dserver.DServer[S], want int) {
	t.Helper()
	if n := statusOf(t, s).Queued; n != int64(want) {
		t.Fatalf("%d messages wait, want %d", n, want)
	}
}

func expectFull(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, dserver.ErrQueueFull) {
		t.Fatalf("%s at a full queue: %v", what, err)
	}
}

// handleAll lets a consumer handle all that waits.
func handleAll[S any](t testing.TB, db backend.Database, s *dserver.DServer[S], types dserver.Type) {
	t.Helper()
	stop := run(t, dserver.Consumer{}, db, types)
	eventually(t, "all is handled", func() bool { return statusOf(t, s).Queued == 0 })
	stop()
}

// While as many messages wait as may, each send is refused and leaves nothing. The same send is taken when there is room.
func TestFullQueueRefusesItsSenders(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		s := bounded.At(db, "a")
		fillUp(t, s)
		for verb, err := range verbs(within(t), s, Append{Line: "refused"}) {
			expectFull(t, verb, err)
			if want := "journal/a: dserver: queue full: 3 messages wait, and MaxQueued is 3"; !strings.Contains(err.Error(), want) {
				t.Errorf("%s says %q, without %q", verb, err, want)
			}
		}
		expectFull(t, "a delay of nothing", s.Cast(within(t), Write{"refused"}, dserver.After(0)))
		expectFull(t, "a delay of less", s.Cast(within(t), Write{"refused"}, dserver.After(-time.Hour)))
		expectQueued(t, s, maxQueued)
		must(t, bounded.At(db, "b").Cast(within(t), Write{"another server"}))
		run(t, dserver.Consumer{}, open(), bounded)
		for _, send := range []func() error{
			func() error { return s.Cast(within(t), Write{"cast"}) },
			func() error { return s.CastAll(within(t), []any{Write{"all"}, Write{"of them"}}) },
			func() error { return s.Call(within(t), Append{Line: "called"}, nil) },
		} {
			eventually(t, "there is room", func() bool { return statusOf(t, s).Queued == 0 })
			must(t, send())
		}
		expectLines(t, lines(t, s), "0", "1", "2", "cast", "all", "of them", "called")
	})
}

// A batch is one send: it is taken whole at the last place, and refused whole where there is none. So it may be larger
// than the bound, and waits no longer for room than a single message.
func TestBatchNeedsOnePlace(t *testing.T) {
	db := newStore(t, bounded).Open()
	s := bounded.At(db, "a")
	batch := []any{Write{"3"}, Write{"4"}, Write{"5"}, Write{"6"}}
	for i := range maxQueued - 1 {
		must(t, s.Cast(within(t), Write{fmt.Sprint(i)}))
	}
	must(t, s.CastAll(within(t), batch))
	expectQueued(t, s, maxQueued-1+len(batch))
	expectFull(t, "a batch", s.CastAll(within(t), batch))
	must(t, s.CastAll(within(t), nil))
	expectQueued(t, s, maxQueued-1+len(batch))
	handleAll(t, db, s, bounded)
	expectFull(t, "another batch", errors.Join(s.CastAll(within(t), batch), s.CastAll(within(t), batch)))
	expectQueued(t, s, len(batch))
}

// A send that is refused does not use its key up.
func TestRefusedSendKeepsItsKey(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		s := bounded.At(db, "a")
		once := func() error { return s.Cast(within(t), Write{"once"}, dserver.Once("k")) }
		fillUp(t, s)
		expectFull(t, "a key", once())
		expectFull(t, "the same key", once())
		expectFull(t, "the same key for another message", s.Cast(within(t), Write{"other"}, dserver.Once("k")))
		if n := rows(t, db, "s", "journal", "a", "e") + rows(t, db, "t"); n != 0 {
			t.Errorf("%d rows of keys", n)
		}
		handleAll(t, open(), s, bounded)
		must(t, once())
		must(t, once())
		run(t, dserver.Consumer{}, open(), bounded)
		expectLines(t, lines(t, s), "0", "1", "2", "once")
	})
}

// A key that was used has its outcome, also where there is no room for another message.
func TestUsedKeyIsAnsweredThoughTheQueueIsFull(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		s := bounded.At(db, "a")
		call := func(line string) (int, error) {
			return dserver.Call(within(t), s, Append{Line: line}, dserver.Once("called"))
		}
		must(t, s.Cast(within(t), Write{"cast"}, dserver.Once("cast")))
		stop := run(t, dserver.Consumer{}, open(), bounded)
		n, err := call("called")
		must(t, err)
		stop()
		fillUp(t, s)
		must(t, s.Cast(within(t), Write{"cast"}, dserver.Once("cast")))
		if again, err := call("called"); again != n || err != nil {
			t.Errorf("the second call got %d, %v; the first %d", again, err, n)
		}
		if _, err := call("something else"); !errors.Is(err, dserver.ErrKeyReused) {
			t.Errorf("a key for another message: %v", err)
		}
		expectQueued(t, s, maxQueued)
	})
}

// GiveUp ends what a desk works on.
type GiveUp struct{}

// What ends a lock has priority, and no other message is handled before it: it must get in, or a full queue would stay full.
func TestPriorityEndsALockThoughTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := desks(func(ctx *dserver.LockedContext, _ Desk, _ Pay) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}).With(
			dserver.Settings[Desk]{MaxQueued: maxQueued, WorkLimit: time.Hour},
			dserver.HandleCast(func(ctx *dserver.Context, _ *Desk, _ GiveUp) error {
				ctx.Unlock(errBroke)
				return nil
			}))
		db := newStore(t, types).Open()
		run(t, dserver.Consumer{}, db, types)
		s, ctx := types.At(db, "a"), context.Background()
		paid := make(chan error, 1)
		go func() { paid <- s.Call(ctx, Pay{How: "slowly"}, nil) }()
		eventually(t, "it is locked", func() bool { return statusOf(t, s).Locked })
		for range maxQueued {
			must(t, s.Cast(ctx, Jot{"waits for the lock"}))
		}
		expectFull(t, "a message that would wait for the lock", s.Cast(ctx, Jot{"refused"}))
		must(t, s.Cast(ctx, GiveUp{}, dserver.Priority()))
		if err := <-paid; !errors.Is(err, errBroke) {
			t.Errorf("the work ended with %v", err)
		}
		eventually(t, "the others are handled", func() bool { return statusOf(t, s).Queued == 0 })
		must(t, s.Cast(ctx, Jot{"taken"}))
	})
}

type (
	Crash struct{} // a message at which a desk halts
	Nope  struct{} // one that becomes a dead letter
)

// What is put on a full queue by others than senders: timers and delayed messages that are due, and what operators retry.
// Info needs no queue.
func TestWhatWasPromisedComesThoughTheQueueIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		types := desks(noWork).With(
			dserver.Settings[Desk]{MaxQueued: maxQueued, MaxAttempts: 1, Halt: true},
			dserver.HandleCast(func(*dserver.Context, *Desk, Crash) error { panic("it halts") }),
			dserver.HandleCast(func(*dserver.Context, *Desk, Nope) error { return errBroke }))
		db := newStore(t, types).Open()
		run(t, dserver.Consumer{}, db, types)
		s, ctx := types.At(db, "a"), context.Background()
		must(t, s.Cast(ctx, Nope{}))
		must(t, s.Cast(ctx, Remind{"t", time.Hour}))
		must(t, s.Cast(ctx, Crash{}))
		eventually(t, "it halts", func() bool { return statusOf(t, s).Halted })
		for range maxQueued - 1 {
			must(t, s.Cast(ctx, Jot{"waits"}))
		}
		expectFull(t, "a message", s.Cast(ctx, Jot{"refused"}))
		must(t, s.Cast(ctx, Jot{"later"}, dserver.After(time.Hour)))
		must(t, s.Cast(ctx, Jot{"later"}, dserver.After(time.Hour), dserver.Once("k")))
		expectQueued(t, s, maxQueued)
		<-time.After(2 * time.Hour)
		expectQueued(t, s, maxQueued+3) // a timer and two messages
		must(t, s.Retry(ctx, letters(t, s)[0]))
		expectQueued(t, s, maxQueued+4)
		must(t, s.Info(ctx, Poke{"now"}))
		expectFull(t, "a message beside these", s.Cast(ctx, Jot{"refused"}))
	})
}

// Volley is returned to its sender, until N have been sent.
type Volley struct{ N int }

// Two servers that send to each other go on, and end, though both of their queues are full: their turns are not refused. If
// they were, neither could make room for the other.
func TestFullServersThatSendToEachOtherAreNoDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const volleys, sent = 2 * maxQueued, 20
		types := counters.With(
			dserver.Settings[Counter]{MaxQueued: maxQueued},
			dserver.HandleCast(func(ctx *dserver.Context, c *Counter, m Volley) error {
				if c.Count++; m.N > 1 {
					other := map[string]string{"a": "b", "b": "a"}[ctx.Self().ID]
					ctx.Cast(dserver.Ref{Type: "counter", ID: other}, Volley{m.N - 1})
				}
				return nil
			}))
		db := newStore(t, types).Open()
		a, b := types.At(db, "a"), types.At(db, "b")
		for _, s := range []*dserver.DServer[Counter]{a, b} {
			must(t, s.CastAll(t.Context(), slices.Repeat([]any{Volley{sent}}, volleys)))
			expectFull(t, "a volley", s.Cast(t.Context(), Volley{}))
		}
		run(t, dserver.Consumer{}, db, types)
		<-time.After(time.Minute)
		for _, s := range []*dserver.DServer[Counter]{a, b} {
			if state, err := s.State(t.Context()); state.Count != volleys*sent || err != nil || deadLetters(t, s) > 0 {
				t.Errorf("%d volleys, %v, %+v", state.Count, err, statusOf(t, s))
			}
		}
	})
}

// What turns have sent counts, so that who sends from outside makes way for it.
func TestSendsOfATurnCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := safes(easyToil).With(dserver.HandleCast(func(ctx *dserver.Context, _ *Safe, m Mark) error {
			for range 2 * maxQueued {
				ctx.Cast(journal.Ref("nobody runs it"), Write(m))
			}
			return nil
		}))
		db := newStore(t, types).Open()
		must(t, safe.At(db, "a").Cast(t.Context(), Mark{"m"}))
		s := bounded.At(db, "nobody runs it")
		must(t, s.Cast(t.Context(), Write{"first"}))
		handleAll(t, db, safe.At(db, "a"), types)
		expectQueued(t, s, 1+2*maxQueued)
		expectFull(t, "a message beside them", s.Cast(t.Context(), Write{"refused"}))
	})
}

// The bound is the sender's: that of the definition that it uses, and none of an address that was given none.
func TestBoundIsTheSenders(t *testing.T) {
	db := newStore(t, bounded).Open()
	tight := bounded.At(db, "a")
	fillUp(t, tight)
	wider := bounded.With(dserver.Settings[Journal]{MaxQueued: maxQueued + 1})
	must(t, wider.At(db, "a").Cast(within(t), Write{"wider"}))
	expectFull(t, "a message of the wider bound", wider.At(db, "a").Cast(within(t), Write{"refused"}))
	expectFull(t, "a message of the narrower one", tight.Cast(within(t), Write{"refused"}))
	must(t, journal.At(db, "a").Cast(within(t), Write{"an address without a bound"}))
	must(t, tight.Ref().At(db).Cast(within(t), Write{"a name"}))
	same := bounded.With(dserver.Settings[Journal]{MaxAttempts: 2}).At(db, "a")
	expectFull(t, "a message of one that has other settings as well", same.Cast(within(t), Write{"refused"}))
	address := journal.With(dserver.Settings[Journal]{MaxQueued: 1}).At(db, "a")
	expectFull(t, "a message of an address that has a bound", address.Cast(within(t), Write{"refused"}))
}

// What joins a turn without the queue is not refused, however many senders there are: each waits for its turn.
func TestArrivalsOfTheConsumersProcessAreNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		types := journals.With(dserver.Settings[Journal]{MaxQueued: 1})
		db := newStore(t, types).Open()
		run(t, dserver.Consumer{}, db, types)
		synctest.Wait()
		var senders sync.WaitGroup
		for i := range 300 {
			senders.Go(func() {
				if err := types.At(db, "a").Cast(t.Context(), Write{fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		senders.Wait()
		if got := lines(t, types.At(db, "a")); len(got) != 300 {
			t.Errorf("%d lines", len(got))
		}
	})
}

// togetherDB lets none of its transactions commit before all have read.
type togetherDB struct {
	backend.Database
	all  int64
	runs atomic.Int64
	open chan struct{}
}

func (d *togetherDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		err := fn(tx)
		if d.runs.Add(1) == d.all {
			close(d.open)
		}
		select {
		case <-d.open:
		case <-ctx.Done():
			return ctx.Err()
		}
		return err
	})
}

// The bound is read, and is nobody's conflict: of N senders at once all may take the last place, so the queue gets N-1
// messages longer than the bound. None of them has to run again.
func TestSendersAtOnceMayAllTakeTheLastPlace(t *testing.T) {
	const senders = 16
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db := open()
		s := bounded.At(db, "a")
		for i := range maxQueued - 1 {
			must(t, s.Cast(within(t), Write{fmt.Sprint(i)}))
		}
		together := &togetherDB{Database: db, all: senders, open: make(chan struct{})}
		var all sync.WaitGroup
		for i := range senders {
			all.Go(func() {
				if err := bounded.At(together, "a").Cast(within(t), Write{fmt.Sprint("together ", i)}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := together.runs.Load(); n != senders {
			t.Errorf("%d sends ran %d times", senders, n)
		}
		expectQueued(t, s, maxQueued-1+senders)
		expectFull(t, "one more", s.Cast(within(t), Write{"refused"}))
	})
}

// However N senders and a consumer race, the queue is never more than N-1 messages over the bound, and what was not refused
// is handled once.
func TestSendersNeverPassTheBoundByMoreThanTheirNumber(t *testing.T) {
	const senders, each, bound = 8, 40, 5
	types := journals.With(dserver.Settings[Journal]{MaxQueued: bound})
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx, db := within(t), open()
		s := types.At(db, "a")
		longest, refused := int64(0), atomic.Int64{}
		var sending sync.WaitGroup
		for i := range senders {
			sending.Go(func() {
				for n := 0; n < each; {
					switch err := s.Cast(ctx, Write{fmt.Sprint(i, "/", n)}); {
					case errors.Is(err, dserver.ErrQueueFull):
						refused.Add(1)
						<-time.After(time.Millisecond)
					case err != nil:
						t.Error(err)
						return
					default:
						n++
					}
				}
			})
		}
		eventually(t, "somebody is refused", func() bool { return refused.Load() > 0 })
		run(t, dserver.Consumer{}, open(), types)
		done := make(chan struct{})
		go func() { sending.Wait(); close(done) }()
		for isDone := false; !isDone; {
			longest = max(longest, statusOf(t, s).Queued)
			select {
			case <-done:
				isDone = true
			default:
			}
		}
		t.Logf("at most %d of a bound of %d; %d were refused", longest, bound, refused.Load())
		if longest > bound-1+senders {
			t.Errorf("%d messages waited of a bound of %d, beside %d senders", longest, bound, senders)
		}
		got := lines(t, journals.At(db, "a")) // without the bound: the queue may be full still
		slices.Sort(got)
		if n := len(slices.Compact(got)); n != senders*each || len(got) != n {
			t.Errorf("%d lines, %d different", len(got), n)
		}
	})
}

// looksDB notes what transactions read, and when they wait for it.
type looksDB struct {
	backend.Database
	notes []string
}

func (d *looksDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		d.notes = nil
		return fn(looksTx{tx, d})
	})
}

type looksTx struct {
	backend.Tx
	db *looksDB
}

func (t looksTx) Get(key backend.Key) backend.Future[[]byte] { return look(t, t.Tx.Get(key)) }

func (t looksTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	return look(t, t.Tx.GetRange(r, o))
}

func (t looksTx) Conflict(key backend.Key) {
	t.db.notes = append(t.db.notes, "conflict")
	t.Tx.Conflict(key)
}

func look[T any](t looksTx, read backend.Future[T]) backend.Future[T] {
	t.db.notes = append(t.db.notes, "read")
	return backend.Later(func() (T, error) {
		t.db.notes = append(t.db.notes, "wait")
		return read.Get()
	})
}

// A send without a bound reads nothing; one with it reads once, together with its key.
func TestBoundCostsOneReadAndNothingWhereThereIsNone(t *testing.T) {
	db := &looksDB{Database: newStore(t, bounded).Open()}
	for _, c := range []struct {
		what  string
		types *dserver.Definition[Journal]
		how   []dserver.Option
		reads string
	}{
		{"no bound", journals, nil, ""},
		{"a bound", bounded, nil, "read wait"},
		{"a bound and a key", bounded, []dserver.Option{dserver.Once("k")}, "read read wait wait"},
		{"a bound and priority", bounded, []dserver.Option{dserver.Priority()}, ""},
		{"a bound and a delay", bounded, []dserver.Option{dserver.After(time.Hour)}, ""},
	} {
		must(t, c.types.At(db, c.what).Cast(within(t), Write{"m"}, c.how...))
		if got := strings.Join(db.notes, " "); got != c.reads {
			t.Errorf("%s: %q, want %q", c.what, got, c.reads)
		}
	}
}

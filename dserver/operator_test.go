package dserver_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/queue"
	"github.com/dserver-go/dserver/statediff"
)

// Ledger notes what was handled, in order.
type Ledger struct {
	Started int // by Init
	Seen    []int
	Text    string
}

type (
	Note    struct{ N int }
	Page    struct{ Text string }
	Read    struct{ dserver.Returns[[]int] }
	Refusal struct{ Text string }
	Burst   struct{ Text string }
)

var ledger = dserver.Define[Ledger]("ledger")

var ledgers = ledger.With(
	dserver.Settings[Ledger]{MaxAttempts: 2},
	dserver.Init(func(_ *dserver.Context, l *Ledger) error { l.Started++; return nil }),
	dserver.HandleCast(func(_ *dserver.Context, l *Ledger, m Note) error { l.Seen = append(l.Seen, m.N); return nil }),
	dserver.HandleCast(func(_ *dserver.Context, l *Ledger, m Page) error { l.Text += m.Text; return nil }),
	dserver.HandleCall(func(_ *dserver.Context, l *Ledger, _ Read) ([]int, error) { return l.Seen, nil }),
	dserver.HandleCast(func(*dserver.Context, *Ledger, Refusal) error { return errDenied }),
	dserver.HandleCast(func(*dserver.Context, *Ledger, Burst) error { panic("burst") }),
)

// push puts bytes on the queue of a server, whatever they are.
func push(t testing.TB, db backend.Database, ref dserver.Ref, lane queue.Lane, items ...[]byte) {
	t.Helper()
	q := queue.At(backend.NewKey("s", ref.Type, ref.ID, "q"))
	must(t, db.Transact(t.Context(), func(tx backend.Tx) error { return q.Push(tx, lane, items...) }))
}

func waiting[S any](t testing.TB, s *dserver.DServer[S]) []dserver.Queued {
	t.Helper()
	var all []dserver.Queued
	for q, err := range s.Queue(within(t)) {
		must(t, err)
		all = append(all, q)
	}
	return all
}

func letters[S any](t testing.TB, s *dserver.DServer[S]) []dserver.DeadLetter {
	t.Helper()
	var all []dserver.DeadLetter
	for d, err := range s.DeadLetters(within(t)) {
		must(t, err)
		all = append(all, d)
	}
	return all
}

func statusOf[S any](t testing.TB, s *dserver.DServer[S]) dserver.Status {
	t.Helper()
	status, err := s.Status(within(t))
	must(t, err)
	return status
}

func TestTypesAndServersAreListedInOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		ids := []string{"a", "a\x00", "a\x00b", "a/b", "b", "ü", "\xff"}
		for i := range 300 { // more than a page
			ids = append(ids, "n"+strings.Repeat("0", i%3)+string(rune('A'+i)))
		}
		for _, id := range ids {
			must(t, ledgers.At(db, id).Cast(ctx, Note{1}))
			must(t, ledgers.At(db, id).Cast(ctx, Note{2}))
		}
		must(t, counters.At(db, "x").Cast(ctx, Increment{}))
		slices.Sort(ids)
		var got []string
		for ref, err := range dserver.Servers(ctx, db, "ledger") {
			must(t, err)
			if ref.Type != "ledger" {
				t.Fatal(ref)
			}
			got = append(got, ref.ID)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("got %q\nwant %q", got, ids)
		}
		var types []string
		for typ, err := range dserver.Types(ctx, db) {
			must(t, err)
			types = append(types, typ)
		}
		if !slices.Equal(types, []string{"counter", "ledger"}) {
			t.Errorf("types %q", types)
		}
		for range dserver.Servers(ctx, db, "nothing") {
			t.Error("a type without servers has one")
		}
		for range dserver.Servers(ctx, db, "ledger") {
			break
		}
		for _, prefix := range []string{"", "a", "a\x00", "a/", "n", "n0", "nothing", "\xff"} {
			afters := []string{"", "0", "\xff\xff"}
			for i, id := range ids {
				if i < 10 || i%9 == 0 || isLong() {
					afters = append(afters, id)
				}
			}
			for _, after := range afters {
				var want []string
				for _, id := range ids {
					if strings.HasPrefix(id, prefix) && id > after {
						want = append(want, id)
					}
				}
				expectServersFrom(t, db, prefix, after, want)
			}
		}
	})
}

// expectServersFrom compares a page's first rows.
func expectServersFrom(t *testing.T, db backend.Database, prefix, after string, want []string) {
	t.Helper()
	want = want[:min(len(want), 5)]
	var got []string
	for ref, err := range dserver.ServersFrom(t.Context(), db, "ledger", prefix, after) {
		must(t, err)
		if got = append(got, ref.ID); len(got) == 5 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("with %q after %q: %q, want %q", prefix, after, got, want)
	}
}

func TestListingsEndWithAnError(t *testing.T) {
	db := backendtest.NewModel()
	must(t, db.Close())
	n := 0
	for _, err := range dserver.Types(t.Context(), db) {
		n++
		if !errors.Is(err, backend.ErrClosed) {
			t.Error(err)
		}
	}
	for _, err := range dserver.Servers(t.Context(), db, "a/b") {
		n++
		if err == nil {
			t.Error("a type with a slash is listed")
		}
	}
	for _, err := range ledgers.At(db, "x").Queue(t.Context()) {
		n++
		if !errors.Is(err, backend.ErrClosed) {
			t.Error(err)
		}
	}
	for _, err := range ledgers.At(db, "x").DeadLetters(t.Context()) {
		n++
		if !errors.Is(err, backend.ErrClosed) {
			t.Error(err)
		}
	}
	if n != 4 {
		t.Errorf("%d errors, want 4", n)
	}
}

func TestOperatorsRefuseAHandlersContext(t *testing.T) {
	db := backendtest.NewModel()
	ctx := new(dserver.Context).Context()
	s := ledgers.At(db, "x")
	for verb, run := range map[string]func() error{
		"Withdraw":    func() error { return s.Withdraw(ctx, backend.Versionstamp{}) },
		"Mend":        func() error { return s.Mend(ctx, dserver.Queued{}, Note{}) },
		"Pause":       func() error { return s.Pause(ctx) },
		"Resume":      func() error { return s.Resume(ctx) },
		"Versioned":   func() error { _, _, err := s.Versioned(ctx); return err },
		"SetState":    func() error { _, err := s.SetState(ctx, backend.Versionstamp{}, Ledger{}); return err },
		"ChangeState": func() error { _, err := s.ChangeState(ctx, backend.Versionstamp{}, statediff.Change{}); return err },
		"Timers":      func() error { return firstError(s.Timers(ctx)) },
		"Audit":       func() error { return firstError(dserver.Audit(ctx, db)) },
		"Active":      func() error { return firstError(dserver.Active(ctx, db)) },
		"Repair":      func() error { return firstError(dserver.Repair(ctx, db)) },
		"RepairPlan":  func() error { return firstError(dserver.RepairPlan(ctx, db)) },
		"Retry":       func() error { return s.Retry(ctx, dserver.DeadLetter{}) },
		"Discard":     func() error { return s.Discard(ctx, dserver.DeadLetter{}) },
		"Kill":        func() error { return s.Kill(ctx) },
		"Reset":       func() error { return s.Reset(ctx) },
		"Status":      func() error { _, err := s.Status(ctx); return err },
		"Queued":      func() error { _, err := s.Queued(ctx, backend.Versionstamp{}); return err },
		"DeadLetter":  func() error { _, err := s.DeadLetter(ctx, backend.Versionstamp{}); return err },
		"Queue":       func() error { return firstError(s.Queue(ctx)) },
		"DeadLetters": func() error { return firstError(s.DeadLetters(ctx)) },
		"Types":       func() error { return firstError(dserver.Types(ctx, db)) },
		"Servers":     func() error { return firstError(dserver.Servers(ctx, db, "ledger")) },
		"ServersFrom": func() error { return firstError(dserver.ServersFrom(ctx, db, "ledger", "", "")) },
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), verb+" in a handler") {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

func firstError[T any](all func(func(T, error) bool)) (first error) {
	for _, err := range all {
		return err
	}
	return nil
}

func TestQueueShowsWhatWaitsInTheOrderOfTaking(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		long := strings.Repeat("long ", 300_000)
		for n := range 250 {
			must(t, s.Cast(ctx, Note{n}))
			if n == 99 {
				must(t, s.Cast(ctx, Page{long}))
			}
		}
		push(t, db, s.Ref(), queue.Normal, []byte("rubbish"))
		push(t, db, s.Ref(), queue.Priority, []byte{0xa0})
		all := waiting(t, s)
		if len(all) != 253 || statusOf(t, s).Queued != 253 {
			t.Fatalf("%d messages, status %+v", len(all), statusOf(t, s))
		}
		if q := all[0]; !q.Priority || q.Message.Name != "" || string(q.Message.Body) != "\xa0" || q.Call {
			t.Errorf("the one ahead of the queue is %+v", q)
		}
		if q := all[252]; q.Priority || q.Message.Name != "" || string(q.Message.Body) != "rubbish" || !q.Sent.IsZero() {
			t.Errorf("the one that cannot be read is %+v", q)
		}
		if q := all[101]; q.Message.Name != "Page" || len(q.Message.Body) < len(long) || time.Since(q.Sent) > time.Minute {
			t.Errorf("the large one is a %s of %d bytes, sent %v", q.Message.Name, len(q.Message.Body), q.Sent)
		}
		for i, q := range all {
			one, err := s.Queued(ctx, q.Stamp)
			if err != nil || string(one.Message.Body) != string(q.Message.Body) || one.Stamp != q.Stamp || one.Priority != q.Priority {
				t.Errorf("message %d alone is %v, %v", i, one.Stamp, err)
			}
			if i > 1 && all[i-1].Stamp.Compare(q.Stamp) >= 0 {
				t.Errorf("message %d is out of order", i)
			}
		}
		if _, err := s.Queued(ctx, backend.NewVersionstamp(1<<60, 0)); !errors.Is(err, dserver.ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestStateWithoutItsGoType(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		start(t, db, counters, ledgers)
		ref := counters.Ref("x").At(db)
		if _, err := ref.State(ctx); !errors.Is(err, dserver.ErrNotFound) {
			t.Fatal(err)
		}
		must(t, ref.Cast(ctx, Increment{7}))
		eventually(t, "the state is there", func() bool { _, err := ref.State(ctx); return err == nil })
		state, err := ref.State(ctx)
		if m, ok := state.(map[string]any); err != nil || !ok || m["Count"] != int64(7) {
			t.Fatalf("%#v, %v", state, err)
		}
		status := statusOf(t, ref)
		if status.Version != 1 || time.Since(status.Created) > time.Minute || status.Queued != 0 {
			t.Fatalf("%+v", status)
		}
		if none := statusOf(t, counters.At(db, "none")); !none.IsZero() {
			t.Fatalf("%+v", none)
		}
	})
}

// blocked is a message that its consumer has no handler for: it backs off for half a minute.
type blocked struct{}

func (blocked) MessageName() string { return "Unheard" }

func TestWithdrawnHeadLetsTheNextGoAtOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.Ref("x").At(db)
		answer := make(chan error, 1)
		go func(db backend.Database) { answer <- ledgers.Ref("x").At(db).Call(ctx, blocked{}, nil) }(open())
		eventually(t, "the call is queued", func() bool { return len(waiting(t, s)) == 1 })
		must(t, s.Cast(ctx, Note{1}))
		start(t, db, ledgers)
		eventually(t, "the head waits for a handler", func() bool { return statusOf(t, s).Unhandled == "Unheard" })
		head := waiting(t, s)[0]
		if !head.Call || head.Message.Name != "Unheard" {
			t.Fatalf("%+v", head)
		}
		began := time.Now()
		must(t, ledgers.At(open(), "x").Withdraw(ctx, head.Stamp)) // by another process
		if err := <-answer; !errors.Is(err, dserver.ErrWithdrawn) {
			t.Errorf("the caller got %v", err)
		}
		eventually(t, "the next one is handled", func() bool {
			state, err := ledgers.At(db, "x").State(ctx)
			return err == nil && slices.Equal(state.Seen, []int{1})
		})
		if took := time.Since(began); took > 15*time.Second { // it would have waited for 2 minutes
			t.Errorf("it took %v", took)
		}
		if status := statusOf(t, s); status.Attempts != 0 || status.Queued != 0 || status.DeadLetters != 0 {
			t.Errorf("%+v", status)
		}
		if err := s.Withdraw(ctx, head.Stamp); !errors.Is(err, dserver.ErrNotFound) {
			t.Errorf("the second time: %v", err)
		}
	})
}

func TestWithdrawAndTurnsNeverBothTakeAMessage(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		db, other := open(), open()
		const messages = 600
		start(t, db, ledgers)
		var all sync.WaitGroup
		all.Go(func() {
			far := ledgers.At(other, "x") // through the queue, as no consumer runs there
			for n := range messages {
				if err := far.Cast(ctx, Note{n}); err != nil {
					t.Error(err)
				}
			}
		})
		withdrawn := withdrawSome(t, ctx, ledgers.At(other, "x"), &all)
		seen := seenAfter(t, ctx, ledgers.At(db, "x"))
		if !slices.IsSorted(seen) {
			t.Errorf("the rest is out of order: %v", seen)
		}
		if len(seen)+len(withdrawn) != messages {
			t.Errorf("%d handled and %d withdrawn, of %d", len(seen), len(withdrawn), messages)
		}
		for _, n := range withdrawn {
			if slices.Contains(seen, n) {
				t.Errorf("message %d was withdrawn and handled", n)
			}
		}
		if len(withdrawn) == 0 || len(seen) == 0 {
			t.Logf("%d handled, %d withdrawn: no race was tried", len(seen), len(withdrawn))
		}
	})
}

// withdrawSome withdraws what it sees until the senders are done, and returns what it got.
func withdrawSome(t *testing.T, ctx context.Context, s *dserver.DServer[Ledger], senders *sync.WaitGroup) (got []int) {
	done := make(chan struct{})
	go func() { senders.Wait(); close(done) }()
	for {
		for q, err := range s.Queue(ctx) {
			must(t, err)
			if q.Stamp.Sequence()%2 == 0 {
				continue // leave some to the consumer
			}
			switch err := s.Withdraw(ctx, q.Stamp); {
			case err == nil:
				got = append(got, int(noteOf(t, q.Message)))
			case !errors.Is(err, dserver.ErrNotFound):
				t.Error(err)
			}
		}
		select {
		case <-done:
			return got
		default:
		}
	}
}

// seenAfter is what the server noted when its queue is empty.
func seenAfter(t *testing.T, ctx context.Context, s *dserver.DServer[Ledger]) []int {
	t.Helper()
	seen, err := dserver.Call(ctx, s, Read{})
	must(t, err)
	return seen
}

// noteOf reads a Note as a tool does, without decoding it into its Go type.
func noteOf(t testing.TB, m dserver.Message) int64 {
	t.Helper()
	var fields map[string]int64
	must(t, cbor.Unmarshal(m.Body, &fields))
	return fields["N"]
}

package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/queue"
)

func TestAMendedMessageIsHandledInItsPlace(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := stubborn.At(db, "x")
		must(t, s.CastAll(ctx, []any{Burst{}, Note{2}}))
		start(t, db, stubborn)
		whatFails(t, s, func(dserver.Failing) bool { return true }) // its next attempt is in an hour
		must(t, stubborn.At(open(), "x").Mend(ctx, waiting(t, s)[0], Note{1}))
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{1, 2}) {
			t.Errorf("it has handled %v", seen)
		}
		if status := statusOf(t, s); status.Attempts != 0 || status.Failing != nil || status.Queued != 0 || status.DeadLetters != 0 {
			t.Errorf("%+v", status)
		}
	})
}

// The caller of a message that is mended gets the answer to what is in its place.
func TestTheCallerOfAMendedMessageIsAnswered(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.Ref("x").At(db)
		must(t, s.Cast(ctx, Note{5}))
		answer := make(chan []int, 1)
		go func(db backend.Database) {
			var seen []int
			if err := ledgers.Ref("x").At(db).Call(ctx, blocked{}, &seen); err != nil {
				t.Error(err)
			}
			answer <- seen
		}(open())
		eventually(t, "the call is queued", func() bool { return len(waiting(t, s)) == 2 })
		start(t, db, ledgers)
		eventually(t, "the call waits for a handler", func() bool { return statusOf(t, s).Unhandled == "Unheard" })
		must(t, s.Mend(ctx, waiting(t, s)[0], Read{}))
		if seen := <-answer; !slices.Equal(seen, []int{5}) {
			t.Errorf("the caller got %v", seen)
		}
	})
}

// A message may become larger and smaller in its place, though those beside it are of the same commit: the order stays, and
// what is counted.
func TestAMendedMessageMayHaveAnySize(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		text := func(n int, size int) string { return fmt.Sprintf("<%d%s>", n, strings.Repeat("x", size)) }
		sizes := []int{0, 70_000, 10, 200_000}
		batch := make([]any, len(sizes))
		for i, size := range sizes {
			batch[i] = Page{text(i, size)}
		}
		must(t, s.CastAll(ctx, batch))
		order := waiting(t, s)
		for _, c := range []struct{ at, size int }{{0, 300_000}, {1, 5}, {2, 70_000}, {3, 4_000_000}, {0, 130_000}, {2, 0}, {0, 1}, {3, 66_000}, {1, 90_000}} {
			q, err := s.Queued(ctx, order[c.at].Stamp)
			must(t, err)
			must(t, s.Mend(ctx, q, Page{text(c.at, c.size)}))
			sizes[c.at] = c.size
			all := waiting(t, s)
			if len(all) != len(order) || statusOf(t, s).Queued != int64(len(order)) {
				t.Fatalf("%d messages wait, and are counted as %d", len(all), statusOf(t, s).Queued)
			}
			for i, q := range all {
				if q.Stamp != order[i].Stamp || len(q.Message.Body) < sizes[i] || len(q.Message.Body) > sizes[i]+30 {
					t.Fatalf("after %v message %d is %v, of %d bytes", c, i, q.Stamp, len(q.Message.Body))
				}
			}
			check(t, db, ledgers)
		}
		must(t, s.Withdraw(ctx, order[3].Stamp))
		start(t, db, ledgers)
		seenAfter(t, ctx, s)
		want := text(0, sizes[0]) + text(1, sizes[1]) + text(2, sizes[2])
		if state, err := s.State(ctx); err != nil || state.Text != want {
			t.Errorf("it has handled %d bytes, %v; want %d", len(state.Text), err, len(want))
		}
		must(t, db.Read(ctx, func(tx backend.ReadTx) error {
			pairs, err := tx.GetRange(queue.At(backend.NewKey("s", "ledger", "x", "q")).Rows(), backend.RangeOptions{}).Get()
			if len(pairs) > 0 {
				t.Errorf("%d rows are left", len(pairs))
			}
			return err
		}))
	})
}

// A turn that has a message in hand as it is mended does not commit, also where the mended one begins as the other did.
func TestATurnDoesNotCommitWhatWasMendedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, long := range []string{"", strings.Repeat("long ", 40_000)} {
		eachStore(t, func(t *testing.T, open func() backend.Database) {
			ctx := within(t)
			entered, leave := make(chan struct{}, 10), make(chan struct{})
			def := ledgers.With(dserver.HandleCast(func(_ *dserver.Context, l *Ledger, m Write) error {
				entered <- struct{}{}
				<-leave
				l.Text += m.Line[len(long):]
				return nil
			}))
			db, far := open(), def.At(open(), "x")
			s := def.At(db, "x")
			must(t, s.Cast(ctx, Write{long + "wrong"}))
			start(t, db, def)
			<-entered
			must(t, far.Mend(ctx, waiting(t, far)[0], Write{long + "right"}))
			close(leave)
			seenAfter(t, ctx, s)
			if state, err := s.State(ctx); err != nil || state.Text != "right" {
				t.Errorf("it has handled %q, %v", state.Text, err)
			}
		})
	}
}

// An attempt of what was there before is not counted as one of what was put in its place.
func TestAnAttemptIsNotCountedOfWhatWasMendedMeanwhile(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		entered, leave := make(chan string, 10), make(chan struct{})
		def := stubborn.With(dserver.HandleCast(func(_ *dserver.Context, l *Ledger, m Write) error {
			entered <- m.Line
			if m.Line == "wrong" {
				<-leave
				panic("it broke")
			}
			l.Text = m.Line
			return nil
		}))
		db, far := open(), def.At(open(), "x")
		s := def.At(db, "x")
		must(t, s.Cast(ctx, Write{"wrong"}))
		start(t, db, def)
		<-entered
		must(t, far.Mend(ctx, waiting(t, far)[0], Write{"right"}))
		close(leave)
		seenAfter(t, ctx, s) // an attempt that is counted would keep it waiting for an hour
		if state, err := s.State(ctx); err != nil || state.Text != "right" || statusOf(t, s).Attempts != 0 {
			t.Errorf("it has handled %q, %v; %+v", state.Text, err, statusOf(t, s))
		}
	})
}

func TestMendRefusesWhatIsNotAsItWasSeen(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		must(t, s.Cast(ctx, Note{1}))
		q := waiting(t, s)[0]
		must(t, s.Mend(ctx, q, Note{2}))
		if err := s.Mend(ctx, q, Note{3}); !errors.Is(err, dserver.ErrChanged) {
			t.Errorf("of two only one may mend: %v", err)
		}
		if err := s.Mend(ctx, q, Lines{}); !errors.Is(err, dserver.ErrNoHandler) {
			t.Errorf("mended into what nobody handles: %v", err)
		}
		must(t, s.Withdraw(ctx, q.Stamp))
		if err := s.Mend(ctx, q, Note{3}); !errors.Is(err, dserver.ErrNotFound) {
			t.Errorf("mended what is gone: %v", err)
		}
	})
}

// One that nobody can read is mended as well, and what it was.
func TestADamagedMessageIsMended(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := stubborn.At(db, "x")
		push(t, db, s.Ref(), queue.Priority, []byte("rubbish"))
		must(t, s.Mend(ctx, waiting(t, s)[0], Note{1}))
		start(t, db, stubborn)
		if seen := seenAfter(t, ctx, s); !slices.Equal(seen, []int{1}) {
			t.Errorf("it has handled %v", seen)
		}
	})
}

// What dead consumers have claimed of a message are attempts of it: mended, it has none.
func TestAMendedMessageIsNoSuspect(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := ledgers.At(db, "x")
		must(t, s.Cast(ctx, Note{1}))
		q := waiting(t, s)[0]
		var mark backend.Key
		must(t, db.Read(ctx, func(tx backend.ReadTx) error {
			pairs, err := tx.GetRange(backend.NewKey("r").Below(), backend.RangeOptions{}).Get()
			mark = pairs[0].Key[:len(pairs[0].Key)-len(backend.NewKey("m"))]
			return err
		}))
		claims := map[string][]byte{"DEAD": q.Stamp[:], "OTHER": make([]byte, 12)}
		must(t, db.Transact(ctx, func(tx backend.Tx) error {
			for process, stamp := range claims {
				tx.Set(mark.Str("c", process), append([]byte("\xa1estampL"), stamp...))
			}
			return nil
		}))
		must(t, s.Mend(ctx, q, Note{2}))
		must(t, db.Transact(ctx, func(tx backend.Tx) error {
			for process := range claims {
				value, err := tx.Get(mark.Str("c", process)).Get()
				if err != nil || (value != nil) != (process == "OTHER") {
					t.Errorf("the claim of %s is %x, %v", process, value, err)
				}
				tx.Clear(mark.Str("c", process).Only())
			}
			return nil
		}))
	})
}

func TestMendAndTurnsNeverBothTakeAMessage(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		db, other := open(), open()
		const messages, more = 300, 1000
		start(t, db, ledgers)
		far := ledgers.At(other, "x") // through the queue, as no consumer runs there
		var all sync.WaitGroup
		all.Go(func() {
			for n := range messages {
				if err := far.Cast(ctx, Note{n}); err != nil {
					t.Error(err)
				}
			}
		})
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		mended := map[int]bool{}
		for ended := false; !ended; {
			for q, err := range far.Queue(ctx) {
				must(t, err)
				n := int(noteOf(t, q.Message))
				switch err := far.Mend(ctx, q, Note{n%more + more}); {
				case err == nil:
					mended[n%more] = true
				case !errors.Is(err, dserver.ErrNotFound):
					t.Error(err)
				}
			}
			select {
			case <-done:
				ended = true
			default:
			}
		}
		seen := seenAfter(t, ctx, ledgers.At(db, "x"))
		if len(seen) != messages {
			t.Errorf("%d of %d are handled", len(seen), messages)
		}
		for i, n := range seen {
			if n%more != i || (n >= more) != mended[i] {
				t.Errorf("message %d is handled as %d, and was mended: %v", i, n, mended[i])
			}
		}
	})
}

func TestEachFaultLeavesAMendWhole(t *testing.T) {
	eachOperatorFault(t, func(o *operator) {
		ctx := within(o.t)
		s := o.plain()
		must(o.t, s.CastAll(ctx, []any{Note{1}, Burst{}, Note{3}}))
		poison := waiting(o.t, s)[1]
		o.do("mend", func(ctx context.Context, s *dserver.DServer[Ledger]) error {
			err := s.Mend(ctx, poison, Note{2})
			if errors.Is(err, dserver.ErrChanged) { // it was done
				return nil
			}
			return err
		})
		start(o.t, o.store.Open(), ledgers)
		if seen := seenAfter(o.t, ctx, s); !slices.Equal(seen, []int{1, 2, 3}) {
			o.t.Errorf("%v: seen %v", o.f, seen)
		}
	})
}

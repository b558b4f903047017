package dserver_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

func delayedOf(t *testing.T, s *dserver.DServer[Safe]) (all []dserver.Delayed) {
	t.Helper()
	for d, err := range s.Delayed(t.Context()) {
		must(t, err)
		all = append(all, d)
	}
	return all
}

// What is sent with After is seen until it is due, and can be taken back: then its caller is told.
func TestDelayedMessagesAreSeenAndWithdrawn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		types := safes(easyToil)
		db, ctx := open(), within(t)
		s := types.At(db, "a")
		began := time.Now()
		must(t, s.CastAll(ctx, []any{Stow{"1"}, Stow{"2"}}, dserver.After(time.Hour), dserver.Priority()))
		answer := make(chan error, 1)
		go func() {
			answer <- s.Call(ctx, Grab{ID: "3"}, nil, dserver.After(2*time.Hour), dserver.Once("k"))
		}()
		eventually(t, "both are seen", func() bool { return statusOf(t, s).Delayed == 2 })
		for _, d := range delayedOf(t, s) {
			hours := time.Duration(3 - len(d.Messages))
			if early := d.Due.Sub(began) - hours*time.Hour; early < 0 || early > time.Minute ||
				d.Call != (hours == 2) || d.Priority != (hours == 1) || d.Sent.Before(began.Add(-time.Second)) {
				t.Errorf("%+v", d)
			}
			if hours == 2 {
				must(t, s.WithdrawDelayed(ctx, d.ID))
				if err := s.WithdrawDelayed(ctx, d.ID); !errors.Is(err, dserver.ErrNotFound) {
					t.Errorf("the second time: %v", err)
				}
			}
		}
		if err := <-answer; !errors.Is(err, dserver.ErrWithdrawn) {
			t.Errorf("its caller is told %v", err)
		}
		if err := s.Call(ctx, Grab{ID: "3"}, nil, dserver.Once("k")); !errors.Is(err, dserver.ErrWithdrawn) {
			t.Errorf("the outcome of its key is %v", err)
		}
		check(t, db, types)
		must(t, s.Kill(ctx))
		if all := delayedOf(t, s); len(all) > 0 || statusOf(t, s).Delayed != 0 {
			t.Errorf("after a kill it has %+v", all)
		}
	})
}

// Of a withdrawal and the time that comes, one takes the message.
func TestDelayedMessageIsHandledOrWithdrawn(t *testing.T) {
	const count = 60
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		types := safes(easyToil)
		db, ctx := open(), within(t)
		s := types.At(db, "a")
		start(t, open(), types)
		for i := range count {
			must(t, s.Cast(ctx, Stow{fmt.Sprint(i)}, dserver.After(time.Duration(i)*time.Millisecond)))
		}
		var withdrawn atomic.Int64
		var all sync.WaitGroup
		for range 2 { // operators
			s := types.At(open(), "a")
			all.Go(func() {
				for d, err := range s.Delayed(ctx) {
					if err == nil {
						err = s.WithdrawDelayed(ctx, d.ID)
					}
					switch {
					case err == nil:
						withdrawn.Add(1)
					case !errors.Is(err, dserver.ErrNotFound):
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		eventually(t, "each is handled or withdrawn", func() bool {
			status := statusOf(t, s)
			state, err := s.State(ctx)
			for id, n := range state.Seen {
				if n != 1 {
					t.Fatalf("%s was handled %d times", id, n)
				}
			}
			return status.Delayed == 0 && status.Queued == 0 && (err == nil || withdrawn.Load() == count) &&
				len(state.Seen)+int(withdrawn.Load()) == count
		})
	})
}

// The stamp that Requeue returns names the message on the queue, of whatever size it is.
func TestRequeueNamesTheMessage(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		s := journals.At(db, "a")
		stop := run(t, dserver.Consumer{}, open(), journals)
		for _, size := range []int{1, 200_000} {
			must(t, s.Cast(ctx, Reject{strings.Repeat("x", size)}))
		}
		eventually(t, "both are set aside", func() bool { return statusOf(t, s).DeadLetters == 2 })
		stop()
		for d, err := range s.DeadLetters(ctx) {
			must(t, err)
			stamp, err := s.Requeue(ctx, d)
			must(t, err)
			if q, err := s.Queued(ctx, stamp); err != nil || len(q.Message.Body) != len(d.Message.Body) {
				t.Errorf("%v names %d bytes, not %d: %v", stamp, len(q.Message.Body), len(d.Message.Body), err)
			}
		}
	})
}

// Messages that are due at one moment come in the order in which their process has sent them.
func TestDelayedMessagesOfOneMomentKeepTheirOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		const each = 30
		types := journals.With(dserver.HandleCast(func(ctx *dserver.Context, _ *Journal, m Mark) error {
			for i := range each {
				ctx.Cast(ctx.Self(), Write{fmt.Sprint(m.Line, i)}, dserver.After(20*time.Millisecond))
			}
			return nil
		}))
		db := open()
		run(t, dserver.Consumer{}, db, types)
		s := types.At(db, "a")
		must(t, s.Call(within(t), Mark{"x"}, nil))
		eventually(t, "all are handled", func() bool { return len(lines(t, s)) == each })
		expectLines(t, lines(t, s), numbered("x", each)...)
	})
}

package dserver_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Nothing rests on a watch alone, so whoever forgets to ring makes the library slow and not wrong. Here the time is
// looked at: each way in which a consumer or a caller hears of something takes no longer than a few commits.
func TestNobodyWaitsForTheNextLook(t *testing.T) {
	const soon = 50 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		types := journals.With(dserver.HandleCast(func(ctx *dserver.Context, _ *Journal, m Mark) error {
			ctx.Cast(journal.Ref("next to "+ctx.Self().ID), Write(m))
			return nil
		}))
		store := newStore(t, types)
		here, there := store.Open(), store.Open()
		run(t, dserver.Consumer{}, here, types)
		synctest.Wait()
		ctx := context.Background()
		within := func(what string, fn func()) {
			t.Helper()
			<-time.After(17 * time.Second) // all is quiet, and the mark of the last round is cleared
			began := time.Now()
			fn()
			if waited := time.Since(began); waited > soon {
				t.Errorf("%s took %v", what, waited)
			}
		}
		arrives := func(id, line string) {
			for limit := time.Now().Add(time.Minute); time.Now().Before(limit); <-time.After(time.Millisecond) {
				state, err := journal.At(there, id).State(ctx)
				if err == nil && state.Seen[line] > 0 {
					return
				}
			}
			t.Errorf("%s never came to %s", line, id)
		}
		for round := range 3 {
			line := fmt.Sprint(round)
			within("a call from another process", func() {
				must(t, journal.At(there, "a").Call(ctx, Append{Line: line}, nil))
			})
			within("a cast from another process", func() {
				must(t, journal.At(there, "b").Cast(ctx, Write{line}))
				arrives("b", line)
			})
			within("a large call beside the consumer, which is queued", func() {
				must(t, types.At(here, "c").Call(ctx, Append{Line: line}, nil, dserver.Priority()))
			})
			within("a cast from a handler", func() {
				must(t, types.At(here, "d").Cast(ctx, Mark{line}))
				arrives("next to d", line)
			})
			within("a cast from a handler of another process's message", func() {
				must(t, types.At(there, "e").Cast(ctx, Mark{line}))
				arrives("next to e", line)
			})
		}
	})
}

// Messages that come while a turn runs, or just as the ready mark is cleared, are not forgotten until the next look.
func TestMessagesAtAnyMomentAreHandledSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := seeded(t)
		store := newStore(t, journals)
		lags := newLag(random, 2*time.Millisecond)
		run(t, dserver.Consumer{}, lags.on(store.Open()), journals)
		there := store.Open()
		synctest.Wait()
		for i := range 400 {
			<-time.After(time.Duration(random.Int64N(int64(25 * time.Millisecond))))
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			must(t, journal.At(there, "a").Call(ctx, Append{Line: fmt.Sprint(i)}, nil))
			cancel()
			if waited := time.Since(began); waited > 200*time.Millisecond {
				t.Errorf("call %d took %v", i, waited)
			}
		}
	})
}

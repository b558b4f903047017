package dserver_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// A queue that is long, handlers that are slow or do not return, a message that is poison and locked work take one worker
// each at most, and those that wait take none. The other servers of the consumer are answered as before.
func TestServersInTroubleLeaveTheOthersAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		turns int
		most  time.Duration // that a call may take longer than before
	}{
		{4, 0},                      // a worker for each of the long, the slow and the hanging one, and one for the others
		{3, 200 * time.Millisecond}, // where the others share one with the long one, they come after a batch of that
	} {
		t.Run(fmt.Sprint(c.turns), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := make(chan struct{})
				types := beset(hang)
				store := newStore(t, types)
				db, far, ctx := store.Open(), store.Open(), context.Background()
				stop := run(t, dserver.Consumer{Turns: c.turns}, db, types)
				synctest.Wait()
				before := slowestCall(t, types, db, far)

				for range 100 {
					must(t, types.At(far, "long").CastAll(ctx, slices.Repeat([]any{Linger{2 * time.Millisecond}}, 200)))
				}
				must(t, types.At(far, "slow").CastAll(ctx, slices.Repeat([]any{Linger{3 * time.Second}}, 100)))
				must(t, types.At(far, "hanging").Cast(ctx, Hold{}))
				must(t, types.At(far, "poisoned").Cast(ctx, Blow{"it"}))
				must(t, types.At(far, "locked").Cast(ctx, Guarded{"it"}))
				if after := slowestCall(t, types, db, far); after > before+c.most {
					t.Errorf("a call took %v, and before %v", after, before)
				}
				for _, id := range []string{"long", "slow", "hanging", "poisoned"} {
					if s := statusOf(t, types.At(far, id)); s.Queued == 0 {
						t.Errorf("%s had nothing to do: %+v", id, s)
					}
				}
				if !statusOf(t, types.At(far, "locked")).Locked {
					t.Error("nothing was under a lock")
				}
				close(hang)
				stop()
			})
		})
	}
}

// beset is journals of which some servers are in trouble.
func beset(hang <-chan struct{}) *dserver.Definition[Journal] {
	return journals.With(
		dserver.Settings[Journal]{MaxAttempts: 1000},
		dserver.HandleCast(func(_ *dserver.Context, _ *Journal, m Linger) error {
			<-time.After(m.For)
			return nil
		}),
		dserver.HandleCast(func(*dserver.Context, *Journal, Hold) error {
			<-hang
			return nil
		}),
		dserver.HandleLocked(
			func(ctx *dserver.LockedContext, _ Journal, _ Guarded) (int, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			},
			func(*dserver.Context, *Journal, Guarded, int) error { return nil }))
}

// slowestCall is how long the slowest of many calls takes in half a minute, of the consumer's process and of another.
func slowestCall(t *testing.T, types *dserver.Definition[Journal], dbs ...backend.Database) (slowest time.Duration) {
	t.Helper()
	for began := time.Now(); time.Since(began) < 30*time.Second; <-time.After(37 * time.Millisecond) {
		for i, db := range dbs {
			sent := time.Now()
			_, err := dserver.Call(within(t), types.At(db, fmt.Sprint("another ", i)), Append{Line: "a line"})
			must(t, err)
			slowest = max(slowest, time.Since(sent))
		}
	}
	return slowest
}

// dawdlers is a type with a bound, whose handlers are counted.
func dawdlers(c *crew, s dserver.Settings[Journal], hang <-chan struct{}) *dserver.Definition[Journal] {
	return dserver.Define("dawdler", s,
		dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Linger) error {
			end := c.begin(ctx.Self().ID)
			<-time.After(m.For)
			end()
			j.write("lingered")
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, _ *Journal, m Hold) error {
			if m.Exits {
				runtime.Goexit()
			}
			<-hang
			return nil
		}),
		dserver.HandleCall(func(_ *dserver.Context, j *Journal, _ Lines) ([]string, error) { return j.Lines, nil }),
		dserver.HandleLocked(
			func(_ *dserver.LockedContext, _ Journal, m Slow) (string, error) {
				<-time.After(m.Took)
				return m.Line, nil
			},
			func(_ *dserver.Context, j *Journal, _ Slow, found string) error {
				j.write(found)
				return nil
			}))
}

// A type with slow handlers and a bound has no more turns at a time, first come first served, wastes no time between
// them, and leaves the other workers to other types.
func TestTypeWithABoundLeavesWorkersToTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c crew
		slow := dawdlers(&c, dserver.Settings[Journal]{Turns: 2}, nil)
		store := newStore(t, slow, journals)
		db, far, ctx := store.Open(), store.Open(), context.Background()
		run(t, dserver.Consumer{Turns: 3}, db, slow, journals)
		synctest.Wait()
		before := slowestCall(t, journals, db, far)
		ids := numbered("slow ", 40)
		for _, id := range ids {
			must(t, slow.At(far, id).Cast(ctx, Linger{3 * time.Second}))
			<-time.After(time.Millisecond)
		}
		began := time.Now()
		if after := slowestCall(t, journals, db, far); after > before {
			t.Errorf("a call of another type took %v, and before %v", after, before)
		}
		<-time.After(time.Until(began.Add(59*time.Second + 900*time.Millisecond)))
		if n := c.begun.Load(); n != int64(len(ids)) || c.most.Load() != 2 {
			t.Errorf("a minute later %d were begun, up to %d at once", n, c.most.Load())
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Equal(c.order, ids) {
			t.Errorf("the order was %q", c.order)
		}
	})
}

// Other types wait for no more turns of a type than its bound, also when that is all workers.
func TestLinesDoNotKeepTheOtherTypesWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew
		slow := dawdlers(&c, dserver.Settings[Journal]{Turns: 2}, nil)
		store := newStore(t, slow, journals)
		far, ctx := store.Open(), context.Background()
		run(t, dserver.Consumer{Turns: 2}, store.Open(), slow, journals)
		synctest.Wait()
		for _, id := range numbered("slow ", 40) {
			must(t, slow.At(far, id).Cast(ctx, Linger{3 * time.Second}))
		}
		for range 3 {
			began := time.Now()
			must(t, journals.At(far, "another").Call(within(t), Append{Line: "a line"}, nil))
			if took := time.Since(began); took > 7*time.Second {
				t.Errorf("a call of another type took %v", took)
			}
		}
	})
}

// A handler that does not return, or that ends its goroutine, has its share until its turn has ended on another goroutine,
// and not longer.
func TestShareIsGivenOnByAHandlerThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew
		hang := make(chan struct{})
		slow := dawdlers(&c, dserver.Settings[Journal]{Turns: 1, MaxAttempts: 3}, hang)
		store := newStore(t, slow)
		far, ctx := store.Open(), context.Background()
		stop := run(t, dserver.Consumer{}, store.Open(), slow)
		synctest.Wait()
		must(t, slow.At(far, "hangs").Cast(ctx, Hold{}))
		must(t, slow.At(far, "exits").CastAll(ctx, []any{Linger{50 * time.Millisecond}, Hold{Exits: true}})) // which are one turn
		for _, id := range numbered("", 9) {
			must(t, slow.At(far, id).CastAll(ctx, []any{Linger{time.Second}, Linger{time.Second}}))
		}
		<-time.After(40 * time.Second) // 18 of linger, 12 of three overruns, and back-offs
		if n := c.begun.Load(); n != 20 || c.most.Load() != 1 {
			t.Errorf("%d were begun, up to %d at once", n, c.most.Load())
		}
		for _, id := range []string{"hangs", "exits"} {
			if s := statusOf(t, slow.At(far, id)); s.DeadLetters != 1 {
				t.Errorf("%s: %+v", id, s)
			}
		}
		close(hang)
		stop()
	})
}

// What locked work has found is applied though the type has its number in hand when the consumer stops, and what waits for
// a share is left to others at once.
func TestStopLetsTheLineOfATypeGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew
		slow := dawdlers(&c, dserver.Settings[Journal]{Turns: 1}, nil)
		store := newStore(t, slow)
		db, far, ctx := store.Open(), store.Open(), context.Background()
		stop := run(t, dserver.Consumer{}, db, slow)
		synctest.Wait()
		must(t, slow.At(far, "locked").Cast(ctx, Slow{"found", time.Second}))
		<-time.After(500 * time.Millisecond)
		must(t, slow.At(far, "slow").Cast(ctx, Linger{3 * time.Second}))
		<-time.After(time.Second) // the work has ended, and waits for its turn
		for _, id := range []string{"far", "near"} {
			go func() {
				at := map[string]backend.Database{"far": far, "near": db}[id]
				if err := slow.At(at, id).Cast(ctx, Linger{0}); err != nil {
					t.Error(err)
				}
			}()
		}
		<-time.After(10 * time.Millisecond)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the stop took %v", took)
		}
		if s := statusOf(t, slow.At(far, "locked")); s.Locked {
			t.Errorf("the work was not applied: %+v", s)
		}
		if n := c.begun.Load(); n != 1 {
			t.Errorf("%d were begun", n)
		}
		run(t, dserver.Consumer{}, store.Open(), slow)
		expectLines(t, lines(t, slow.At(far, "locked")), "found")
		for _, id := range []string{"slow", "far", "near"} {
			expectLines(t, lines(t, slow.At(far, id)), "lingered")
		}
	})
}

// Chore is a message whose handler takes its time, and breaks the first time.
type Chore struct {
	Line string
	For  time.Duration
	How  string
}

// With bounds, few workers, no room in the cache, handlers that break in all ways and consumers that stop, each message is
// handled once.
func TestBoundedTypesLoseNothing(t *testing.T) {
	t.Parallel()
	for range 5 {
		synctest.Test(t, boundedTypesLoseNothing)
	}
}

func boundedTypesLoseNothing(t *testing.T) {
	r := seeded(t)
	var broken sync.Map
	handler := dserver.HandleCast(func(_ *dserver.Context, j *Journal, m Chore) error {
		<-time.After(m.For)
		if _, before := broken.LoadOrStore(m.Line, nil); !before {
			switch m.How {
			case "panic":
				panic("a chore")
			case "goexit":
				runtime.Goexit()
			case "hang":
				<-time.After(3 * time.Second)
			}
		}
		j.write(m.Line)
		return nil
	})
	reads := dserver.HandleCall(func(_ *dserver.Context, j *Journal, _ Lines) ([]string, error) { return j.Lines, nil })
	var defs []*dserver.Definition[Journal]
	var types []dserver.Type
	for turns := range 3 {
		s := dserver.Settings[Journal]{Turns: turns, HandlerLimit: time.Second}
		def := dserver.Define(fmt.Sprint("type ", turns), s, handler, reads)
		defs, types = append(defs, def), append(types, def)
	}
	store := newStore(t, types...)
	db, far := store.Open(), store.Open()
	consumer := dserver.Consumer{Turns: 3, Cache: 1}
	stop := run(t, consumer, db, types...)
	stopOther := run(t, consumer, store.Open(), types...)
	sent := map[dserver.Ref][]string{}
	for n := range 300 {
		s := defs[r.IntN(3)].At([]backend.Database{db, far}[r.IntN(2)], fmt.Sprint(r.IntN(8)))
		line := fmt.Sprint("chore ", n)
		how := []string{"", "", "", "", "panic", "goexit", "hang"}[r.IntN(7)]
		sent[s.Ref()] = append(sent[s.Ref()], line)
		chore := Chore{line, time.Duration(r.IntN(2)) * 10 * time.Millisecond, how}
		go func() {
			if err := s.Cast(context.Background(), chore); err != nil {
				t.Error(err)
			}
		}()
		<-time.After(time.Duration(r.IntN(60)) * time.Millisecond)
		if n%100 == 99 {
			stop()
			stop = run(t, consumer, db, types...)
		}
	}
	for ref, want := range sent {
		def := defs[slices.IndexFunc(defs, func(d *dserver.Definition[Journal]) bool { return d.Name() == ref.Type })]
		var got []string
		for range 60 {
			if got = lines(t, def.At(far, ref.ID)); len(got) >= len(want) {
				break
			}
			<-time.After(time.Second)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%v handled %q, not %q", ref, got, want)
		}
	}
	stop()
	stopOther()
}

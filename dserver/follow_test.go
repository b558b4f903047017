package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// pulled is a loop that a test takes step by step.
type pulled[V any] struct {
	t    testing.TB
	next func() (V, error, bool)
	stop func()
}

func pull[V any](t testing.TB, seq iter.Seq2[V, error]) pulled[V] {
	t.Helper()
	next, stop := iter.Pull2(seq)
	t.Cleanup(stop)
	return pulled[V]{t, next, stop}
}

// value is what comes next, which is no error.
func (p pulled[V]) value() V {
	p.t.Helper()
	v, err, ok := p.next()
	if err != nil || !ok {
		p.t.Fatalf("a follower got %v, %v", err, ok)
	}
	return v
}

// fails takes an error, and the end if it is the last.
func (p pulled[V]) fails(want error, isLast bool) {
	p.t.Helper()
	if _, err, ok := p.next(); !ok || !errors.Is(err, want) {
		p.t.Fatalf("a follower got %v, %v, not %v", err, ok, want)
	}
	if !isLast {
		return
	}
	if v, err, ok := p.next(); ok {
		p.t.Fatalf("after %v a follower got %v, %v", want, v, err)
	}
}

// until takes values until one is as it should be. Those before are not the last.
func (p pulled[V]) until(is func(V) bool) {
	p.t.Helper()
	for !is(p.value()) {
	}
}

func countIs(n int64) func(Counter) bool { return func(c Counter) bool { return c.Count == n } }

func is[V comparable](want V) func(V) bool { return func(v V) bool { return v == want } }

// A process without a consumer follows servers that others change, from their first state over resets and kills to what
// comes after.
func TestFollowYieldsTheStateNowAndAfterEachChange(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		start(t, open(), counters)
		run(t, dserver.Consumer{Labels: []string{"eu"}}, open(), counters)
		here, there := open(), open()
		visits := counters.At(there, "visits")
		followed, asked := pull(t, counters.At(here, "visits").Follow(ctx)), pull(t, dserver.FollowQuery(ctx, counters.At(here, "visits"), Value{}))
		expect := func(n int64) {
			t.Helper()
			followed.until(countIs(n))
			asked.until(is(n))
		}
		expect(0)
		must(t, visits.Call(ctx, Increment{By: 1}, nil))
		expect(1)
		must(t, visits.Cast(ctx, Increment{By: 2}))
		expect(3)
		must(t, visits.Reset(ctx))
		expect(0)
		must(t, visits.Call(ctx, Increment{By: 4}, nil))
		expect(4)
		must(t, visits.Pin(ctx, "eu"))
		must(t, visits.Call(ctx, Increment{By: 1}, nil))
		expect(5)
		must(t, visits.Kill(ctx))
		expect(0)
		must(t, visits.Call(ctx, Increment{By: 6}, nil))
		expect(6)
		late := pull(t, counters.At(here, "visits").Follow(ctx))
		if c := late.value(); c.Count != 6 {
			t.Errorf("who comes late begins with %d", c.Count)
		}
		anything := pull(t, counters.Ref("visits").At(here).Follow(ctx))
		if got := fmt.Sprint(anything.value()); got != "map[Count:6]" {
			t.Errorf("without its type the state is %s", got)
		}
	})
}

// Whoever commits, from however many processes: a follower sees states in their order, each once, and always the last. What
// the body of its loop takes is drawn.
func TestAFollowerSeesStatesInOrderAndAlwaysTheLast(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		random, ctx := seeded(t), within(t)
		const processes, followers, each = 3, 4, 40
		var dbs []backend.Database
		for range processes {
			db := open()
			start(t, db, journals)
			dbs = append(dbs, db)
		}
		dbs = append(dbs, open()) // without a consumer
		seen := make([][][]string, followers*len(dbs))
		var all sync.WaitGroup
		for i := range seen {
			pauses := make([]time.Duration, 8)
			for i := range pauses {
				pauses[i] = time.Duration(random.IntN(3)) * time.Duration(random.IntN(10)) * time.Millisecond
			}
			all.Go(func() {
				for j, err := range journals.At(dbs[i%len(dbs)], "a").Follow(ctx) {
					if err != nil {
						t.Errorf("follower %d: %v", i, err)
						return
					}
					if seen[i] = append(seen[i], j.Lines); len(j.Lines) == len(dbs)*each {
						return
					}
					<-time.After(pauses[len(seen[i])%len(pauses)])
				}
			})
		}
		for p, db := range dbs {
			all.Go(func() {
				for i := range each {
					if err := journals.At(db, "a").Cast(ctx, Write{fmt.Sprint(p, ".", i)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		last := lines(t, journals.At(dbs[0], "a"))
		for i, states := range seen {
			for k, lines := range states {
				if !slices.Equal(lines, last[:len(lines)]) || k > 0 && len(lines) <= len(states[k-1]) {
					t.Fatalf("follower %d saw %d lines, and then %q of %q", i, len(states[max(k-1, 0)]), lines, last)
				}
			}
		}
	})
}

// A process of its own changes the server, and is killed; another one goes on.
func TestFollowSeesWhatOtherProcessesCommit(t *testing.T) {
	t.Parallel()
	eachNamedStore(t, func(t *testing.T, place func(testing.TB) string) {
		name, ctx := place(t), within(t)
		db := openNamed(t, name)
		t.Cleanup(func() { must(t, db.Close()) })
		startChild(t, name)
		startChild(t, name)
		sum, folded := sums.At(db, "a"), Sum{}
		followed := pull(t, sum.Follow(ctx))
		for i := range uint32(50) {
			must(t, sum.Cast(ctx, FoldLater{By: i}))
			folded.fold(i)
			followed.until(func(s Sum) bool { return s.X == folded.X && len(s.Had) == int(i)+1 })
		}
	})
}

// However many follow a server in a process, they are one watch, one read for each change, and nothing when they have ended.
func TestAThousandFollowersShareOneWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t, counters), context.Background()
		start(t, store.Open(), counters)
		here, visits := &farDB{Database: store.Open()}, counters.At(store.Open(), "visits")
		const followers = 1000
		following, leave := context.WithCancel(ctx)
		var saw [4]atomic.Int64
		var all sync.WaitGroup
		for i := range followers {
			all.Go(func() {
				if i%2 == 0 {
					for n, err := range dserver.FollowQuery(following, counters.At(here, "visits"), Value{}) {
						if err != nil {
							return
						}
						saw[n].Add(1)
					}
					return
				}
				for c, err := range counters.At(here, "visits").Follow(following) {
					if err != nil {
						return
					}
					saw[c.Count].Add(1)
				}
			})
		}
		for n := range saw {
			if n > 0 {
				must(t, visits.Call(ctx, Increment{By: 1}, nil))
			}
			reads := here.reads.Load()
			<-time.After(time.Second)
			if n > 0 {
				reads = here.reads.Load() - reads
			}
			if got, watches := saw[n].Load(), here.watches.Load(); got != followers || watches != 1 || reads > 2 {
				t.Errorf("%d of %d followers saw %d, with %d watches and %d reads", got, followers, n, watches, reads)
			}
		}
		reads := here.reads.Load()
		<-time.After(time.Minute)
		if n := here.reads.Load() - reads; n < 9 || n > 13 {
			t.Errorf("in a minute in which nothing happens, a server that is followed is read %d times", n)
		}
		leave()
		all.Wait()
		if n := here.watches.Load(); n != 0 {
			t.Errorf("the followers have gone, and left %d watches", n)
		}
	})
}

// Nothing is read for followers who are busy, whatever happens meanwhile; what they see then is the last.
func TestFollowersWhoAreBusyCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t, counters), context.Background()
		start(t, store.Open(), counters)
		here, visits := &farDB{Database: store.Open()}, counters.At(store.Open(), "visits")
		followed := pull(t, counters.At(here, "visits").Follow(ctx))
		followed.until(countIs(0))
		before := here.reads.Load()
		for range 100 {
			must(t, visits.Call(ctx, Increment{By: 1}, nil))
			<-time.After(time.Second)
		}
		if n := here.reads.Load() - before; n != 0 {
			t.Errorf("for a follower who is busy the store was read %d times", n)
		}
		if c := followed.value(); c.Count != 100 {
			t.Errorf("then it saw %d, and not the last", c.Count)
		}
		followed.stop()
		if n := here.watches.Load(); n != 0 {
			t.Errorf("%d watches are left", n)
		}
	})
}

// A server that changes all the time is read a hundred times a second, and its last state is seen at once.
func TestAServerThatChangesAllTheTimeIsNotReadAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t, counters), context.Background()
		start(t, store.Open(), counters)
		here, visits := &farDB{Database: store.Open()}, counters.At(store.Open(), "visits")
		following, leave := context.WithCancel(ctx)
		var last atomic.Int64
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for c, err := range counters.At(here, "visits").Follow(following) {
				if err != nil {
					return
				}
				last.Store(c.Count)
			}
		}()
		<-time.After(time.Second)
		const changes = 2000
		reads, began := here.reads.Load(), time.Now()
		for range changes {
			must(t, visits.Call(ctx, Increment{By: 1}, nil))
			<-time.After(time.Millisecond)
		}
		most := int64(time.Since(began)/(10*time.Millisecond)) + 2
		<-time.After(20 * time.Millisecond)
		if n := here.reads.Load() - reads; n > most || n < most/2 || last.Load() != changes {
			t.Errorf("%d changes in %v were %d reads, of which %d are due; the last that was seen is %d", changes, time.Since(began), n, most, last.Load())
		}
		leave()
		<-ended
	})
}

// A watch that never fires costs time, and nothing else. Who joins waits for nobody's watch: it sees what was acknowledged
// before.
func TestFollowRestsOnNoWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t, counters), context.Background()
		start(t, store.Open(), counters)
		here := deafDB{&meanwhileDB{recallsDB: &recallsDB{Database: store.Open()}}}
		visits := counters.At(store.Open(), "visits")
		seen := make(chan int64)
		following, leave := context.WithCancel(ctx)
		defer leave()
		go func() {
			defer close(seen)
			for c, err := range counters.At(here, "visits").Follow(following) {
				if err != nil {
					return
				}
				seen <- c.Count
			}
		}()
		<-seen
		must(t, visits.Call(ctx, Increment{By: 1}, nil))
		began := time.Now()
		if n, took := <-seen, time.Since(began); n != 1 || took < time.Second || took > 7*time.Second {
			t.Errorf("it saw %d after %v", n, took)
		}
		synctest.Wait() // it waits for the watch
		must(t, visits.Call(ctx, Increment{By: 1}, nil))
		began = time.Now()
		joined := pull(t, counters.At(here, "visits").Follow(ctx))
		if n, took := joined.value().Count, time.Since(began); n != 2 || took > 0 {
			t.Errorf("who joins saw %d after %v", n, took)
		}
		if n, took := <-seen, time.Since(began); n != 2 || took > 0 {
			t.Errorf("the others saw %d after %v", n, took)
		}
		leave()
		<-seen
	})
}

// Whichever of the followers reads for the others: when its context ends, in the middle of a read or while it waits, another
// one goes on.
func TestFollowersGoOnWithoutTheirLeader(t *testing.T) {
	for _, when := range []time.Duration{0, readTrip / 2, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			store, ctx := newStore(t, counters), context.Background()
			start(t, store.Open(), counters)
			here, visits := &farDB{Database: store.Open()}, counters.At(store.Open(), "visits")
			const followers = 20
			var ends [followers]context.CancelFunc
			var last [followers]atomic.Int64
			var all sync.WaitGroup
			for i := range followers {
				var following context.Context
				following, ends[i] = context.WithCancel(ctx)
				all.Go(func() {
					for c, err := range counters.At(here, "visits").Follow(following) {
						if err != nil {
							if !errors.Is(err, context.Canceled) {
								t.Error(err)
							}
							return
						}
						last[i].Store(c.Count)
					}
				})
			}
			for i := range followers {
				must(t, visits.Call(ctx, Increment{By: 1}, nil))
				<-time.After(when)
				ends[i]()
				<-time.After(20 * readTrip)
				for k := i + 1; k < followers; k++ {
					if n := last[k].Load(); n != int64(i)+1 {
						t.Errorf("%v after a commit its follower %d ended, and follower %d has seen %d", when, i, k, n)
					}
				}
			}
			all.Wait()
			if n := here.watches.Load(); n != 0 {
				t.Errorf("%d watches are left", n)
			}
		})
	}
}

// One joins at the moment in which the leader leaves, who has heard of it or not: it waits for no watch.
func TestFollowerWhoJoinsAsTheLeaderLeavesWaitsForNoWatch(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			store, ctx := newStore(t, counters), context.Background()
			start(t, store.Open(), counters)
			here := deafDB{&meanwhileDB{recallsDB: &recallsDB{Database: store.Open()}}}
			var leaves [2]context.CancelFunc
			var all sync.WaitGroup
			for i := range leaves {
				var following context.Context
				following, leaves[i] = context.WithCancel(ctx)
				all.Go(func() {
					for _, err := range counters.At(here, "visits").Follow(following) {
						if err != nil {
							return
						}
					}
				})
			}
			synctest.Wait() // one of them waits for the watch
			must(t, counters.At(store.Open(), "visits").Call(ctx, Increment{By: 1}, nil))
			began := time.Now()
			go leaves[0]()
			joined := pull(t, counters.At(here, "visits").Follow(ctx))
			if n, took := joined.value().Count, time.Since(began); n != 1 || took > 0 {
				t.Errorf("who joins saw %d after %v", n, took)
			}
			leaves[1]()
			all.Wait()
			joined.stop()
		})
	}
}

func TestFollowEnds(t *testing.T) {
	db := newStore(t, counters).Open()
	here := &farDB{Database: db}
	visits := counters.At(here, "visits")
	ctx, cancel := context.WithCancel(t.Context())
	byContext, byClose := pull(t, visits.Follow(ctx)), pull(t, dserver.FollowQuery(t.Context(), visits, Value{}))
	byContext.until(countIs(0))
	byClose.until(is(int64(0)))
	cancel()
	byContext.fails(context.Canceled, true)
	for range visits.Follow(t.Context()) {
		break
	}
	func() {
		defer func() { _ = recover() }()
		for range dserver.FollowQuery(t.Context(), visits, Value{}) {
			panic("the body of the loop")
		}
	}()
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	byClose.fails(backend.ErrClosed, true)
	must(t, <-closed)
	if n := here.watches.Load(); n != 0 {
		t.Errorf("%d watches are left", n)
	}
	pull(t, visits.Follow(t.Context())).fails(backend.ErrClosed, true)

	addressed := pull(t, dserver.FollowQuery(t.Context(), dserver.Define[Counter]("counter").At(db, "visits"), Value{}))
	addressed.fails(dserver.ErrNoHandler, true)
	nameless := pull(t, counters.At(db, "").Follow(t.Context()))
	if _, err, ok := nameless.next(); err == nil || !ok {
		t.Errorf("a server without an id: %v", err)
	}
}

// brokenDB fails its reads while it is broken.
type brokenDB struct {
	backend.Database
	broken atomic.Bool
}

var errBroken = errors.New("it is broken")

func (d *brokenDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	if d.broken.Load() {
		return errBroken
	}
	return d.Database.Read(ctx, fn)
}

// An error of the store is told to each follower. Who goes on is told each second that it is still there, and when it is over
// the state, though it is the same.
func TestFollowGoesOnAfterAnErrorOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t, counters, rooms), context.Background()
		here := &brokenDB{Database: store.Open()}
		start(t, store.Open(), counters, rooms)
		visits, room := counters.At(here, "visits"), rooms.At(here, "a")
		must(t, counters.At(store.Open(), "visits").Call(ctx, Increment{By: 7}, nil))
		must(t, rooms.At(store.Open(), "a").Call(ctx, Say{Who: "ada", Text: "hello"}, nil))
		followed, asked, tracked := pull(t, visits.Follow(ctx)), pull(t, dserver.FollowQuery(ctx, visits, Value{})), pull(t, dserver.FollowQuery(ctx, room, Last{}))
		goesOn := func() {
			t.Helper()
			if c, n, text := followed.value(), asked.value(), tracked.value(); c.Count != 7 || n != 7 || text != "hello" {
				t.Errorf("the followers saw %d, %d, %q", c.Count, n, text)
			}
		}
		goesOn()
		here.broken.Store(true)
		for i := range 3 {
			began := time.Now()
			followed.fails(errBroken, false)
			if took := time.Since(began); i > 0 && (took < time.Second || took > 2*time.Second) {
				t.Errorf("it was tried again after %v", took)
			}
			asked.fails(errBroken, false)
			tracked.fails(errBroken, false)
		}
		here.broken.Store(false)
		goesOn()
	})
}

// halfBrokenDB fails its reads that watch nothing, while it is broken: those of queries, and not those of their feed.
type halfBrokenDB struct{ brokenDB }

func (d *halfBrokenDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	return d.Database.Read(ctx, func(tx backend.ReadTx) error {
		noted := &notedTx{ReadTx: tx}
		if err := fn(noted); err != nil || noted.watches || !d.broken.Load() {
			return err
		}
		return errBroken
	})
}

type notedTx struct {
	backend.ReadTx
	watches bool
}

func (t *notedTx) Watch(key backend.Key) backend.Watch {
	t.watches = true
	return t.ReadTx.Watch(key)
}

// A query that reads for itself is tried again, though nothing changes.
func TestFollowedQueryOfTrackedCollectionsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newStore(t, rooms), context.Background()
		here := &halfBrokenDB{brokenDB{Database: store.Open()}}
		start(t, store.Open(), rooms)
		must(t, rooms.At(store.Open(), "a").Call(ctx, Say{Who: "ada", Text: "hello"}, nil))
		here.broken.Store(true)
		asked := pull(t, dserver.FollowQuery(ctx, rooms.At(here, "a"), Last{}))
		asked.fails(errBroken, false)
		for range 3 {
			began := time.Now()
			asked.fails(errBroken, false)
			if took := time.Since(began); took < time.Second || took > 2*time.Second {
				t.Errorf("it was tried again after %v", took)
			}
		}
		here.broken.Store(false)
		if text := asked.value(); text != "hello" {
			t.Errorf("then the answer is %q", text)
		}
	})
}

// A state that this program cannot read is an error in its place. The next one that it can read is yielded.
func TestFollowWaitsForAStateThatTheProgramCanRead(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		db, ctx := open(), within(t)
		old, now := oldGauges(), newGauges()
		stop := run(t, dserver.Consumer{}, db, old)
		must(t, old.At(db, "a").Call(ctx, setGauge{2}, nil))
		stop()
		followed, asked := pull(t, now.At(db, "a").Follow(ctx)), pull(t, dserver.FollowQuery(ctx, now.At(db, "a"), readGauge{}))
		followed.fails(dserver.ErrState, false)
		asked.fails(dserver.ErrState, false)
		must(t, old.At(db, "a").Reset(ctx))
		if g := followed.value(); g.N != "" {
			t.Errorf("then the state is %q", g.N)
		}
		if n := asked.value(); n != "" {
			t.Errorf("then the answer is %q", n)
		}
	})
}

// Parity is a query that changes less often than its state, and refuses now and then.
type Parity struct{ dserver.Returns[string] }

func TestFollowQueryYieldsAnswersThatDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := 0
		types := counters.With(dserver.HandleCall(func(_ *dserver.Context, c *Counter, _ Parity) (string, error) {
			if ran++; c.Count > 100 {
				return "", fmt.Errorf("%w: it is too much", errRefused)
			}
			return []string{"even", "odd"}[c.Count%2], nil
		}))
		store, ctx := newStore(t, types), context.Background()
		db := store.Open()
		start(t, store.Open(), types)
		visits := types.At(store.Open(), "visits")
		var got []string
		following, leave := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for p, err := range dserver.FollowQuery(following, types.At(db, "visits"), Parity{}) {
				if err != nil {
					p = "refused"
				}
				if following.Err() == nil {
					got = append(got, p)
				}
			}
		}()
		for _, by := range []int64{0, 2, 2, 1, 2, 1, 200, 2, -200} {
			must(t, visits.Call(ctx, Increment{By: by}, nil))
			<-time.After(time.Second)
		}
		leave()
		<-ended
		if want := []string{"even", "odd", "even", "refused", "even"}; !slices.Equal(got, want) || ran != 9 {
			t.Errorf("the answers were %q, not %q; the handler ran %d times for 9 states", got, want, ran)
		}
	})
}

// Of a state with tracked collections a query loads what it asks for, and its follower sees what others do to the entries.
func TestFollowQueryAsksTrackedCollections(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() backend.Database) {
		ctx := within(t)
		start(t, open(), rooms)
		here, room := open(), rooms.At(open(), "a")
		asked, followed := pull(t, dserver.FollowQuery(ctx, rooms.At(here, "a"), Last{})), pull(t, rooms.At(here, "a").Follow(ctx))
		asked.until(is(""))
		for i := range 20 {
			text := fmt.Sprint("line ", i)
			must(t, room.Call(ctx, Say{Who: "ada", Text: text}, nil))
			asked.until(is(text))
			followed.until(func(r Room) bool { return r.Lines.Len() == i+1 })
		}
	})
}

// Followers of one server share what is read, and not what they are given.
func TestEachFollowersStateIsItsOwn(t *testing.T) {
	db, ctx := backendtest.NewModel(), within(t)
	start(t, db, journals)
	must(t, journals.At(db, "a").Call(ctx, Append{Line: "one"}, nil))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for j, err := range journals.At(db, "a").Follow(ctx) {
				if err != nil || j.Lines[0] != "one" || j.Seen["one"] != 1 {
					t.Errorf("%+v, %v", j, err)
					return
				}
				j.Lines[0], j.Seen["one"] = "mine", 2
				if len(j.Lines) == 10 {
					return
				}
			}
		})
	}
	for range 9 {
		must(t, journals.At(db, "a").Call(ctx, Append{Line: "more"}, nil))
	}
	all.Wait()
}

// In a handler it would see what its own turn does not.
func TestHandlersDoNotFollow(t *testing.T) {
	db := backendtest.NewModel()
	types := journals.With(dserver.HandleCast(func(ctx *dserver.Context, j *Journal, m Mark) error {
		for _, err := range journals.At(db, "b").Follow(ctx.Context()) {
			j.write(fmt.Sprint(err))
		}
		return nil
	}))
	start(t, db, types)
	must(t, types.At(db, "a").Call(within(t), Mark{}, nil))
	expectLines(t, lines(t, types.At(db, "a")), "dserver: Follow in a handler would not be part of its commit: use the handler's Context.Cast")
}

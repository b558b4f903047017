package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// crew is locked work that is counted.
type crew struct {
	now, most, begun atomic.Int64
	mu               sync.Mutex
	order            []string
}

// begin counts a piece of work, until end is called.
func (c *crew) begin(what string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun.Add(1)
	c.order = append(c.order, what)
	c.most.Store(max(c.most.Load(), c.now.Add(1)))
	return func() { c.now.Add(-1) }
}

func (c *crew) types(takes time.Duration) *dserver.Definition[Desk] {
	return desks(func(ctx *dserver.LockedContext, _ Desk, m Pay) (string, error) {
		defer c.begin(m.How)()
		select {
		case <-time.After(takes):
			return "done", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
}

// Many more locked messages than there are places: never more work than places, each is begun once, and none is lost or
// set aside.
func TestLockedWorkHasABound(t *testing.T) {
	t.Parallel()
	load := func(t *testing.T, open func() backend.Database, consumer dserver.Consumer, servers int, takes, long time.Duration) {
		places := int64(consumer.Work)
		var c crew
		def := c.types(takes)
		ctx, db := context.Background(), open()
		for i := range servers {
			must(t, def.At(db, fmt.Sprint(i)).Cast(ctx, Pay{How: fmt.Sprint(i)}))
		}
		run(t, consumer, open(), def)
		<-time.After(long)
		eventually(t, "all work is done", func() bool { return c.begun.Load() >= int64(servers) && c.now.Load() == 0 })
		for i := range servers {
			expectLog(t, def.At(db, fmt.Sprint(i)), "paid "+fmt.Sprint(i))
		}
		if c.most.Load() > places || c.begun.Load() != int64(servers) {
			t.Errorf("work was begun %d times, up to %d at once", c.begun.Load(), c.most.Load())
		}
	}
	small := dserver.Consumer{Work: 7, Turns: 4}
	synctest.Test(t, func(t *testing.T) {
		load(t, newStore(t, desks(noWork)).Open, small, 100, 20*time.Second, 10*time.Minute)
	})
	eachRealStore(t, func(t *testing.T, open func() backend.Database) { load(t, open, small, 40, 20*time.Millisecond, 0) })
	if isLong() {
		large := dserver.Consumer{Work: 1024, Turns: 256}
		synctest.Test(t, func(t *testing.T) {
			load(t, newStore(t, desks(noWork)).Open, large, 8000, 20*time.Second, 10*time.Minute)
		})
		eachRealStore(t, func(t *testing.T, open func() backend.Database) {
			load(t, open, large, 8000, 5*time.Second, time.Minute)
		})
	}
}

// A server that waits for a place keeps none of the others waiting, nor its own priority messages; and whoever came first
// has the next place.
func TestServersThatWaitForAPlaceHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew
		def := c.types(50 * time.Second)
		store := newStore(t, def)
		db, ctx := store.Open(), context.Background()
		run(t, dserver.Consumer{Work: 1}, store.Open(), def)
		ids := numbered("desk ", 5)
		for _, id := range ids {
			must(t, def.At(db, id).Cast(ctx, Pay{How: id}))
			<-time.After(time.Second)
		}
		began := time.Now()
		for _, id := range ids {
			must(t, def.At(db, id).Call(ctx, Jot{"ahead"}, nil, dserver.Priority()))
		}
		must(t, def.At(db, "another").Call(ctx, Jot{"as ever"}, nil))
		if took := time.Since(began); took > time.Second {
			t.Errorf("the others waited %v", took)
		}
		if status := statusOf(t, def.At(db, ids[4])); status.Locked || status.Queued != 1 {
			t.Errorf("a server that waits has %+v", status)
		}
		for _, id := range ids {
			expectLog(t, def.At(db, id), "ahead", "paid "+id)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !slices.Equal(c.order, ids) {
			t.Errorf("the work was done in the order %q", c.order)
		}
	})
}

// Another consumer with room has what waits for a place here.
func TestWorkThatWaitsIsTakenByAConsumerWithRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew
		def := c.types(time.Hour)
		def = def.With(dserver.Settings[Desk]{WorkLimit: 2 * time.Hour})
		store := newStore(t, def)
		db, ctx := store.Open(), context.Background()
		run(t, dserver.Consumer{Work: 1}, store.Open(), def)
		must(t, def.At(db, "a").Cast(ctx, Pay{}))
		must(t, def.At(db, "b").Cast(ctx, Pay{}))
		<-time.After(time.Minute)
		if n := c.now.Load(); n != 1 {
			t.Fatalf("%d at work", n)
		}
		run(t, dserver.Consumer{Work: 1}, store.Open(), def)
		<-time.After(10 * time.Second)
		if n := c.now.Load(); n != 2 {
			t.Errorf("with another consumer %d are at work", n)
		}
	})
}

// flaky is a store whose reads fail for a while.
type flaky struct {
	backend.Database
	fails atomic.Bool
}

func (d *flaky) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	if d.fails.Load() {
		return errors.New("no read succeeds now")
	}
	return d.Database.Read(ctx, fn)
}

func (d *flaky) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	if d.fails.Load() {
		return errors.New("no commit succeeds now")
	}
	return d.Database.Transact(ctx, fn)
}

// Many locks are kept by one beat: their number costs no commit, and an error of the store costs no lock when it is over
// in well under two seconds.
func TestLocksAreKeptByOneBeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const locks = 300
		var c crew
		def := c.types(40 * time.Second)
		store := newStore(t, def)
		flaky := &flaky{Database: store.Open()}
		db, other := &commitsDB{Database: flaky}, &commitsDB{Database: store.Open()}
		run(t, dserver.Consumer{}, db, def)
		for i := range locks {
			must(t, def.At(store.Open(), fmt.Sprint(i)).Cast(t.Context(), Pay{How: "card"}))
		}
		<-time.After(time.Second)
		run(t, dserver.Consumer{}, other, def)
		<-time.After(9 * time.Second)
		if n := c.now.Load(); n != locks {
			t.Fatalf("%d are at work", n)
		}
		commits, others := db.n.Load(), other.n.Load()
		<-time.After(10 * time.Second)
		if n, o := db.n.Load()-commits, other.n.Load()-others; n > 30 || o > 10 {
			t.Errorf("in ten seconds %d locks cost their holder %d commits, and another consumer %d", locks, n, o)
		}
		flaky.fails.Store(true)
		<-time.After(1400 * time.Millisecond)
		flaky.fails.Store(false)
		<-time.After(time.Minute)
		if n := c.begun.Load(); n != locks {
			t.Errorf("the work was begun %d times", n)
		}
		for i := range locks {
			if status := statusOf(t, def.At(db, fmt.Sprint(i))); status.Locked || status.DeadLetters > 0 {
				t.Fatalf("%d: %+v", i, status)
			}
		}
	})
}

package dserver_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// slowWatches is how late the watches of slowDB fire: so late that a wait for one shows.
const slowWatches = 40 * time.Millisecond

// slowDB is a store whose watches fire late, and which counts transactions of both kinds.
type slowDB struct {
	backend.Database
	n atomic.Int64
}

func (d *slowDB) WatchDelay() time.Duration { return slowWatches }

func (d *slowDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	d.n.Add(1)
	<-time.After(time.Millisecond) // a commit takes a while
	return d.Database.Transact(ctx, fn)
}

func (d *slowDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	d.n.Add(1)
	return d.Database.Read(ctx, func(tx backend.ReadTx) error { return fn(slowTx{tx}) })
}

type slowTx struct{ backend.ReadTx }

func (t slowTx) Watch(key backend.Key) backend.Watch {
	w := slowWatch{t.ReadTx.Watch(key), make(chan struct{}), make(chan struct{}), new(sync.Once)}
	go func() {
		select {
		case <-w.Watch.Done():
		case <-w.over:
			return
		}
		select {
		case <-time.After(slowWatches):
			close(w.fired)
		case <-w.over:
		}
	}()
	return w
}

type slowWatch struct {
	backend.Watch
	fired, over chan struct{}
	once        *sync.Once
}

func (w slowWatch) Done() <-chan struct{} { return w.fired }

func (w slowWatch) Cancel() {
	w.once.Do(func() { close(w.over) })
	w.Watch.Cancel()
}

// slowProcesses is a consumer and a caller in two processes, on a store with slow watches.
func slowProcesses(t *testing.T) (consumer, caller *slowDB) {
	store := newStore(t, journals)
	consumer, caller = &slowDB{Database: store.Open()}, &slowDB{Database: store.Open()}
	run(t, dserver.Consumer{}, consumer, journals)
	synctest.Wait()
	<-time.After(time.Minute)
	return consumer, caller
}

// A caller that calls one time after the other waits for a watch in its first call alone, and nobody else does.
func TestCallsToAnotherProcessWaitForNoWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, caller := slowProcesses(t)
		s := journal.At(caller, "a")
		for i := range 20 {
			began := time.Now()
			must(t, s.Call(context.Background(), Append{Line: fmt.Sprint(i)}, nil))
			most := 10 * time.Millisecond
			if i == 0 {
				most += slowWatches // of the consumer, which did not expect it
			}
			if waited := time.Since(began); waited > most {
				t.Errorf("call %d took %v", i, waited)
			}
		}
	})
}

// A call that has waited for long is in nobody's way: the next one is answered as fast as without it.
func TestAYoungCallIsLookedForBesideAnOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, caller := slowProcesses(t)
		ctx, cancel := context.WithCancel(context.Background())
		nobody := dserver.Define("nobody", answers[Append]())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = nobody.At(caller, "a").Call(ctx, Append{}, nil)
		}()
		<-time.After(10 * time.Second)
		s := journal.At(caller, "a")
		must(t, s.Call(ctx, Append{Line: "first"}, nil))
		began := time.Now()
		must(t, s.Call(ctx, Append{Line: "second"}, nil))
		if waited := time.Since(began); waited > 10*time.Millisecond {
			t.Errorf("the call took %v", waited)
		}
		cancel()
		<-ended
	})
}

// What waits for long, and what is idle, leaves it to watches.
func TestLooksEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consumer, caller := slowProcesses(t)
		must(t, journal.At(caller, "a").Call(context.Background(), Append{Line: "1"}, nil))
		<-time.After(time.Second)
		counted := func(what string, db *slowDB, most int64) {
			before := db.n.Load()
			<-time.After(20 * time.Second)
			if n := db.n.Load() - before; n > most {
				t.Errorf("%s: %d transactions in 20 seconds", what, n)
			}
		}
		counted("an idle caller", caller, 0)
		counted("an idle consumer", consumer, 8*2*4+4) // a look of each shard at what is ready and what is due each 5 s, and beats
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = dserver.Define("nobody", answers[Append]()).At(caller, "a").Call(ctx, Append{}, nil)
		}()
		<-time.After(time.Second)
		counted("a caller that waits for long", caller, 20)
		cancel()
		<-ended
	})
}

// However many servers were emptied just now, they are looked at in turn.
func TestLooksAtManyServersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		consumer, caller := slowProcesses(t)
		const servers = 500
		var wg sync.WaitGroup
		for i := range servers {
			wg.Go(func() {
				must(t, journal.At(caller, fmt.Sprint(i)).Call(context.Background(), Append{Line: "1"}, nil))
			})
		}
		wg.Wait()
		before, began := consumer.n.Load(), time.Now()
		<-time.After(time.Second)
		looks := consumer.n.Load() - before - 2*servers // each is looked at when its time is over, and confirmed to be empty
		if most := int64(time.Since(began) / (time.Millisecond / 4)); looks > most/4 {
			t.Errorf("%d looks", looks)
		}
	})
}

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

// farDB is a store whose answers take a while, and which counts its reads and the watches that are open.
type farDB struct {
	backend.Database
	reads, watches atomic.Int64
}

const (
	readTrip   = time.Millisecond
	commitTrip = 2 * time.Millisecond
)

func (d *farDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	<-time.After(commitTrip)
	return d.Database.Transact(ctx, fn)
}

func (d *farDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	d.reads.Add(1)
	<-time.After(readTrip)
	return d.Database.Read(ctx, func(tx backend.ReadTx) error { return fn(&farTx{tx, d}) })
}

type farTx struct {
	backend.ReadTx
	db *farDB
}

func (t *farTx) Watch(key backend.Key) backend.Watch {
	t.db.watches.Add(1)
	return farWatch{t.ReadTx.Watch(key), sync.OnceFunc(func() { t.db.watches.Add(-1) })}
}

type farWatch struct {
	backend.Watch
	ends func()
}

func (w farWatch) Cancel() {
	w.ends()
	w.Watch.Cancel()
}

// A caller of another process that sends the next message when it has its answer waits for its push, the turn, and one
// read of its mailbox: the turn does not wait until the marks are read, and an answered call does not look again.
func TestCallsInARowWaitForNoReadTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		here, there := &farDB{Database: store.Open()}, &farDB{Database: store.Open()}
		run(t, dserver.Consumer{}, here, journals)
		ctx := context.Background()
		call := func(line string) (time.Duration, int64) {
			began, reads := time.Now(), there.reads.Load()
			must(t, journal.At(there, "a").Call(ctx, Append{Line: line}, nil))
			return time.Since(began), there.reads.Load() - reads
		}
		call("first")
		<-time.After(2 * time.Second)
		call("after a while")
		for range 50 {
			took, reads := call("next")
			if want := commitTrip + commitTrip + readTrip; took > want || reads > 1 {
				t.Errorf("a call took %v and %d reads, where %v and 1 are due", took, reads, want)
			}
		}
		if n := there.watches.Load(); n != 1 {
			t.Errorf("between two calls %d watches are open", n)
		}
		<-time.After(2 * time.Second)
		if n := there.watches.Load(); n != 0 {
			t.Errorf("when nobody called for a while %d watches are open", n)
		}
		call("after a while")
	})
}

// One read of a mailbox does not give all that is in it when answers are large: who waits for another one reads on.
func TestAnswersThatComeAtOnceAreAllRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, journals)
		there := &slowReads{store.Open()}
		types := journals.With(dserver.HandleCall(func(_ *dserver.Context, _ *Journal, m Inflate) ([]byte, error) {
			return make([]byte, m.To), nil
		}))
		answers := make(chan error, 3)
		for i := range cap(answers) {
			go func() {
				got, err := dserver.Call(context.Background(), types.At(there, fmt.Sprint(i)), Inflate{To: 2 << 20})
				if err == nil && len(got) != 2<<20 {
					err = fmt.Errorf("%d bytes", len(got))
				}
				answers <- err
			}()
		}
		<-time.After(time.Minute)
		began := time.Now()
		run(t, dserver.Consumer{}, store.Open(), types)
		for range cap(answers) {
			must(t, <-answers)
		}
		if took := time.Since(began); took > 4500*time.Millisecond {
			t.Errorf("the answers took %v, as if they were looked for from time to time", took)
		}
	})
}

// slowReads is a store of which each read takes a second.
type slowReads struct{ backend.Database }

func (d *slowReads) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	<-time.After(time.Second)
	return d.Database.Read(ctx, fn)
}

package dserver_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// farDB is a store whose answers take a while, and which counts its reads.
type farDB struct {
	backend.Database
	reads atomic.Int64
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
	return d.Database.Read(ctx, fn)
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
		for range 50 {
			took, reads := call("next")
			if want := commitTrip + commitTrip + readTrip; took > want || reads > 2 {
				t.Errorf("a call took %v and %d reads, where %v and 2 are due", took, reads, want)
			}
		}
	})
}

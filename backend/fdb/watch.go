//go:build fdb

package fdb

import (
	"context"
	"sync"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// watch implements [backend.Watch]. The client library sets it anew after a recovery of the cluster, and allows 10,000
// at a time: one above that ends in an error, and so fires after the pause, which makes it a slow poll.
type watch struct {
	db     *DB
	future fdb.FutureNil
	fired  chan struct{}

	once   sync.Once
	isOver chan struct{} // closed by Cancel
}

// watchPause is how long a watch that the store gave up waits before it fires, so that nobody spins in an outage.
const watchPause = 500 * time.Millisecond

// Watch implements [backend.ReadTx].
func (t *readTx) Watch(key backend.Key) backend.Watch {
	w := &watch{db: t.db, fired: make(chan struct{}), isOver: make(chan struct{})}
	if t.start() == nil {
		w.future = t.tr.Watch(t.key(key))
		t.watches = append(t.watches, w)
	}
	return w
}

// Done implements [backend.Watch].
func (w *watch) Done() <-chan struct{} { return w.fired }

// Cancel implements [backend.Watch].
func (w *watch) Cancel() {
	w.once.Do(func() {
		close(w.isOver)
		if w.future != nil {
			w.future.Cancel()
		}
	})
}

// begin waits for the change, after the transaction was committed.
func (w *watch) begin() {
	w.db.counts.watches.Add(1)
	stop := context.AfterFunc(w.db.life, w.future.Cancel)
	go func() {
		defer w.db.counts.watches.Add(-1)
		defer stop()
		w.await()
	}()
}

func (w *watch) await() {
	if err := w.future.Get(); err != nil {
		timer := time.NewTimer(watchPause)
		defer timer.Stop()
		select {
		case <-w.isOver:
		case <-w.db.life.Done():
		case <-timer.C:
		}
	}
	select {
	case <-w.isOver:
	default:
		close(w.fired)
	}
}

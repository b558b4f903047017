package dservertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/internal/kit"
)

// Settle waits until no message is queued and no locked work runs, of any server: all that was sent has been handled,
// and what that sent as well. It does not wait for what is due later. It fails the test when a server halts, and after
// a minute. In a bubble that minute does not pass while servers send to each other without end, as the bubble's clock
// stands still: there it fails after 100,000 commits, if the database is that of Start or
// StartIntercepted.
func Settle(t testing.TB, db backend.Database) {
	t.Helper()
	endless := (<-chan struct{})(nil)
	inner, _ := kit.Inside(db)
	if m, ok := inner.(*metered); ok {
		endless = m.meter.begin()
	}
	settle(t, endless, func() (dserver.Ref, error) { return busyServer(context.Background(), db) })
}

func settle(t testing.TB, endless <-chan struct{}, find func() (busy dserver.Ref, err error)) {
	t.Helper()
	limit := time.After(settleLimit)
	for pause := settlePause; ; pause = min(2*pause, longestPause) {
		busy, err := find()
		switch {
		case err != nil:
			t.Fatalf("dservertest: settle: %v", err)
		case busy == dserver.Ref{}:
			return
		}
		select {
		case <-limit:
			t.Fatalf("dservertest: settle: %v still has something to do after %v", busy, settleLimit)
		case <-endless:
			t.Fatalf("dservertest: settle: %v still has something to do after %d commits in which no time passed: "+
				"do servers send to each other without end?", busy, mostSteps)
		case <-time.After(pause):
		}
	}
}

const (
	settleLimit  = time.Minute
	settlePause  = time.Millisecond // at first; twice as long each time
	longestPause = 100 * time.Millisecond
)

// metered is a database whose commits are counted while somebody waits until all is settled.
type metered struct {
	backend.Database
	meter *meter
}

func (m *metered) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	err := m.Database.Transact(ctx, fn)
	m.meter.count()
	return err
}

// meter counts commits of one moment. In real time each has a moment of its own.
type meter struct {
	mu      sync.Mutex
	moment  time.Time
	commits int
	endless chan struct{} // closed when there are too many; nil while nobody waits
}

// begin makes it count anew.
func (m *meter) begin() (endless <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commits = 0
	if m.endless == nil {
		m.endless = make(chan struct{})
	}
	return m.endless
}

func (m *meter) count() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.endless == nil {
		return
	}
	if now := time.Now(); !now.Equal(m.moment) {
		m.moment, m.commits = now, 0
	}
	if m.commits++; m.commits == mostSteps {
		close(m.endless)
		m.endless = nil
	}
}

// busyServer finds a server that has something to do. It looks at all servers in one snapshot: a message that one sends
// to another is on the one queue or the other.
func busyServer(ctx context.Context, db backend.Database) (busy dserver.Ref, err error) {
	err = db.Read(ctx, func(tx backend.ReadTx) error {
		busy, err = busyIn(ctx, &snapshot{Database: db, tx: tx})
		return err
	})
	return busy, err
}

func busyIn(ctx context.Context, db backend.Database) (dserver.Ref, error) {
	for typ, err := range dserver.Types(ctx, db) {
		if err != nil {
			return dserver.Ref{}, err
		}
		for ref, err := range dserver.Servers(ctx, db, typ) {
			if err != nil {
				return ref, err
			}
			if busy, err := isBusy(ctx, db, ref); busy || err != nil {
				return ref, err
			}
		}
	}
	return dserver.Ref{}, nil
}

var errHalted = errors.New("it halts until an operator acts")

func isBusy(ctx context.Context, db backend.Database, ref dserver.Ref) (bool, error) {
	s, err := ref.At(db).Status(ctx)
	if err == nil && s.Halted {
		err = fmt.Errorf("%v: %w", ref, errHalted)
	}
	return s.Queued > 0 || s.Locked, err
}

// snapshot is a database whose reads are all of one snapshot.
type snapshot struct {
	backend.Database
	tx backend.ReadTx
}

// Read runs fn in the transaction that is open.
func (s *snapshot) Read(_ context.Context, fn func(backend.ReadTx) error) error { return fn(s.tx) }

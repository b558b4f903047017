//go:build fdb

package fdb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// load is senders that never stop, and remember what they were told.
type load struct {
	db   *DB
	acks atomic.Int64
	sent atomic.Int64 // commits without an answer
	all  sync.WaitGroup
	stop context.CancelFunc

	mu     sync.Mutex
	stamps map[backend.Versionstamp]bool
	err    error
}

const senders = 8

// startLoad runs senders whose transactions add to one counter, half of them blindly and half of them by reading it.
func startLoad(t testing.TB, db *DB) *load {
	l := &load{db: db, stamps: make(map[backend.Versionstamp]bool)}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	db.send = func(tr fdb.Transaction) error {
		l.sent.Add(1)
		defer l.sent.Add(-1)
		return commit(tr)
	}
	for sender := range senders {
		l.all.Go(func() {
			for ctx.Err() == nil {
				l.send(sender)
			}
		})
	}
	return l
}

// send is one transaction, without a time limit: it must be told what became of it.
func (l *load) send(sender int) {
	var version backend.Future[backend.Versionstamp]
	err := l.db.Transact(context.Background(), func(tx backend.Tx) error {
		if sender%2 == 0 {
			n := backend.NewKey("read", sender)
			value, err := tx.Get(n).Get()
			if err != nil {
				return err
			}
			before, err := backend.Counter(value)
			if err != nil {
				return err
			}
			tx.Set(n, backend.CounterValue(before+1))
		}
		tx.Add(backend.NewKey("n"), 1)
		tx.Append(backend.NewKey("q"), nil)
		version = tx.Version()
		return nil
	})
	var stamp backend.Versionstamp
	if err == nil {
		stamp, err = version.Get()
	}
	l.acks.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stamps[stamp] = true
	if l.err == nil {
		l.err = err
	}
}

// progress waits until more was acknowledged. It counts its own looks, not the clock: a machine that sleeps, or a test
// that is stopped for a while, is no cluster that hangs.
func (l *load) progress(t testing.TB, more int64) {
	t.Helper()
	target := l.acks.Load() + more
	for patience := time.Minute; l.acks.Load() < target; patience -= time.Millisecond {
		if patience <= 0 {
			t.Fatalf("not enough was acknowledged in a minute; %+v", l.db.Stats())
		}
		idle(context.Background(), time.Millisecond)
	}
}

// check ends the load, and compares what is stored with what was acknowledged.
func (l *load) check(t testing.TB) {
	t.Helper()
	l.stop()
	l.all.Wait()
	if l.err != nil {
		t.Fatal(l.err)
	}
	acks, stats := l.acks.Load(), l.db.Stats()
	n, _ := counted(t, l.db)
	t.Logf("%d acknowledged, %d counted; %+v", acks, n, stats)
	if n != acks || len(l.stamps) != int(acks) {
		t.Errorf("%d were acknowledged with %d versions, and %d counted", acks, len(l.stamps), n)
	}
	l.checkItems(t)
	if stats.Unknown == 0 {
		t.Error("no commit became unknown: the faults did not meet one")
	}
}

// checkItems looks for exactly the items whose versions were told.
func (l *load) checkItems(t testing.TB) {
	t.Helper()
	items := 0
	for after, isMore := backend.NewKey("q").Below(), true; isMore; {
		err := l.db.Read(t.Context(), func(tx backend.ReadTx) error {
			found, err := tx.GetRange(after, backend.RangeOptions{Limit: 5000}).Get()
			for _, kv := range found {
				if stamp, ok := kv.Key.CutStamp(backend.NewKey("q")); !ok || !l.stamps[stamp] {
					t.Errorf("an item that nobody was told of: %v", kv.Key)
				}
				after = after.After(kv.Key)
			}
			items += len(found)
			isMore = len(found) > 0
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if items != len(l.stamps) {
		t.Errorf("%d items for %d versions", items, len(l.stamps))
	}
}

// kills is how often faults are made: a few as a rule, or a share of KILLS.
func kills(t testing.TB, few, divisor int) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("KILLS"))
	if err != nil {
		return few
	}
	return max(few, n/divisor)
}

// hinder waits for some moment of a commit. Every other time it arrives, and its answer is lost.
func (l *load) hinder(t testing.TB, p *proxy) {
	waitUntil(t, "a commit is sent", func() bool { return l.sent.Load() > 0 })
	if rand.IntN(2) == 0 {
		p.deafen()
		idle(t.Context(), time.Duration(rand.IntN(10))*time.Millisecond)
	}
}

func TestKilledConnectionsLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := startLoad(t, openTest(t, s.cluster))
	l.progress(t, senders)
	cuts := kills(t, 20, 1)
	for range cuts {
		l.progress(t, 1+rand.Int64N(4*senders))
		l.hinder(t, s.proxy)
		s.proxy.cut()
	}
	l.check(t)
	t.Logf("%d cuts", cuts)
}

func TestAKilledServerLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := startLoad(t, openTest(t, s.cluster))
	restarts := kills(t, 3, 4)
	for range restarts {
		l.progress(t, 20+rand.Int64N(100))
		l.hinder(t, s.proxy)
		s.Kill()
		s.proxy.cut()
		s.Start()
	}
	l.check(t)
	t.Logf("%d kills", restarts)
}

// A frozen server answers late, or so late that its clients have given it up.
func TestAServerThatIsKilledWhileFrozenLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := startLoad(t, openTest(t, s.cluster))
	for i := range kills(t, 2, 20) {
		l.progress(t, 20+rand.Int64N(100))
		l.hinder(t, s.proxy)
		s.Freeze()
		idle(t.Context(), time.Duration(1+i%4)*time.Second)
		s.proxy.cut()
		if i%2 == 0 {
			s.Thaw()
			continue
		}
		s.Kill()
		s.Start()
	}
	l.check(t)
}

// A cluster that is down is waited for as long as the caller likes, and goes on when it is back.
func TestAKilledServerIsWaitedForAsLongAsTheContextLasts(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	db := openTest(t, s.cluster)
	if _, _, err := increment(t.Context(), db, false); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	idle(t.Context(), recentMax) // a blind transaction has no recent version either, and waits for one
	for what, call := range calls3(db) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- call(ctx) }()
		select {
		case err := <-ended:
			if ctx.Err() == nil || err == nil {
				t.Errorf("%s of a cluster that is down: %v", what, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s of a cluster that is down does not end with its context", what)
			s.Start()
			<-ended
			s.Kill()
		}
		cancel()
	}
	patient := make(chan error, 1)
	go func() { _, _, err := increment(t.Context(), db, false); patient <- err }()
	idle(t.Context(), time.Second)
	s.Start()
	if err := <-patient; err != nil {
		t.Errorf("a transaction that waited for the cluster: %v", err)
	}
	if n, _ := counted(t, db); n < 2 || n > 4 {
		t.Errorf("counted %d", n)
	}
}

// calls3 are the ways to wait for a cluster.
func calls3(db *DB) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"a blind commit":       func(ctx context.Context) error { _, _, err := increment(ctx, db, true); return err },
		"a transaction's read": func(ctx context.Context) error { _, _, err := increment(ctx, db, false); return err },
		"a snapshot with a watch": func(ctx context.Context) error {
			return db.Read(ctx, func(tx backend.ReadTx) error { tx.Watch(backend.NewKey("n")); return nil })
		},
		"a handle's first call": func(ctx context.Context) error {
			first, err := Open(db.cluster.name, Dir("first", fmt.Sprint(rand.Int())))
			if err != nil {
				return err
			}
			defer first.Close()
			return first.Read(ctx, func(backend.ReadTx) error { return nil })
		},
	}
}

// Watches are set anew after a recovery, and none is lost with the server.
func TestAWatchSurvivesAKilledServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	db := openTest(t, s.cluster)
	var all []backend.Watch
	for range 5 {
		all = append(all, watchKey(t, db, "n"))
	}
	s.Kill()
	s.Start()
	if _, _, err := increment(t.Context(), db, true); err != nil {
		t.Fatal(err)
	}
	for _, w := range all {
		if !fires(w, 20*time.Second) {
			t.Fatal("a watch of before the recovery misses what comes after it")
		}
	}
}

package dserver_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Tickings is a state that counts.
type Tickings struct{ N int }

type TickOnce struct{}

// tickers counts the runs of its handler, also of those that do not commit, and tells when the last one was.
func tickers(runs *atomic.Int64, last *atomic.Int64) *dserver.Definition[Tickings] {
	return dserver.Define("ticker", dserver.HandleCast(func(_ *dserver.Context, s *Tickings, _ TickOnce) error {
		runs.Add(1)
		last.Store(time.Now().UnixNano())
		s.N++
		return nil
	}))
}

// acquainted waits until the consumers know of each other, which they find out when there is something to do.
func acquainted(t *testing.T, db backend.Database) {
	t.Helper()
	for range 5 {
		for i := range 40 { // in all shards
			must(t, dserver.Ref{Type: "ticker", ID: fmt.Sprint("warm", i)}.At(db).Cast(t.Context(), TickOnce{}))
		}
		<-time.After(3 * time.Second)
	}
}

func TestOfSeveralConsumersOneBeginsAndEachHasItsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const consumers, servers, messages = 4, 400, 5
		store := newStore(t)
		var runs [consumers]atomic.Int64
		for i := range runs {
			run(t, dserver.Consumer{}, store.Open(), tickers(&runs[i], new(atomic.Int64)))
		}
		db := store.Open()
		acquainted(t, db)
		for i := range runs {
			runs[i].Store(0)
		}
		for range messages {
			for i := range servers {
				must(t, dserver.Ref{Type: "ticker", ID: fmt.Sprint("server", i)}.At(db).Cast(t.Context(), TickOnce{}))
			}
			<-time.After(time.Second)
		}
		total := int64(0)
		for i := range runs {
			n := runs[i].Load()
			total += n
			if even := int64(servers * messages / consumers); n < even/2 || n > even*3/2 { // whose a server is, is as good as drawn
				t.Errorf("consumer %d handled %d of %d messages", i, n, servers*messages)
			}
		}
		if total != servers*messages {
			t.Errorf("%d messages were handled %d times", servers*messages, total)
		}
	})
}

// The peers of a consumer that ends go on at once; those of one that dies, when its pulse has stood still for a moment.
func TestPeersGoOnWhereAConsumerEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		most time.Duration
		end  func(db *frozenDB, stop func())
	}{
		{"stops", 5 * time.Millisecond, func(_ *frozenDB, stop func()) { stop() }},
		{"dies", 250 * time.Millisecond, func(db *frozenDB, _ func()) { db.stop() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t)
				var runs, last [3]atomic.Int64
				var dbs [3]*frozenDB
				var stops [3]func()
				for i := range runs {
					dbs[i] = &frozenDB{Database: store.Open()}
					stops[i] = run(t, dserver.Consumer{Logger: zerolog.Nop()}, dbs[i], tickers(&runs[i], &last[i]))
				}
				db := store.Open()
				acquainted(t, db)
				<-time.After(time.Minute) // they are careful no more
				sending, stopSending := context.WithCancel(t.Context())
				defer stopSending()
				sent := make(chan error, 1)
				go func() {
					for sending.Err() == nil {
						if err := (dserver.Ref{Type: "ticker", ID: "busy"}).At(db).Cast(context.Background(), TickOnce{}); err != nil {
							sent <- err
							return
						}
						<-time.After(2 * time.Millisecond)
					}
					sent <- nil
				}()
				<-time.After(2 * time.Second)
				busiest := 0
				for i := range last {
					if last[i].Load() > last[busiest].Load() {
						busiest = i
					}
				}
				var before [3]int64
				for i := range runs {
					before[i] = runs[i].Load()
				}
				ended := time.Now()
				go c.end(dbs[busiest], stops[busiest])
				var took time.Duration
				for took == 0 {
					<-time.After(time.Millisecond)
					for i := range runs {
						if i != busiest && runs[i].Load() > before[i] {
							took = time.Since(ended)
						}
					}
					if time.Since(ended) > time.Minute {
						t.Fatal("nobody goes on")
					}
				}
				if took > c.most {
					t.Errorf("its peers went on after %v, more than %v", took, c.most)
				}
				t.Logf("after %v", took)
				stopSending()
				must(t, <-sent)
				if c.name == "dies" {
					dbs[busiest].goOn()
				}
			})
		})
	}
}

// A consumer that begins with a server and does not come to an end with it, though it is alive, is not waited for without end.
func TestPeerBeginsWhereTheFirstDoesNotComeToAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, hang := newStore(t), make(chan struct{})
		defer close(hang)
		var stuck atomic.Int64 // the host that was first, from 1 on
		def := func(host int64) *dserver.Definition[Tickings] {
			return dserver.Define("ticker", dserver.HandleCast(func(ctx *dserver.Context, s *Tickings, _ TickOnce) error {
				if ctx.Self().ID == "stuck" && (stuck.CompareAndSwap(0, host) || stuck.Load() == host) {
					<-hang
				}
				s.N++
				return nil
			}))
		}
		for host := range int64(2) {
			run(t, dserver.Consumer{Logger: zerolog.Nop()}, store.Open(), def(host+1))
		}
		db := store.Open()
		acquainted(t, db)
		<-time.After(time.Minute) // they are careful no more
		s := def(0).At(db, "stuck")
		must(t, s.Cast(t.Context(), TickOnce{}))
		<-time.After(15 * time.Second)
		state, err := s.State(t.Context())
		if status := statusOf(t, s); err != nil || state.N != 1 || status.DeadLetters != 0 || status.Queued != 0 {
			t.Errorf("after 15 seconds: %+v, %v, %+v", state, err, status)
		}
	})
}

// A pulse is of a process. Where one of its consumers ends and another one is at work, it tells that the types of the first have
// ended: its peers go on at once, and not when they have read again who they are.
func TestPeersGoOnWhereAConsumerEndsAndItsProcessWorksOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const servers, most = 12, 250 * time.Millisecond
		store := newStore(t)
		var runs, last [2]atomic.Int64
		other := dserver.Define("other", dserver.HandleCast(func(_ *dserver.Context, s *Tickings, _ TickOnce) error { s.N++; return nil }))
		var stops [2]func()
		for i := range stops {
			db := store.Open()
			stops[i] = run(t, dserver.Consumer{}, db, tickers(&runs[i], &last[i]))
			run(t, dserver.Consumer{}, db, other)
		}
		db := store.Open()
		acquainted(t, db)
		<-time.After(time.Minute) // they are careful no more
		sending, stopSending := context.WithCancel(t.Context())
		sent := make(chan error, 1)
		go func() {
			for sending.Err() == nil {
				for _, id := range numbered("busy", servers) {
					for _, typ := range []string{"ticker", other.Name()} {
						if err := (dserver.Ref{Type: typ, ID: id}).At(db).Cast(context.Background(), TickOnce{}); err != nil {
							sent <- err
							return
						}
					}
				}
				<-time.After(100 * time.Millisecond)
			}
			sent <- nil
		}()
		<-time.After(3 * time.Second)
		stops[0]()
		var longest time.Duration
		for began := time.Now(); time.Since(began) < 6*time.Second; <-time.After(50 * time.Millisecond) {
			for _, id := range numbered("busy", servers) {
				for waiting, err := range (dserver.Ref{Type: "ticker", ID: id}).At(db).Queue(context.Background()) {
					must(t, err)
					longest = max(longest, time.Since(waiting.Sent))
					break
				}
			}
		}
		stopSending()
		must(t, <-sent)
		if t.Logf("a message waited for %v", longest); longest > most {
			t.Errorf("a message waited for %v, more than %v", longest, most)
		}
	})
}

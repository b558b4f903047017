package dserver_test

import (
	"context"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// distantDB is a store across a network, as its clients see it. A trip takes a while, and one is needed
//
//   - for the moment as of which a transaction reads, unless it reads nothing;
//   - for all that it reads together;
//   - for its commit, and for who watches to be told of it.
//
// All else takes no time, so what a call takes is the number of trips that follow each other.
type distantDB struct{ backend.Database }

const trip = time.Microsecond // far less than what anybody waits for by a timer

func (d distantDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	var last *distantTx
	err := d.Database.Transact(ctx, func(tx backend.Tx) error {
		last = &distantTx{Tx: &writingTx{Tx: tx}}
		return fn(backend.Wrapped(last, tx))
	})
	if err == nil && last.Tx.(*writingTx).wrote {
		<-time.After(trip)
	}
	return err
}

func (d distantDB) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	var last *distantReadTx
	err := d.Database.Read(ctx, func(tx backend.ReadTx) error {
		last = &distantReadTx{ReadTx: tx}
		return fn(last)
	})
	if err == nil {
		for _, w := range last.watches {
			go w.await()
		}
	}
	return err
}

// distance is how far a transaction's answers are.
type distance struct{ version time.Time }

// arrival is when the answer to a read that is asked for now comes.
func (d *distance) arrival() time.Time {
	now := time.Now()
	if d.version.IsZero() {
		d.version = now.Add(trip)
	}
	if now.Before(d.version) {
		now = d.version
	}
	return now.Add(trip)
}

// after is a future that is waited for until then.
func after[T any](then time.Time, f backend.Future[T]) backend.Future[T] {
	return backend.Later(func() (T, error) {
		<-time.After(time.Until(then))
		return f.Get()
	})
}

type distantTx struct {
	backend.Tx
	distance distance
}

func (t *distantTx) Get(key backend.Key) backend.Future[[]byte] {
	return after(t.distance.arrival(), t.Tx.Get(key))
}

func (t *distantTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	return after(t.distance.arrival(), t.Tx.GetRange(r, o))
}

type distantReadTx struct {
	backend.ReadTx
	distance distance
	watches  []*distantWatch
}

func (t *distantReadTx) Get(key backend.Key) backend.Future[[]byte] {
	return after(t.distance.arrival(), t.ReadTx.Get(key))
}

func (t *distantReadTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	return after(t.distance.arrival(), t.ReadTx.GetRange(r, o))
}

func (t *distantReadTx) Watch(key backend.Key) backend.Watch {
	w := &distantWatch{t.ReadTx.Watch(key), make(chan struct{}), make(chan struct{}, 1)}
	t.watches = append(t.watches, w)
	return w
}

type distantWatch struct {
	backend.Watch
	done chan struct{}
	over chan struct{}
}

func (w *distantWatch) await() {
	select {
	case <-w.Watch.Done():
		<-time.After(trip)
		close(w.done)
	case <-w.over:
	}
}

func (w *distantWatch) Done() <-chan struct{} { return w.done }

func (w *distantWatch) Cancel() {
	w.Watch.Cancel()
	select {
	case w.over <- struct{}{}:
	default:
	}
}

// The trips that the sender of each kind of message waits for, where its consumer is in its own process, and where it is
// not. docs/performance.md has this table.
func TestTripsOfEachKindOfMessage(t *testing.T) {
	grab := func(ctx context.Context, s *dserver.DServer[Safe], id string, opts ...dserver.Option) error {
		_, err := dserver.Call(ctx, s, Grab{ID: id}, opts...)
		return err
	}
	for _, c := range []struct {
		kind            string
		send            func(ctx context.Context, s *dserver.DServer[Safe], id string) error
		here, hereAgain int // at most, after some seconds, and at once after the last one
		away, awayAgain int
	}{
		{"a call", func(ctx context.Context, s *dserver.DServer[Safe], id string) error {
			return grab(ctx, s, id)
		}, 3, 1, 8, 6},
		{"a call with an idempotency key", func(ctx context.Context, s *dserver.DServer[Safe], id string) error {
			return grab(ctx, s, id, dserver.Once(id))
		}, 7, 7, 11, 9},
		{"a call whose handler has another server answer", func(ctx context.Context, s *dserver.DServer[Safe], id string) error {
			_, err := dserver.Call(ctx, s, Defer{ID: id, By: "b"})
			return err
		}, 9, 9, 11, 9},
		{"a call with locked work", func(ctx context.Context, s *dserver.DServer[Safe], id string) error {
			_, err := dserver.Call(ctx, s, Toil{ID: id})
			return err
		}, 12, 13, 16, 15},
		{"a cast", func(ctx context.Context, s *dserver.DServer[Safe], id string) error {
			return s.Cast(ctx, Stow{id})
		}, 3, 1, 1, 1},
		{"a look at the state", func(ctx context.Context, s *dserver.DServer[Safe], _ string) error {
			_, err := s.State(ctx)
			return err
		}, 2, 2, 2, 2},
	} {
		for _, isAway := range []bool{false, true} {
			name, want := c.kind, [2]int{c.here, c.hereAgain}
			if isAway {
				name, want = name+", of another process", [2]int{c.away, c.awayAgain}
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if got := trips(t, c.send, isAway); got[0] > want[0] || got[1] > want[1] {
						t.Errorf("it takes %d trips, and %d at once after it, and not %d", got[0], got[1], want)
					}
				})
			})
		}
	}
}

// While a consumer is young, its claim is one look at all that it needs, and one commit.
func TestTripsOfACallWithAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		measure := counting(t, true, func(ctx context.Context, s *dserver.DServer[Safe], id string) error {
			_, err := dserver.Call(ctx, s, Grab{ID: id})
			return err
		})
		for range 5 {
			measure()
			<-time.After(1300 * time.Millisecond)
		}
		if n := measure(); n > 11 {
			t.Errorf("it takes %d trips", n)
		}
	})
}

// trips is how many a message takes after some seconds, and at once after the last one, when its server and its consumer
// are neither new nor young.
func trips(t *testing.T, send func(context.Context, *dserver.DServer[Safe], string) error, isAway bool) (trips [2]int) {
	measure := counting(t, isAway, send)
	for range 20 {
		measure()
		<-time.After(7300 * time.Millisecond) // no multiple of what others wait for
	}
	trips[0] = measure()
	measure()
	trips[1] = measure()
	return trips
}

// counting counts the trips of a message that is sent to a server, which is there.
func counting(t *testing.T, isAway bool, send func(context.Context, *dserver.DServer[Safe], string) error) (measure func() int) {
	store := newStore(t, safe)
	sender := distantDB{store.Open()}
	consumer := sender
	if isAway {
		consumer = distantDB{store.Open()}
	}
	t.Cleanup(func() {
		must(t, sender.Close())
		must(t, consumer.Close())
		<-time.After(2 * trip) // in which their watches end
	})
	run(t, dserver.Consumer{}, consumer, safes(easyToil))
	s, sent := safe.At(sender, "a"), 0
	_, err := dserver.Call(t.Context(), s, Grab{ID: "first"})
	must(t, err)
	return func() int {
		sent++
		began := time.Now()
		must(t, send(t.Context(), s, strconv.Itoa(sent)))
		return int(time.Since(began) / trip)
	}
}

package dserver_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
)

// clocked is a type whose handlers tell when they have run; the broken ones panic.
func clocked(name string, ran chan<- time.Time, broken bool) *dserver.Definition[Tickings] {
	return dserver.Define(name, dserver.Settings[Tickings]{BackOff: 20 * time.Second}, dserver.HandleCast(
		func(ctx *dserver.Context, _ *Tickings, _ TickOnce) error {
			if broken {
				panic("it is broken")
			}
			ctx.AfterCommit(func() { ran <- time.Now() })
			return nil
		},
	))
}

// deaf is a handle that hears no bell.
func deaf(store *backendtest.Store) backend.Database {
	return deafDB{&meanwhileDB{recallsDB: &recallsDB{Database: store.Open()}}}
}

// looks is how long it takes to look where no bell rang: the interval, its jitter, and what is found.
const looks = 7 * time.Second

// A consumer that hears no bell at all finds what others leave for it: as soon as it looks where none has rung, and not before.
func TestNothingRestsOnTheBells(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, store func() backend.Database, send func(opts ...dserver.Option)) (due time.Duration)
	}{
		{"a message", func(_ *testing.T, _ func() backend.Database, send func(opts ...dserver.Option)) time.Duration {
			send()
			return 0
		}},
		{"what is due later", func(_ *testing.T, _ func() backend.Database, send func(opts ...dserver.Option)) time.Duration {
			send(dserver.After(time.Hour))
			return time.Hour
		}},
		{"what is due before it thinks", func(_ *testing.T, _ func() backend.Database, send func(opts ...dserver.Option)) time.Duration {
			send(dserver.After(2 * time.Hour))
			<-time.After(time.Minute)
			send(dserver.After(time.Hour))
			return time.Hour
		}},
		{"what another could not handle", func(t *testing.T, store func() backend.Database, send func(opts ...dserver.Option)) time.Duration {
			other := &frozenDB{Database: store()}
			run(t, dserver.Consumer{Logger: zerolog.Nop()}, other, clocked("clocked", nil, true))
			synctest.Wait()
			send()
			<-time.After(3 * time.Second) // the mark has become a row among those that wait
			other.stop()
			t.Cleanup(other.goOn)
			return 20 * time.Second
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, ran := newStore(t), make(chan time.Time, 2)
				run(t, dserver.Consumer{}, deaf(store), clocked("clocked", ran, false))
				<-time.After(time.Minute) // it has looked, and found nothing
				there := dserver.Ref{Type: "clocked", ID: "a"}.At(store.Open())
				due := c.leave(t, store.Open, func(opts ...dserver.Option) { must(t, there.Cast(t.Context(), TickOnce{}, opts...)) })
				began := time.Now()
				select {
				case at := <-ran:
					if took := at.Sub(began); took == 0 || took < due/2 || took > due+looks {
						t.Errorf("it was handled after %v", took)
					}
				case <-time.After(due + time.Minute):
					t.Error("it was not handled")
				}
			})
		})
	}
}

// Nor those of many types, whose shards are not seen in one transaction.
func TestNothingRestsOnTheBellsOfManyTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ran := newStore(t), make(chan time.Time, 200)
		types := make([]dserver.Type, cap(ran))
		for i := range types {
			types[i] = clocked(fmt.Sprint("clocked", i), ran, false)
		}
		run(t, dserver.Consumer{}, deaf(store), types...)
		<-time.After(time.Minute)
		there, began := store.Open(), time.Now()
		for _, typ := range types {
			must(t, dserver.Ref{Type: typ.Name(), ID: "a"}.At(there).Cast(t.Context(), TickOnce{}))
		}
		<-time.After(looks)
		if n, took := len(ran), time.Since(began); n != len(types) {
			t.Errorf("of %d messages %d were handled in %v", len(types), n, took)
		}
	})
}

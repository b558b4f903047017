package dserver_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// BenchmarkCall is many callers over some servers, on SQLite: what to profile when make bench shows a change.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct {
		callers, servers int
		remote           bool
	}{{1, 1, false}, {64, 1, false}, {256, 1000, false}, {1, 1, true}, {64, 1, true}} {
		b.Run(fmt.Sprintf("callers=%d/servers=%d/remote=%v", c.callers, c.servers, c.remote), func(b *testing.B) {
			benchmarkCall(b, c.callers, c.servers, c.remote)
		})
	}
}

type Add struct {
	dserver.Returns[int64]
	By int64
}

func benchmarkCall(b *testing.B, callers, servers int, remote bool) {
	path := filepath.Join(b.TempDir(), "bench.db")
	db := openBench(b, path)
	start(b, db, counters.With(dserver.HandleCall(func(_ *dserver.Context, c *Counter, m Add) (int64, error) {
		c.Count += m.By
		return c.Count, nil
	})))
	if remote {
		db = openBench(b, path)
	}
	address := dserver.Define[Counter]("counter")
	ctx := context.Background()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := i; left.Add(-1) >= 0; n += callers {
				if _, err := dserver.Call(ctx, address.At(db, fmt.Sprint(n%servers)), Add{By: 1}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func openBench(b *testing.B, path string) backend.Database {
	db, err := sqlite.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	return db
}

// BenchmarkCast is senders without a consumer, to a type without a bound and to one with a bound that is never reached.
func BenchmarkCast(b *testing.B) {
	for _, senders := range []int{1, 64} {
		for _, bound := range []int{0, 1 << 40} {
			b.Run(fmt.Sprintf("senders=%d/bounded=%v", senders, bound > 0), func(b *testing.B) {
				benchmarkCast(b, senders, counters.With(dserver.Settings[Counter]{MaxQueued: bound}))
			})
		}
	}
}

func benchmarkCast(b *testing.B, senders int, types *dserver.Definition[Counter]) {
	s, ctx := types.At(openBench(b, filepath.Join(b.TempDir(), "bench.db")), "a"), context.Background()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := s.Cast(ctx, Increment{By: 1}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkCallBesideHalted is a remote caller beside servers that have halted: they cost nothing.
func BenchmarkCallBesideHalted(b *testing.B) {
	for _, halted := range []int{0, 20_000} {
		b.Run(fmt.Sprintf("halted=%d", halted), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "bench.db")
			db, ctx := openBench(b, path), context.Background()
			var broken atomic.Int64
			types := counters.With(
				dserver.Settings[Counter]{MaxAttempts: 1, Halt: true},
				dserver.HandleCall(func(_ *dserver.Context, c *Counter, m Add) (int64, error) { return c.Count, nil }),
				dserver.HandleCast(func(*dserver.Context, *Counter, Wreck) error { broken.Add(1); panic("it breaks") }))
			var senders sync.WaitGroup
			for first := range min(halted, 200) {
				senders.Go(func() {
					for i := first; i < halted; i += 200 {
						must(b, types.At(db, fmt.Sprint(i)).Cast(ctx, Wreck{}))
					}
				})
			}
			senders.Wait()
			run(b, dserver.Consumer{Logger: zerolog.Nop()}, db, types)
			for broken.Load() < int64(halted) || rows(b, db, "r") > 0 {
				<-time.After(100 * time.Millisecond)
			}
			caller := openBench(b, path)
			for b.Loop() {
				if _, err := dserver.Call(ctx, types.At(caller, "caller"), Add{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

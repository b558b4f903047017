package backendtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Bench measures what the layers above do most, the same for every backend:
//
//	ReadModifyWrite        one caller reads a counter and sets it: the latency of a commit
//	ReadModifyWrites/N     N callers, each with a counter of its own: what sharing a commit brings
//	Blind/N                N callers add and append without reading: a push
//	Bell/N                 256 callers push, each eight messages to a queue of its own, and add to one of N counters for each:
//	                       what keys cost that each of them writes
//	Get, Range/N           reads of one and of N pairs of 100 bytes, among 10,000
//	Watch/own, /another    from the acknowledgement of a change to the watch, by the same handle and by another
//
// Where there are several callers, p50 and p99 are the times of a single one, in nanoseconds.
func Bench(b *testing.B, open Opener) {
	b.Run("ReadModifyWrite", func(b *testing.B) { benchUpdates(b, open, 1) })
	for _, callers := range []int{64, 256} {
		b.Run(fmt.Sprint("ReadModifyWrites/", callers), func(b *testing.B) { benchUpdates(b, open, callers) })
	}
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint("Blind/", callers), func(b *testing.B) { benchPushes(b, open, callers) })
	}
	for _, bells := range []int{0, 1, 8} {
		b.Run(fmt.Sprint("Bell/", bells), func(b *testing.B) { benchBells(b, open, bells) })
	}
	b.Run("Get", func(b *testing.B) { benchGet(b, open) })
	for _, pairs := range []int{10, 1000} {
		b.Run(fmt.Sprint("Range/", pairs), func(b *testing.B) { benchRange(b, open, pairs) })
	}
	b.Run("Watch/own", func(b *testing.B) { benchWatch(b, open, false) })
	b.Run("Watch/another", func(b *testing.B) { benchWatch(b, open, true) })
}

func benchUpdates(b *testing.B, open Opener, callers int) {
	db := open(b)()
	concurrently(b, callers, func(caller int) error {
		k := backend.NewKey("n", caller)
		return transact(b.Context(), db, func(s *script) { s.tx.Set(k, backend.CounterValue(s.counter(k)+1)) })
	})
}

func benchPushes(b *testing.B, open Opener, callers int) {
	db := open(b)()
	// A store may write only the bytes that differ, so the length varies.
	message := filler(200)
	concurrently(b, callers, func(caller int) error {
		return transact(b.Context(), db, func(s *script) {
			s.tx.Append(key("q"), message[:100+caller%100])
			s.tx.Add(key("n"), 1)
		})
	})
}

const benchMessages = 8

func benchBells(b *testing.B, open Opener, bells int) {
	db := open(b)()
	concurrently(b, 256, func(caller int) error {
		return transact(b.Context(), db, func(s *script) {
			for i := range benchMessages {
				s.tx.Append(backend.NewKey("q", caller), filler(100))
				if bells > 0 {
					s.tx.Add(backend.NewKey("b", (caller+i)%bells), 1)
				}
			}
		})
	})
	b.ReportMetric(benchMessages*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// concurrently shares b.N calls among callers.
func concurrently(b *testing.B, callers int, call func(caller int) error) {
	b.ReportAllocs()
	took, errs := make([][]time.Duration, callers), make([]error, callers)
	var wg sync.WaitGroup
	b.ResetTimer()
	for caller := range callers {
		wg.Go(func() {
			for n := caller; n < b.N && errs[caller] == nil; n += callers {
				began := time.Now()
				errs[caller] = call(caller)
				took[caller] = append(took[caller], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	if callers > 1 {
		reportPercentiles(b, slices.Concat(took...))
	}
}

func reportPercentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}

const benchPairs = 10_000

// benchStore has pairs ("a", 0) to ("a", 9999), of 100 bytes.
func benchStore(b *testing.B, open Opener) backend.Database {
	db := open(b)()
	for first := 0; first < benchPairs; first += 1000 {
		err := transact(b.Context(), db, func(s *script) {
			for i := first; i < first+1000; i++ {
				s.tx.Set(backend.NewKey("a", i), filler(100))
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return db
}

func benchGet(b *testing.B, open Opener) {
	db := benchStore(b, open)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		readForBench(b, db, func(tx backend.ReadTx) (int, error) {
			value, err := tx.Get(backend.NewKey("a", i*7919%benchPairs)).Get()
			return len(value), err
		}, 100)
	}
}

func benchRange(b *testing.B, open Opener, pairs int) {
	db := benchStore(b, open)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		where := backend.Range{Begin: backend.NewKey("a", i*7919%(benchPairs-pairs)), End: key("b")}
		readForBench(b, db, func(tx backend.ReadTx) (int, error) {
			found, err := tx.GetRange(where, backend.RangeOptions{Limit: pairs}).Get()
			return len(found), err
		}, pairs)
	}
}

// readForBench reads, and checks how much: a benchmark of nothing is quick.
func readForBench(b *testing.B, db backend.Database, fn func(tx backend.ReadTx) (int, error), want int) {
	var n int
	err := db.Read(context.Background(), func(tx backend.ReadTx) (err error) {
		n, err = fn(tx)
		return err
	})
	if err != nil || n != want {
		b.Fatalf("read %d of %d: %v", n, want, err)
	}
}

// benchWatch reports how long after a change was acknowledged its watch fires; the time of an operation includes
// setting the watch and the change.
func benchWatch(b *testing.B, open Opener, another bool) {
	handles := open(b)
	watcher := handles()
	changer := watcher
	if another {
		changer = handles()
	}
	var late []time.Duration
	for b.Loop() {
		var w backend.Watch
		readForBench(b, watcher, func(tx backend.ReadTx) (int, error) { w = tx.Watch(key("n")); return 0, nil }, 0)
		if err := transact(b.Context(), changer, func(s *script) { s.tx.Add(key("n"), 1) }); err != nil {
			b.Fatal(err)
		}
		acknowledged := time.Now()
		within(b, w.Done(), "the watch fires")
		late = append(late, time.Since(acknowledged))
	}
	reportPercentiles(b, late)
}

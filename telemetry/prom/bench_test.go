//go:build unix

package prom_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/telemetry"
)

// What a benchmark runs: rounds of each contender in turn, whose medians are compared.
const (
	rounds  = 7
	round   = 400 * time.Millisecond
	callers = 64
	servers = 16
)

// nowhere takes spans and drops them, as a fast collector would.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// BenchmarkTelemetry is an application at full speed, 64 callers of 16 servers, in their process (inline) or in another one
// (queued), whose effects are synced to the disk, without telemetry, with metrics, with traces of one request in a hundred, and with traces of all, one after the other.
// It tells the median of each round's ratio to the one without.
func BenchmarkTelemetry(b *testing.B) {
	for name, isQueued := range map[string]bool{"inline": false, "queued": true} {
		b.Run(name, func(b *testing.B) { benchmarkTelemetry(b, isQueued) })
	}
}

func benchmarkTelemetry(b *testing.B, isQueued bool) {
	contenders := []struct {
		name    string
		through func(db backend.Database) backend.Database
	}{
		{"without", func(db backend.Database) backend.Database { return db }},
		{"without-again", func(db backend.Database) backend.Database { return db }}, // how much chance there is in the others
		{"metrics", traced(b, nil)},
		{"traces-1%", traced(b, sdktrace.ParentBased(sdktrace.TraceIDRatioBased(.01)))},
		{"traces-all", traced(b, sdktrace.AlwaysSample())},
	}
	calls, cpu := make([][]float64, len(contenders)), make([][]float64, len(contenders))
	for b.Loop() {
		for round := range rounds {
			for i := range contenders { // in another order each time, as what one leaves to the disk costs the next
				i = (i + round) % len(contenders)
				c := contenders[i]
				used := cpuTime()
				perSecond, n := throughput(b, c.through, isQueued)
				calls[i] = append(calls[i], perSecond)
				cpu[i] = append(cpu[i], float64((cpuTime()-used).Nanoseconds())/float64(n)/1000)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, c := range contenders {
		ratios := make([]float64, len(calls[i]))
		for n := range ratios {
			ratios[n] = calls[i][n] / calls[0][n]
		}
		b.ReportMetric(median(ratios), c.name+"-ratio")
		b.ReportMetric(median(calls[i]), c.name+"-calls/s")
		b.ReportMetric(median(cpu[i]), c.name+"-cpu-us/call")
	}
}

func median(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }

// traced is telemetry with metrics, and with traces as a sampler says; nil is without.
func traced(b *testing.B, sampler sdktrace.Sampler) func(backend.Database) backend.Database {
	o := telemetry.Options{Producer: telemetry.NewProducer()}
	o.Meter = metric.NewMeterProvider(metric.WithReader(metric.NewManualReader(metric.WithProducer(o.Producer))))
	if sampler != nil {
		spans := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithBatcher(nowhere{}))
		b.Cleanup(func() { must(b, spans.Shutdown(context.Background())) })
		o.Tracer = spans
	}
	tel, err := telemetry.New(o)
	must(b, err)
	return tel.Intercept
}

// throughput is calls per second of one round, and how many they were.
func throughput(b *testing.B, through func(backend.Database) backend.Database, isQueued bool) (perSecond float64, n int64) {
	path := filepath.Join(b.TempDir(), "bench.db")
	store, err := sqlite.Open(path)
	must(b, err)
	db := through(store)
	from := db
	if isQueued { // by another process
		far, err := sqlite.Open(path)
		must(b, err)
		defer func() { must(b, far.Close()) }()
		from = through(far)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(ctx, db, tills) }()
	for i := range servers { // it runs, and all have a state
		must(b, tills.At(db, fmt.Sprint(i)).Call(ctx, pay{1}, nil))
	}
	var calls atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for i := range callers {
		wg.Go(func() {
			s := tills.At(from, fmt.Sprint(i%servers))
			for time.Since(began) < round {
				if err := s.Call(ctx, pay{1}, nil); err != nil {
					b.Error(err)
					return
				}
				calls.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	cancel()
	must(b, <-ended)
	must(b, store.Close())
	return float64(calls.Load()) / took.Seconds(), calls.Load()
}

// cpuTime is what this process has used of the processors: on a machine that others use, too, it says more than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // which never fails for the process itself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

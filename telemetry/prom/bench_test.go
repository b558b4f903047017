package prom_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
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
	rounds  = 9
	round   = 500 * time.Millisecond
	callers = 64
	servers = 16
)

// nowhere takes spans and drops them, as a fast collector would.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// BenchmarkTelemetry is an application at full speed, 64 callers of servers in their process whose effects are synced to the
// disk, without telemetry, with metrics, with traces of one request in a hundred, and with traces of all, one after the other.
// It tells the median of each round's ratio to the one without.
func BenchmarkTelemetry(b *testing.B) {
	contenders := []struct {
		name    string
		through func(db backend.Database) backend.Database
	}{
		{"without", func(db backend.Database) backend.Database { return db }},
		{"metrics", traced(b, sdktrace.NeverSample())},
		{"traces-1%", traced(b, sdktrace.ParentBased(sdktrace.TraceIDRatioBased(.01)))},
		{"traces-all", traced(b, sdktrace.AlwaysSample())},
	}
	calls := make([][]float64, len(contenders))
	for b.Loop() {
		for range rounds {
			for i, c := range contenders {
				calls[i] = append(calls[i], throughput(b, c.through))
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
	}
}

func median(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }

// traced is telemetry with metrics, and with traces as a sampler says.
func traced(b *testing.B, sampler sdktrace.Sampler) func(backend.Database) backend.Database {
	spans := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithBatcher(nowhere{}))
	b.Cleanup(func() { must(b, spans.Shutdown(context.Background())) })
	tel, err := telemetry.New(telemetry.Options{
		Tracer: spans, Meter: metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())),
	})
	must(b, err)
	return tel.Intercept
}

// throughput is calls per second of one round.
func throughput(b *testing.B, through func(backend.Database) backend.Database) float64 {
	store, err := sqlite.Open(filepath.Join(b.TempDir(), "bench.db"))
	must(b, err)
	db := through(store)
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
			s := tills.At(db, fmt.Sprint(i%servers))
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
	return float64(calls.Load()) / took.Seconds()
}

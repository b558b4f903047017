package telemetry_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/telemetry"
)

// histogramsOf is the points of all histograms that a reader collects, by their names and attributes.
func histogramsOf(t *testing.T, reader metric.Reader) map[string]metricdata.HistogramDataPoint[float64] {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &all))
	found := map[string]metricdata.HistogramDataPoint[float64]{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			if h, is := m.Data.(metricdata.Histogram[float64]); is {
				for _, p := range h.DataPoints {
					found[s.Scope.Name+" "+m.Name+" "+m.Unit+" "+m.Description+" "+p.Attributes.Encoded(attribute.DefaultEncoder())] = p
				}
			}
		}
	}
	return found
}

// A Producer tells what the Meter would.
func TestProducerTellsTheHistogramsOfTheMeter(t *testing.T) {
	producer := telemetry.NewProducer()
	byMeter, byProducer := metric.NewManualReader(), metric.NewManualReader(metric.WithProducer(producer))
	db := backendtest.NewStore().Open()
	var all []*telemetry.Telemetry
	for _, o := range []telemetry.Options{
		{Meter: metric.NewMeterProvider(metric.WithReader(byMeter))},
		{Meter: metric.NewMeterProvider(metric.WithReader(byProducer)), Producer: producer},
	} {
		tel, err := telemetry.New(o)
		must(t, err)
		db, all = tel.Intercept(db), append(all, tel)
	}
	p := &process{db: db}
	stop := p.runs(t, orders, stocks)
	for range 20 {
		must(t, orders.At(db, "17").Call(within(t), remind{}, nil))
		must(t, stocks.At(db, "tea").Cast(within(t), pick{}))
	}
	equal := func() bool {
		want, got := histogramsOf(t, byMeter), histogramsOf(t, byProducer)
		if len(want) < 7 || len(got) != len(want) {
			return false
		}
		for name, w := range want {
			g, is := got[name]
			if !is || g.Count != w.Count || len(g.BucketCounts) != len(w.BucketCounts) {
				return false
			}
		}
		return true
	}
	eventually(t, "both tell the same histograms", equal)
	stop() // the timers that were set are handled until then
	want, got := histogramsOf(t, byMeter), histogramsOf(t, byProducer)
	for name, w := range want {
		g := got[name]
		if !slices.Equal(g.Bounds, w.Bounds) || g.StartTime.IsZero() || g.Time.Before(g.StartTime) {
			t.Errorf("%s is %+v, not %+v", name, g, w)
		}
		if strings.Contains(name, "dserver.messages.latency") || strings.Contains(name, "dserver.turns.duration") {
			continue // until now, by the clock, at which each has looked for itself
		}
		if !slices.Equal(g.BucketCounts, w.BucketCounts) || math.Abs(g.Sum-w.Sum) > 1e-9*w.Sum {
			t.Errorf("%s is %v of %v, not %v of %v", name, g.Sum, g.BucketCounts, w.Sum, w.BucketCounts)
		}
	}
	must(t, all[1].Close())
	if left := histogramsOf(t, byProducer); len(left) > 0 {
		t.Errorf("when it is closed, it tells %v", left)
	}
}

// What the sender carries in its context reaches the handler where nobody takes spans, too.
func TestBaggageIsCarriedWithoutTraces(t *testing.T) {
	if _, isEnded := otel.GetTracerProvider().(noop.TracerProvider); !isEnded {
		otel.SetTracerProvider(noop.NewTracerProvider())
	}
	tel, err := telemetry.New(telemetry.Options{Meter: metric.NewMeterProvider()})
	must(t, err)
	carriers := dserver.Define("carrier", dserver.HandleCall(
		func(ctx *dserver.Context, _ *struct{}, _ tellBaggage) (string, error) {
			return baggage.FromContext(ctx.Context()).Member("who").Value(), nil
		}))
	p := &process{db: tel.Intercept(backendtest.NewStore().Open())}
	p.runs(t, carriers)
	who, err := baggage.NewMember("who", "me")
	must(t, err)
	bag, err := baggage.New(who)
	must(t, err)
	for want, ctx := range map[string]context.Context{"": within(t), "me": baggage.ContextWithBaggage(within(t), bag)} {
		got, err := dserver.Call(ctx, carriers.At(p.db, "1"), tellBaggage{})
		if must(t, err); got != want {
			t.Errorf("the handler has %q, not %q", got, want)
		}
	}
}

type tellBaggage struct{ dserver.Returns[string] }

package telemetry_test

import (
	"slices"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/telemetry"
)

// A program may set its tracer provider when its databases are open: its spans begin then.
func TestSpansBeginWhenTheProgramSetsItsTracerProvider(t *testing.T) {
	if _, isEnded := otel.GetTracerProvider().(noop.TracerProvider); isEnded {
		t.Skip("OpenTelemetry waits for a provider once in a process")
	}
	t.Cleanup(func() { otel.SetTracerProvider(noop.NewTracerProvider()) })
	tel, err := telemetry.New(telemetry.Options{})
	must(t, err)
	p := &process{tel.Intercept(backendtest.NewStore().Open()), tracetest.NewInMemoryExporter()}
	p.runs(t, orders)
	must(t, orders.At(p.db, "17").Call(within(t), remind{}, nil)) // without
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(p.spans)))
	must(t, orders.At(p.db, "18").Call(within(t), remind{}, nil))
	for _, name := range []string{"send order", "process order"} {
		eventually(t, name+" of the second", func() bool {
			return slices.ContainsFunc(p.spans.GetSpans(), func(s tracetest.SpanStub) bool {
				return s.Name == name && attributeOf(s, "dserver.server.id") == "18"
			})
		})
	}
	for _, s := range p.spans.GetSpans() { // the first has set a timer, which may come now
		if attributeOf(s, "dserver.server.id") == "17" && attributeOf(s, "dserver.timer") == "" {
			t.Errorf("a span of before: %s %v", s.Name, s.Attributes)
		}
	}
}

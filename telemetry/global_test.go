package telemetry_test

import (
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
		if s := p.span(t, name); attributeOf(s, "dserver.server.id") != "18" {
			t.Errorf("%s: %v", name, s.Attributes)
		}
	}
}

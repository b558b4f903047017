package telemetry

import (
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Options are where the telemetry goes. Zero values are OpenTelemetry's globals and the defaults.
type Options struct {
	Tracer     trace.TracerProvider          // otel.GetTracerProvider()
	Propagator propagation.TextMapPropagator // W3C trace context and baggage, whatever the global one is
}

// Telemetry tells OpenTelemetry what a program does with its servers.
type Telemetry struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator

	kinds sync.Map // the name of a type -> *kind
	known atomic.Int64
}

// New makes telemetry for a program. One is enough, also for several databases.
func New(o Options) (*Telemetry, error) {
	if o.Tracer == nil {
		o.Tracer = otel.GetTracerProvider()
	}
	if o.Propagator == nil {
		o.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	return &Telemetry{tracer: o.Tracer.Tracer(scope), propagator: o.Propagator}, nil
}

// Intercept is db with telemetry: handles that are made with it and consumers that run with it are traced.
func (t *Telemetry) Intercept(db backend.Database) backend.Database {
	return dserver.Intercept(db, t.Interceptor())
}

// Interceptor is what Intercept puts around the messages of a database, for programs with several interceptors. What stands
// before it has no span yet.
func (t *Telemetry) Interceptor() dserver.Interceptor {
	return dserver.Interceptor{Send: t.send, Handle: t.handle, Work: t.work, Turned: t.turned}
}

// kind is what is made once for all messages of a type of servers.
type kind struct {
	send, process, work, turn string // names of spans
}

// maxKinds is how many types are told apart.
const maxKinds = 200

// otherKinds is the name of those beyond.
const otherKinds = "_other"

// kindOf is what is known of a type.
func (t *Telemetry) kindOf(typ string) *kind {
	if k, ok := t.kinds.Load(typ); ok {
		return k.(*kind)
	}
	if typ != otherKinds && t.known.Load() >= maxKinds {
		return t.kindOf(otherKinds)
	}
	k, known := t.kinds.LoadOrStore(typ, newKind(typ))
	if !known {
		t.known.Add(1)
	}
	return k.(*kind)
}

func newKind(typ string) *kind {
	return &kind{send: "send " + typ, process: "process " + typ, work: "work " + typ, turn: "turn " + typ}
}

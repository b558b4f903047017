package telemetry

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Options are where the telemetry goes. Zero values are OpenTelemetry's globals and the defaults.
type Options struct {
	Tracer     trace.TracerProvider          // otel.GetTracerProvider()
	Meter      metric.MeterProvider          // otel.GetMeterProvider()
	Propagator propagation.TextMapPropagator // W3C trace context and baggage, whatever the global one is
	Producer   *Producer                     // tells the histograms in place of the Meter; nil: the Meter does

	// Every is how old what was read of the store may be when metrics are collected: the lengths of queues and the like, which a
	// look at the store tells, whose cost is bounded (dserver.BacklogOf). DefaultEvery; negative: look each time.
	Every time.Duration
}

// Telemetry tells OpenTelemetry what a program does with its servers.
type Telemetry struct {
	tracer     trace.Tracer
	unset      trace.TracerProvider // no spans are made while this is the global provider; nil: they always are
	propagator propagation.TextMapPropagator
	isW3C      bool // the propagator is the default one
	histograms histograms
	producer   *Producer // that tells them; nil: their instruments do
	counters   counters
	gauges     gauges
	stopping   []metric.Registration

	kinds sync.Map // the name of a type -> *kind
	known atomic.Int64
}

// New makes telemetry for a program. One is enough, also for several databases. Close ends it.
func New(o Options) (*Telemetry, error) {
	if o.Tracer == nil {
		o.Tracer = otel.GetTracerProvider()
	}
	isW3C := o.Propagator == nil
	if isW3C {
		o.Propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	if o.Meter == nil {
		o.Meter = otel.GetMeterProvider()
	}
	t := &Telemetry{tracer: o.Tracer.Tracer(scope), unset: unsetOf(o.Tracer), propagator: o.Propagator, isW3C: isW3C}
	m := &maker{meter: o.Meter.Meter(scope)}
	t.histograms, t.gauges.every = newHistograms(m, o.Producer == nil), cmp.Or(o.Every, DefaultEvery)
	counted, looked := t.counters.make(m), t.gauges.make(m)
	if m.err != nil {
		return nil, m.err
	}
	for _, c := range []struct {
		observe metric.Callback
		what    []metric.Observable
	}{{t.observe, counted}, {t.gauges.observe, looked}} {
		stopping, err := m.meter.RegisterCallback(c.observe, c.what...)
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.stopping = append(t.stopping, stopping)
	}
	if t.producer = o.Producer; t.producer != nil {
		t.producer.add(t)
	}
	return t, nil
}

// Intercept is db with telemetry: handles that are made with it and consumers that run with it are traced and measured.
func (t *Telemetry) Intercept(db backend.Database) backend.Database {
	db = dserver.Intercept(db, t.Interceptor())
	t.gauges.watch(db)
	return db
}

// Close ends what is done when metrics are collected: databases are not looked at any more, and counters not told, nor what a
// Producer would.
func (t *Telemetry) Close() (err error) {
	if t.producer != nil {
		t.producer.remove(t)
	}
	for _, r := range t.stopping {
		err = errors.Join(err, r.Unregister())
	}
	return err
}

// Interceptor is what Intercept puts around the messages of a database, for programs with several interceptors. What stands
// before it has no span yet. A database that has it alone is not looked at: its queues are in no metric.
func (t *Telemetry) Interceptor() dserver.Interceptor {
	return dserver.Interceptor{Enabled: t.traces, Send: t.send, Sent: t.sent, Handle: t.handle, Work: t.work, Turned: t.turned}
}

// kind is what is made once for all messages of a type of servers.
type kind struct {
	send, process, work, turn string // names of spans
	marks                     marks  // of metrics
	series                    measured
	counts
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
	k, known := t.kinds.LoadOrStore(typ, t.newKind(typ))
	if !known {
		t.known.Add(1)
	}
	return k.(*kind)
}

func (t *Telemetry) newKind(typ string) *kind {
	k := &kind{send: "send " + typ, process: "process " + typ, work: "work " + typ, turn: "turn " + typ, marks: newMarks(typ)}
	k.series.make(&t.histograms, k.marks)
	return k
}

package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/dserver-go/dserver/dserver"
)

// maxCarried is the longest value that is put into a header: a longer one, as of much baggage, is left out, and does not fail
// the send.
const maxCarried = 4 << 10

// outgoing is the headers of a message that is sent, for the propagator.
type outgoing struct{ *dserver.Send }

func (o outgoing) Get(key string) string { return o.Header(key) }
func (o outgoing) Keys() []string        { return nil }

func (o outgoing) Set(key, value string) {
	if len(value) <= maxCarried {
		o.SetHeader(key, value)
	}
}

// incoming is the headers of a message that is handled.
type incoming struct{ *dserver.Handling }

func (i incoming) Get(key string) string { return i.Header(key) }
func (i incoming) Set(string, string)    {}

func (i incoming) Keys() (keys []string) {
	for key := range i.Headers() {
		keys = append(keys, key)
	}
	return keys
}

var (
	_ propagation.TextMapCarrier = outgoing{}
	_ propagation.TextMapCarrier = incoming{}
)

// Options of spans that are the same for all of a sort.
var (
	asProducer = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer)}
	asClient   = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}
	asConsumer = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)}
)

// send is the span of a send. Who waits for an answer is a client.
func (t *Telemetry) send(ctx context.Context, s *dserver.Send, next func(context.Context) error) error {
	options := asProducer
	if s.Verb == "Call" || s.Verb == "Info" {
		options = asClient
	}
	ctx, span := t.start(ctx, t.kindOf(s.To.Type).send, options...)
	defer span.End()
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String(attrSystem, system), attribute.String(attrKind, "send"),
			attribute.String(attrOperation, operationOf(s.Verb)), attribute.String(attrDestination, s.To.Type),
			attribute.String(attrServer, s.To.ID), attribute.String(attrMessage, s.Message))
		if s.Count > 1 {
			span.SetAttributes(attribute.Int(attrCount, s.Count))
		}
	}
	t.propagator.Inject(ctx, outgoing{s})
	err := next(ctx)
	failed(span, err)
	return err
}

// traces reports whether there is something to do for traces: somebody takes spans, or the sender has something to be carried.
func (t *Telemetry) traces(ctx context.Context) bool {
	return t.takesSpans() || !t.isW3C || trace.SpanContextFromContext(ctx).IsValid() || baggage.FromContext(ctx).Len() > 0
}

func (t *Telemetry) takesSpans() bool { return t.unset == nil || otel.GetTracerProvider() != t.unset }

// start begins a span, where somebody takes spans: one that nobody takes costs as much as all metrics of a message.
func (t *Telemetry) start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !t.takesSpans() {
		return ctx, noop.Span{}
	}
	return t.tracer.Start(ctx, name, options...)
}

// unsetOf is the provider when it takes no spans as long as it is the global one: as the program has set none, so far.
func unsetOf(p trace.TracerProvider) trace.TracerProvider {
	if _, silent := p.(noop.TracerProvider); silent || fmt.Sprintf("%T", p) == "*global.tracerProvider" {
		return p
	}
	return nil
}

// operationOf is a verb as an attribute: cast, cast_all, call, info, set_timer.
func operationOf(verb string) string {
	switch verb {
	case "CastAll":
		return "cast_all"
	case "SetTimer":
		return "set_timer"
	}
	return strings.ToLower(verb)
}

// handle is the span of a run of a handler.
func (t *Telemetry) handle(ctx context.Context, h *dserver.Handling, next func(context.Context) error) error {
	ctx, span := t.process(ctx, h, t.kindOf(h.Server.Type).process)
	defer span.End()
	err := next(ctx)
	failed(span, err)
	return err
}

// work is the span of an attempt of locked work.
func (t *Telemetry) work(ctx context.Context, h *dserver.Handling, next func(context.Context) error) error {
	ctx, span := t.process(ctx, h, t.kindOf(h.Server.Type).work)
	defer span.End()
	err := next(ctx)
	failed(span, err)
	return err
}

// process begins a span whose parent is the send. That of a timer's message begins a trace, and leads to where the timer was
// set.
func (t *Telemetry) process(ctx context.Context, h *dserver.Handling, name string) (context.Context, trace.Span) {
	if t.carries(h) {
		ctx = t.propagator.Extract(ctx, incoming{h})
	}
	options := asConsumer
	if h.Timer != "" {
		set := trace.Link{SpanContext: trace.SpanContextFromContext(ctx)}
		options = append(options[:1:1], trace.WithNewRoot(), trace.WithLinks(set))
	}
	ctx, span := t.start(ctx, name, options...)
	if !span.IsRecording() {
		return ctx, span
	}
	span.SetAttributes(
		attribute.String(attrSystem, system), attribute.String(attrKind, "process"),
		attribute.String(attrOperation, "process"), attribute.String(attrDestination, h.Server.Type),
		attribute.String(attrServer, h.Server.ID), attribute.String(attrMessage, h.Message),
		attribute.Int(attrAttempt, h.Attempt))
	if h.Run > 1 {
		span.SetAttributes(attribute.Int(attrRun, h.Run))
	}
	if h.Timer != "" {
		span.SetAttributes(attribute.String(attrTimer, h.Timer))
	}
	if !h.Stamp.IsZero() {
		span.SetAttributes(attribute.String(attrMessageID, h.Stamp.String()))
	}
	return ctx, span
}

// carries reports whether a message may have something for the propagator.
func (t *Telemetry) carries(h *dserver.Handling) bool {
	return !t.isW3C || h.Header("traceparent") != "" || h.Header("baggage") != ""
}

// isSampled reports whether a message may come from a trace that is sampled: the last of its flags is set then.
func (t *Telemetry) isSampled(h *dserver.Handling) bool {
	return !t.isW3C || strings.HasSuffix(h.Header("traceparent"), "1")
}

// turned is told of turns. It measures them, and makes the span of one that joins several senders.
func (t *Telemetry) turned(turn *dserver.Turn) {
	t.measureTurn(turn)
	if len(turn.Messages) > 1 {
		t.join(turn)
	}
}

// join is the span of a turn whose messages come from several traces. It is in none of them, and leads to each.
func (t *Telemetry) join(turn *dserver.Turn) {
	var links []trace.Link
	var traces map[trace.TraceID]struct{}
	for i := range turn.Messages {
		if !t.isSampled(&turn.Messages[i].Handling) {
			continue
		}
		ctx := t.propagator.Extract(context.Background(), incoming{&turn.Messages[i].Handling})
		if sender := trace.SpanContextFromContext(ctx); sender.IsSampled() {
			links = append(links, trace.Link{SpanContext: sender})
			if traces == nil {
				traces = map[trace.TraceID]struct{}{}
			}
			traces[sender.TraceID()] = struct{}{}
		}
	}
	if len(traces) < 2 {
		return
	}
	_, span := t.tracer.Start(context.Background(), t.kindOf(turn.Server.Type).turn,
		trace.WithNewRoot(), trace.WithTimestamp(turn.Began), trace.WithLinks(links...))
	defer span.End()
	span.SetAttributes(
		attribute.String(attrSystem, system), attribute.String(attrDestination, turn.Server.Type),
		attribute.String(attrServer, turn.Server.ID), attribute.Int(attrCount, len(turn.Messages)),
		attribute.Int(attrConflicts, turn.Conflicts))
}

// failed marks a span whose operation failed.
func failed(span trace.Span, err error) {
	if err == nil || !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String(attrErrorType, errorType(err)))
	span.SetStatus(codes.Error, err.Error())
}

// errorType is the code of an error, of which a program has few; "_OTHER", as the conventions say, when it has none.
func errorType(err error) string {
	var e *dserver.Error
	if errors.As(err, &e) && e.Code != "" {
		return e.Code
	}
	return "_OTHER"
}

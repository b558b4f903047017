package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/telemetry"
)

// The servers of a shop: an order asks the stock, which tells the post, which prints a label by locked work.
type (
	order  struct{ Placed int }
	stock  struct{ Left int }
	post   struct{ Labels []string }
	place  struct{ dserver.Returns[int] }
	pick   struct{}
	label  struct{}
	refuse struct{ dserver.Returns[int] }
	remind struct{}
	nudge  struct{}
)

var errSoldOut = &dserver.Error{Code: "sold-out", Text: "nothing is left"}

var (
	orders = dserver.Define("order",
		dserver.HandleCall(func(ctx *dserver.Context, o *order, _ place) (int, error) {
			o.Placed++
			ctx.Cast(stocks.Ref("tea"), pick{})
			return o.Placed, nil
		}),
		dserver.HandleCall(func(*dserver.Context, *order, refuse) (int, error) { return 0, errSoldOut }),
		dserver.HandleCast(func(ctx *dserver.Context, _ *order, _ remind) error {
			ctx.SetTimer("nudge", time.Millisecond, nudge{})
			return nil
		}),
		dserver.HandleCast(func(_ *dserver.Context, o *order, _ nudge) error { o.Placed = -1; return nil }),
	)
	stocks = dserver.Define("stock", dserver.HandleCast(func(ctx *dserver.Context, s *stock, _ pick) error {
		s.Left--
		ctx.Cast(posts.Ref("office"), label{})
		return nil
	}))
	posts = dserver.Define("post", dserver.HandleLocked(
		func(ctx *dserver.LockedContext, _ post, _ label) (string, error) {
			return trace.SpanContextFromContext(ctx).TraceID().String(), nil
		},
		func(_ *dserver.Context, p *post, _ label, trace string) error {
			p.Labels = append(p.Labels, trace)
			return nil
		}))
)

// process is a process of the program, with telemetry and what it exported.
type process struct {
	db    backend.Database
	spans *tracetest.InMemoryExporter
}

func newProcess(t testing.TB, db backend.Database) *process {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	tel, err := telemetry.New(telemetry.Options{Tracer: provider})
	must(t, err)
	return &process{tel.Intercept(db), spans}
}

// span waits for a span of a name.
func (p *process) span(t *testing.T, name string) tracetest.SpanStub {
	t.Helper()
	var found tracetest.SpanStub
	eventually(t, "a span "+name, func() bool {
		for _, s := range p.spans.GetSpans() {
			if s.Name == name {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// runs runs a consumer until the end of the test, or until stop is called.
func (p *process) runs(t testing.TB, types ...dserver.Type) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(ctx, p.db, types...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		must(t, <-ended)
	})
	t.Cleanup(stop)
	return stop
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what must happen. Only a failing test waits for so long.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// opened opens a file again and again: each handle is another process's.
func opened(t testing.TB) (open func() backend.Database) {
	path := filepath.Join(t.TempDir(), "test.db")
	return func() backend.Database {
		db, err := sqlite.Open(path, sqlite.Relaxed())
		must(t, err)
		t.Cleanup(func() { must(t, db.Close()) })
		return db
	}
}

func attributeOf(s tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// A turn that joins messages of several senders has a span that leads to each of them.
func TestTurnOfSeveralSendersLeadsToEach(t *testing.T) {
	open := opened(t)
	p := newProcess(t, open())
	senders := map[trace.SpanID]bool{}
	for range 3 {
		sends := newProcess(t, open())
		must(t, stocks.At(sends.db, "tea").Cast(within(t), pick{}))
		senders[sends.span(t, "send stock").SpanContext.SpanID()] = true
	}
	p.runs(t, stocks)
	turn := p.span(t, "turn stock")
	for _, link := range turn.Links {
		if !senders[link.SpanContext.SpanID()] {
			t.Errorf("a link to %v, who did not send", link.SpanContext)
		}
		delete(senders, link.SpanContext.SpanID())
	}
	if len(senders) > 0 || len(turn.Links) != 3 || turn.Parent.IsValid() || attributeOf(turn, "messaging.batch.message_count") != "3" {
		t.Errorf("%d senders have no link; the turn is %v, %v", len(senders), turn.Parent, turn.Attributes)
	}
}

// What a handler refuses is an error of its span, and of its caller's, with the code.
func TestRefusalsAreErrorsOfTheirSpans(t *testing.T) {
	p := newProcess(t, backendtest.NewStore().Open())
	p.runs(t, orders)
	if _, err := dserver.Call(within(t), orders.At(p.db, "17"), refuse{}); !errors.Is(err, errSoldOut) {
		t.Fatal(err)
	}
	for _, name := range []string{"send order", "process order"} {
		s := p.span(t, name)
		if s.Status.Code != codes.Error || !strings.Contains(s.Status.Description, "nothing is left") || attributeOf(s, "error.type") != "sold-out" {
			t.Errorf("%s: %v, %v", name, s.Status, s.Attributes)
		}
	}
}

// A timer's message begins a trace, which leads to the one in which the timer was set.
func TestTimerBeginsATraceThatLeadsToWhereItWasSet(t *testing.T) {
	p := newProcess(t, backendtest.NewStore().Open())
	p.runs(t, orders)
	must(t, orders.At(p.db, "17").Call(within(t), remind{}, nil))
	var set, fired tracetest.SpanStub
	eventually(t, "the timer has fired", func() bool {
		for _, s := range p.spans.GetSpans() {
			switch {
			case s.Name == "send order" && attributeOf(s, "messaging.operation.name") == "set_timer":
				set = s
			case s.Name == "process order" && attributeOf(s, "dserver.timer") == "nudge":
				fired = s
			}
		}
		return set.Name != "" && fired.Name != ""
	})
	if fired.Parent.IsValid() || fired.SpanContext.TraceID() == set.SpanContext.TraceID() {
		t.Error("the timer's message is in the trace that set it")
	}
	if len(fired.Links) != 1 || fired.Links[0].SpanContext.SpanID() != set.SpanContext.SpanID() {
		t.Errorf("the links are %v", fired.Links)
	}
}

// Much baggage is left out, and fails no send.
func TestMoreBaggageThanAHeaderTakesIsLeftOut(t *testing.T) {
	p := newProcess(t, backendtest.NewStore().Open())
	header := dserver.Header("baggage", "") // there is none to begin with
	must(t, stocks.At(baggaged(t, p, 5000), "tea").Cast(within(t), pick{}, header))
	must(t, stocks.At(baggaged(t, p, 50), "tea").Cast(within(t), pick{}, header))
	var sizes []string
	for q, err := range stocks.At(p.db, "tea").Queue(t.Context()) {
		must(t, err)
		sizes = append(sizes, fmt.Sprint(len(q.Headers["baggage"]) > 0))
	}
	if got := strings.Join(sizes, " "); got != "false true" {
		t.Errorf("baggage is carried: %s", got)
	}
}

// baggaged is the database of a process whose sends have so many bytes of baggage.
func baggaged(t *testing.T, p *process, n int) backend.Database {
	t.Helper()
	spans := sdktrace.NewTracerProvider(sdktrace.WithSyncer(p.spans))
	tel, err := telemetry.New(telemetry.Options{Tracer: spans, Propagator: fixed(strings.Repeat("b", n))})
	must(t, err)
	return tel.Intercept(p.db)
}

// fixed is a propagator of one value.
type fixed string

func (f fixed) Inject(_ context.Context, c propagation.TextMapCarrier) { c.Set("baggage", string(f)) }
func (f fixed) Fields() []string                                       { return []string{"baggage"} }

func (f fixed) Extract(ctx context.Context, _ propagation.TextMapCarrier) context.Context { return ctx }

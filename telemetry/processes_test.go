package telemetry_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/dserver-go/dserver/backend/sqlite"
	"github.com/dserver-go/dserver/dserver"
)

// exported is a span as one process tells it to another.
type exported struct {
	PID                 int
	Name                string
	Trace, Span, Parent string
	Kind                trace.SpanKind
	Attributes          map[string]string
	IsError             bool
	ParentIsRemote      bool // it came with the message
}

func exportedOf(all tracetest.SpanStubs) (out []exported) {
	for _, s := range all {
		e := exported{
			PID: os.Getpid(), Name: s.Name, Trace: s.SpanContext.TraceID().String(), Span: s.SpanContext.SpanID().String(),
			Parent: s.Parent.SpanID().String(), Kind: s.SpanKind, Attributes: map[string]string{},
			IsError: s.Status.Code == codes.Error, ParentIsRemote: s.Parent.IsRemote(),
		}
		for _, a := range s.Attributes {
			e.Attributes[string(a.Key)] = a.Value.String()
		}
		out = append(out, e)
	}
	return out
}

// farDB in the environment makes a test the other process, which runs the stock on this file.
const farDB = "DSERVER_TEST_FAR"

// TestTheFarProcess answers each line of its input with the spans that it has exported, as JSON, and ends with its input.
func TestTheFarProcess(t *testing.T) {
	path := os.Getenv(farDB)
	if path == "" {
		t.Skip("it is a process of another test")
	}
	db, err := sqlite.Open(path, sqlite.Relaxed())
	must(t, err)
	defer db.Close()
	p := newProcess(t, db)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- dserver.Run(ctx, p.db, stocks) }()
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		spans, err := json.Marshal(exportedOf(p.spans.GetSpans()))
		must(t, err)
		fmt.Printf("%s\n", spans)
	}
	cancel()
	must(t, <-ended)
}

// farProcess is that process.
type farProcess struct {
	ask  func(line string) error
	says *bufio.Reader
}

func startFar(t *testing.T, path string) *farProcess {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run", "^TestTheFarProcess$")
	command.Env = append(os.Environ(), farDB+"="+path, "GORACE=atexit_sleep_ms=0")
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	must(t, err)
	out, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	f := &farProcess{says: bufio.NewReader(out)}
	f.ask = func(line string) error { _, err := fmt.Fprintln(in, line); return err }
	t.Cleanup(func() {
		_ = in.Close() // it ends
		if rest, err := f.says.ReadString(0); !strings.Contains(rest, "PASS") {
			t.Errorf("the other process said %q, %v", rest, err)
		}
		must(t, command.Wait())
	})
	return f
}

// spans is what it has exported.
func (f *farProcess) spans(t *testing.T) (all []exported) {
	t.Helper()
	must(t, f.ask("spans"))
	line, err := f.says.ReadString('\n')
	if must(t, err); json.Unmarshal([]byte(line), &all) != nil {
		t.Fatalf("the other process said %q", line)
	}
	return all
}

// One request is one trace, over three servers of two processes of the system, locked work, and back.
func TestTraceOfARequestOverThreeServersAndTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	db, err := sqlite.Open(path, sqlite.Relaxed())
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	far := startFar(t, path)
	near := newProcess(t, db)
	near.runs(t, orders, posts)

	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(near.spans))
	ctx, request := provider.Tracer("test").Start(within(t), "request")
	n, err := dserver.Call(ctx, orders.At(near.db, "17"), place{})
	if must(t, err); n != 1 {
		t.Fatalf("order %d", n)
	}
	request.End()

	span := func(isFar bool, name string) (found exported) {
		t.Helper()
		eventually(t, "a span "+name, func() bool {
			all := exportedOf(near.spans.GetSpans())
			if isFar {
				all = far.spans(t)
			}
			for _, s := range all {
				if s.Name == name {
					found = s
					return true
				}
			}
			return false
		})
		return found
	}
	for _, step := range []struct {
		far         bool // where it is, and where its parent is
		name        string
		farParent   bool
		parent      string
		kind        trace.SpanKind
		id, message string
	}{
		{false, "send order", false, "request", trace.SpanKindClient, "17", "place"},
		{false, "process order", false, "send order", trace.SpanKindConsumer, "17", "place"},
		{false, "send stock", false, "process order", trace.SpanKindProducer, "tea", "pick"},
		{true, "process stock", false, "send stock", trace.SpanKindConsumer, "tea", "pick"},
		{true, "send post", true, "process stock", trace.SpanKindProducer, "office", "label"},
		{false, "work post", true, "send post", trace.SpanKindConsumer, "office", "label"},
		{false, "process post", true, "send post", trace.SpanKindConsumer, "office", "label"}, // apply
	} {
		got, parent := span(step.far, step.name), span(step.farParent, step.parent)
		if got.Trace != request.SpanContext().TraceID().String() {
			t.Errorf("%s is in another trace", step.name)
		}
		if got.Parent != parent.Span {
			t.Errorf("the parent of %s is not %s", step.name, step.parent)
		}
		if isOther := got.PID != os.Getpid(); isOther != step.far {
			t.Errorf("%s is of the process %d", step.name, got.PID)
		}
		if step.far != step.farParent && !got.ParentIsRemote {
			t.Errorf("the parent of %s came from nowhere else", step.name)
		}
		if got.Kind != step.kind || got.Attributes["dserver.server.id"] != step.id || got.Attributes["dserver.message.name"] != step.message ||
			got.Attributes["messaging.system"] != "dserver" || got.IsError {
			t.Errorf("%s is %+v", step.name, got)
		}
	}
	eventually(t, "the label is printed", func() bool {
		state, err := posts.At(near.db, "office").State(t.Context())
		return err == nil && len(state.Labels) == 1 && state.Labels[0] == request.SpanContext().TraceID().String()
	})
	if stamp := span(true, "process stock").Attributes["messaging.message.id"]; len(stamp) != 24 {
		t.Errorf("the message from the queue has the id %q", stamp)
	}
}

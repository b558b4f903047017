package telemetry

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/dserver-go/dserver/dserver"
)

// instruments are what is measured as it happens.
type instruments struct {
	sending  metric.Float64Histogram
	handling metric.Float64Histogram
	latency  metric.Float64Histogram
	turns    metric.Float64Histogram
	batches  metric.Int64Histogram
	commits  metric.Float64Histogram
}

// Bounds of histograms: seconds from a tenth of a millisecond to a minute, and messages up to the most of a turn.
var (
	secondBounds  = metric.WithExplicitBucketBoundaries(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60)
	messageBounds = metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256)
)

func newInstruments(m *maker) instruments {
	return instruments{
		sending:  m.seconds(nameSending, "How long sends took; those of Call until their answer."),
		handling: m.seconds(nameHandling, "How long handlers ran, each run of them."),
		latency:  m.seconds(nameLatency, "From the sending of a message to the commit that handled it, by two clocks, with After."),
		turns:    m.seconds(nameTurns, "How long turns took, from their begin to the commit's answer."),
		batches:  m.messages(nameBatches, "Messages of a turn."),
		commits:  m.seconds(nameCommits, "From the end of a turn's handlers to the answer of the store."),
	}
}

// maker makes instruments, and keeps the first error.
type maker struct {
	meter metric.Meter
	err   error
}

func (m *maker) note(err error) {
	if m.err == nil {
		m.err = err
	}
}

func (m *maker) counter(name, unit, about string) metric.Int64ObservableCounter {
	c, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(about))
	m.note(err)
	return c
}

func (m *maker) seconds(name, about string) metric.Float64Histogram {
	h, err := m.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(about), secondBounds)
	m.note(err)
	return h
}

func (m *maker) messages(name, about string) metric.Int64Histogram {
	h, err := m.meter.Int64Histogram(name, metric.WithUnit("{message}"), metric.WithDescription(about), messageBounds)
	m.note(err)
	return h
}

// verbs are the methods that send, outcomes what becomes of messages. Their places are those of counts.
var (
	verbs    = [...]string{"Cast", "CastAll", "Call", "Info", "SetTimer"}
	outcomes = [...]string{"ok", "refused", "faulted", "dead", "locked"}
)

const (
	outcomeOK      = iota
	outcomeRefused // by its handler
	outcomeFaulted // it is tried again, or its caller was told
	outcomeDead    // after its last attempt
	outcomeLocked  // it is locked work now
)

// mark is the attributes of a measurement: as a list, since that is what instruments take, and a list costs memory each time.
type mark struct {
	record  []metric.RecordOption
	observe []metric.ObserveOption
}

// marks is the attributes of one type's measurements, made once.
type marks struct {
	of      mark // the type
	sent    [len(verbs)]mark
	handled [len(outcomes)]mark
	cached  [2]mark
}

func newMarks(typ string) (m marks) {
	base := []attribute.KeyValue{attribute.String(attrSystem, system), attribute.String(attrDestination, typ)}
	with := func(more ...attribute.KeyValue) mark {
		set := metric.WithAttributeSet(attribute.NewSet(append(base[:2:2], more...)...))
		return mark{[]metric.RecordOption{set}, []metric.ObserveOption{set}}
	}
	m.of = with()
	for i, verb := range verbs {
		m.sent[i] = with(attribute.String(attrOperation, operationOf(verb)))
	}
	for i, outcome := range outcomes {
		m.handled[i] = with(attribute.String(attrOutcome, outcome))
	}
	for i := range m.cached {
		m.cached[i] = with(attribute.Bool(attrCached, i == 1))
	}
	return m
}

func outcomeOf(m *dserver.Handled) int {
	switch {
	case m.Faulted && m.DeadLetter:
		return outcomeDead
	case m.Faulted:
		return outcomeFaulted
	case m.Err != nil:
		return outcomeRefused
	case m.Locks:
		return outcomeLocked
	}
	return outcomeOK
}

// measureSend counts messages that were sent.
func (t *Telemetry) measureSend(ctx context.Context, s *dserver.Send, began time.Time, err error) {
	k, verb := t.kindOf(s.To.Type), slices.Index(verbs[:], s.Verb)
	if err == nil {
		k.sent[verb].Add(int64(s.Count))
	}
	if s.From == (dserver.Ref{}) { // in a handler it takes no time
		t.sending.Record(ctx, time.Since(began).Seconds(), k.marks.sent[verb].record...)
	}
}

// measureTurn measures what became of a turn.
func (t *Telemetry) measureTurn(turn *dserver.Turn) {
	k, now := t.kindOf(turn.Server.Type), time.Now()
	k.conflicts.Add(int64(turn.Conflicts))
	if turn.TookOver {
		k.takeovers.Add(1)
	}
	if turn.Err != nil {
		k.errors.Add(1)
	}
	ctx, committed := context.Background(), false
	for i := range turn.Messages {
		if message := &turn.Messages[i]; !message.Faulted {
			committed = true
			t.latency.Record(ctx, max(0, now.Sub(message.Sent)).Seconds(), k.marks.of.record...)
		}
	}
	if committed {
		t.turns.Record(ctx, now.Sub(turn.Began).Seconds(), k.marks.of.record...)
		t.batches.Record(ctx, int64(len(turn.Messages)), k.marks.of.record...)
		t.commits.Record(ctx, turn.Commit.Seconds(), k.marks.of.record...)
		found := 0
		if turn.Cached {
			found = 1
		}
		k.lookups[found].Add(1)
	}
	for i := range turn.Messages { // last, so that who sees that a message was handled sees the rest, too
		message := &turn.Messages[i]
		if message.Faulted {
			k.failed.Add(1)
		}
		if message.DeadLetter {
			k.dead.Add(1)
		}
		k.handled[outcomeOf(message)].Add(1)
	}
}

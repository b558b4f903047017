package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/dserver-go/dserver/dserver"
)

// instruments are what is counted and measured as it happens.
type instruments struct {
	sent      metric.Int64Counter
	sending   metric.Float64Histogram
	handling  metric.Float64Histogram
	handled   metric.Int64Counter
	latency   metric.Float64Histogram
	failed    metric.Int64Counter
	dead      metric.Int64Counter
	turns     metric.Float64Histogram
	batches   metric.Int64Histogram
	commits   metric.Float64Histogram
	conflicts metric.Int64Counter
	errors    metric.Int64Counter
	takeovers metric.Int64Counter
	lookups   metric.Int64Counter
}

// Bounds of histograms: seconds from a tenth of a millisecond to a minute, and messages up to the most of a turn.
var (
	secondBounds  = metric.WithExplicitBucketBoundaries(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60)
	messageBounds = metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256)
)

func newInstruments(m metric.Meter) (i instruments, err error) {
	make := maker{meter: m}
	i = instruments{
		sent:      make.counter(nameSent, "{message}", "Messages that were sent, by handles and by handlers."),
		sending:   make.seconds(nameSending, "How long sends took; those of Call until their answer."),
		handling:  make.seconds(nameHandling, "How long handlers ran, each run of them."),
		handled:   make.counter(nameHandled, "{message}", "Messages that were handled, by their outcome."),
		latency:   make.seconds(nameLatency, "From the sending of a message to the commit that handled it, by two clocks, with After."),
		failed:    make.counter(nameFailed, "{attempt}", "Attempts of messages and of locked work's ends that faulted."),
		dead:      make.counter(nameDead, "{message}", "Messages that became dead letters."),
		turns:     make.seconds(nameTurns, "How long turns took, from their begin to the commit's answer."),
		batches:   make.messages(nameBatches, "Messages of a turn."),
		commits:   make.seconds(nameCommits, "From the end of a turn's handlers to the answer of the store."),
		conflicts: make.counter(nameConflicts, "{conflict}", "Transactions of turns that ran again, as they had lost a race."),
		errors:    make.counter(nameErrors, "{turn}", "Turns that did not commit because of the store."),
		takeovers: make.counter(nameTakeovers, "{lock}", "Locks that were taken over from consumers that vanished."),
		lookups:   make.counter(nameLookups, "{turn}", "Turns by whether they found the state in the cache."),
	}
	return i, make.err
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

func (m *maker) counter(name, unit, about string) metric.Int64Counter {
	c, err := m.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(about))
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

// marks is the attributes of one type's measurements, made once.
type marks struct {
	of      metric.MeasurementOption            // the type
	handled map[string]metric.MeasurementOption // and an outcome
	sent    map[string]metric.MeasurementOption // and a verb
	cached  map[bool]metric.MeasurementOption
}

// beginAt0 makes the counters of a type known before anything goes wrong: one that appears with its first count has not
// increased, as an alert sees it.
func (t *Telemetry) beginAt0(m *marks) {
	for _, c := range []metric.Int64Counter{t.failed, t.dead, t.conflicts, t.instruments.errors, t.takeovers} {
		c.Add(context.Background(), 0, m.of)
	}
}

// Outcomes of messages.
const (
	outcomeOK      = "ok"
	outcomeRefused = "refused" // by its handler
	outcomeFaulted = "faulted" // it is tried again, or its caller was told
	outcomeDead    = "dead"    // after its last attempt
	outcomeLocked  = "locked"  // it is locked work now
)

func newMarks(typ string) marks {
	base := []attribute.KeyValue{attribute.String(attrSystem, system), attribute.String(attrDestination, typ)}
	with := func(more ...attribute.KeyValue) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(append(base[:2:2], more...)...))
	}
	m := marks{
		of: with(), handled: map[string]metric.MeasurementOption{}, sent: map[string]metric.MeasurementOption{},
		cached: map[bool]metric.MeasurementOption{},
	}
	for _, outcome := range []string{outcomeOK, outcomeRefused, outcomeFaulted, outcomeDead, outcomeLocked} {
		m.handled[outcome] = with(attribute.String(attrOutcome, outcome))
	}
	for _, verb := range []string{"Cast", "CastAll", "Call", "Info", "SetTimer"} {
		m.sent[verb] = with(attribute.String(attrOperation, operationOf(verb)))
	}
	for _, hit := range []bool{true, false} {
		m.cached[hit] = with(attribute.Bool(attrCached, hit))
	}
	return m
}

func outcomeOf(m *dserver.Handled) string {
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
	m := &t.kindOf(s.To.Type).marks
	if err == nil {
		t.sent.Add(ctx, int64(s.Count), m.sent[s.Verb])
	}
	if s.From == (dserver.Ref{}) { // in a handler it takes no time
		t.sending.Record(ctx, time.Since(began).Seconds(), m.sent[s.Verb])
	}
}

// measureTurn measures what became of a turn.
func (t *Telemetry) measureTurn(turn *dserver.Turn) {
	ctx, m, now := context.Background(), &t.kindOf(turn.Server.Type).marks, time.Now()
	if turn.Conflicts > 0 {
		t.conflicts.Add(ctx, int64(turn.Conflicts), m.of)
	}
	if turn.TookOver {
		t.takeovers.Add(ctx, 1, m.of)
	}
	if turn.Err != nil {
		t.instruments.errors.Add(ctx, 1, m.of)
	}
	if len(turn.Messages) == 0 {
		return
	}
	committed, fine := false, int64(0)
	for i := range turn.Messages {
		message := &turn.Messages[i]
		if outcome := outcomeOf(message); outcome == outcomeOK {
			fine++
		} else {
			t.handled.Add(ctx, 1, m.handled[outcome])
		}
		if message.Faulted {
			t.failed.Add(ctx, 1, m.of)
		} else {
			committed = true
			t.latency.Record(ctx, max(0, now.Sub(message.Sent)).Seconds(), m.of)
		}
		if message.DeadLetter {
			t.dead.Add(ctx, 1, m.of)
		}
	}
	if fine > 0 {
		t.handled.Add(ctx, fine, m.handled[outcomeOK])
	}
	if committed {
		t.turns.Record(ctx, now.Sub(turn.Began).Seconds(), m.of)
		t.batches.Record(ctx, int64(len(turn.Messages)), m.of)
		t.commits.Record(ctx, turn.Commit.Seconds(), m.of)
		t.lookups.Add(ctx, 1, m.cached[turn.Cached])
	}
}

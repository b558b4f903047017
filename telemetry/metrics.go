package telemetry

import (
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/dserver-go/dserver/dserver"
)

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

func (m *maker) histogram(of *histogram) metric.Float64Histogram {
	h, err := m.meter.Float64Histogram(of.name, metric.WithUnit(of.unit), metric.WithDescription(of.about),
		metric.WithExplicitBucketBoundaries(of.bounds...))
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

// mark is the attributes of a measurement: as a list, too, since that is what instruments take, and a list costs memory each time.
type mark struct {
	set     attribute.Set
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
		set := attribute.NewSet(append(base[:2:2], more...)...)
		return mark{set, []metric.ObserveOption{metric.WithAttributeSet(set)}}
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

// sent measures a send.
func (t *Telemetry) sent(s dserver.Sent) {
	k, verb := t.kindOf(s.To.Type), slices.Index(verbs[:], s.Verb)
	if s.Err == nil {
		k.sent[verb].Add(int64(s.Count))
	}
	if s.From == (dserver.Ref{}) { // in a handler it takes no time
		k.series.sending[verb].add(int64(s.Took))
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
	m, committed := &k.series, false
	for i := range turn.Messages {
		message := &turn.Messages[i]
		if message.Took > 0 {
			m.handling[0].add(int64(message.Took))
		}
		if !message.Faulted {
			committed = true
			m.latency[0].add(int64(max(0, now.Sub(message.Sent))))
		}
	}
	if committed {
		m.turns[0].add(int64(now.Sub(turn.Began)))
		m.batches[0].add(int64(len(turn.Messages)))
		m.commits[0].add(int64(turn.Commit))
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

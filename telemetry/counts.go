package telemetry

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/metric"
)

// counts is what is counted of one type. A count is an addition in memory, and is told when metrics are collected: an instrument
// of OpenTelemetry costs ten times that for each message.
type counts struct {
	sent    [len(verbs)]atomic.Int64
	handled [len(outcomes)]atomic.Int64
	lookups [2]atomic.Int64 // those that missed, and those that hit

	failed, dead, conflicts, errors, takeovers atomic.Int64
}

// counters are what counts are told by.
type counters struct {
	sent, handled, lookups                     metric.Int64ObservableCounter
	failed, dead, conflicts, errors, takeovers metric.Int64ObservableCounter
}

func (c *counters) make(m *maker) []metric.Observable {
	c.sent = m.counter(nameSent, "{message}", "Messages that were sent, by handles and by handlers.")
	c.handled = m.counter(nameHandled, "{message}", "Messages that were handled, by their outcome.")
	c.lookups = m.counter(nameLookups, "{turn}", "Turns by whether they found the state in the cache.")
	c.failed = m.counter(nameFailed, "{attempt}", "Attempts of messages and of locked work's ends that faulted.")
	c.dead = m.counter(nameDead, "{message}", "Messages that became dead letters.")
	c.conflicts = m.counter(nameConflicts, "{conflict}", "Transactions of turns that ran again, as they had lost a race.")
	c.errors = m.counter(nameErrors, "{turn}", "Turns that did not commit because of the store.")
	c.takeovers = m.counter(nameTakeovers, "{lock}", "Locks that were taken over from consumers that vanished.")
	return []metric.Observable{c.sent, c.handled, c.lookups, c.failed, c.dead, c.conflicts, c.errors, c.takeovers}
}

// observe tells the counts of all types. Those of what goes wrong begin at 0: a counter that appears with its first count has
// not increased, as an alert sees it.
func (t *Telemetry) observe(_ context.Context, o metric.Observer) error {
	t.kinds.Range(func(_, value any) bool {
		k := value.(*kind)
		c := &t.counters
		for i := range k.sent {
			observeSome(o, c.sent, &k.sent[i], k.marks.sent[i])
		}
		for i := range k.handled {
			observeSome(o, c.handled, &k.handled[i], k.marks.handled[i])
		}
		for i := range k.lookups {
			observeSome(o, c.lookups, &k.lookups[i], k.marks.cached[i])
		}
		o.ObserveInt64(c.failed, k.failed.Load(), k.marks.of.observe...)
		o.ObserveInt64(c.dead, k.dead.Load(), k.marks.of.observe...)
		o.ObserveInt64(c.conflicts, k.conflicts.Load(), k.marks.of.observe...)
		o.ObserveInt64(c.errors, k.errors.Load(), k.marks.of.observe...)
		o.ObserveInt64(c.takeovers, k.takeovers.Load(), k.marks.of.observe...)
		return true
	})
	return nil
}

// observeSome tells a count of those that most types have not all of.
func observeSome(o metric.Observer, c metric.Int64ObservableCounter, n *atomic.Int64, as mark) {
	if n := n.Load(); n > 0 {
		o.ObserveInt64(c, n, as.observe...)
	}
}

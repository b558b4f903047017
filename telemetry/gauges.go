package telemetry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// gauges are what is looked up when metrics are collected: what the consumers of this process have in hand, and what waits in
// the store for the types that they run.
type gauges struct {
	queued, waiting, overdue         metric.Int64ObservableGauge
	oldest, lockAge                  metric.Float64ObservableGauge
	turns, line, locks, cached, sees metric.Int64ObservableGauge
	bytes                            metric.Int64ObservableGauge

	every time.Duration

	mu      sync.Mutex
	watched []*watched
}

// watched is a database, and what was found in it last.
type watched struct {
	db    backend.Database
	at    time.Time
	found map[string]dserver.Backlog
}

// What a collection may cost.
const (
	// DefaultEvery is how old what was read of the store may be.
	DefaultEvery = 15 * time.Second

	maxLook = 5 * time.Second // for one database
)

func (g *gauges) make(make *maker) []metric.Observable {
	g.queued = make.gauge(nameQueued, "{message}", "Messages on the queues of a type; the same from each process that runs it.")
	g.waiting = make.gauge(nameWaiting, "{server}", "Servers of a type with something to do, or that wait.")
	g.overdue = make.gauge(nameOverdue, "{message}", "Timers and delayed messages that are due and not queued.")
	g.oldest = make.age(nameOldest, "Since when the oldest of the messages that are next was sent.")
	g.lockAge = make.age(nameLockAge, "Since when the lock is held that this process holds for longest.")
	g.turns = make.gauge(nameInHand, "{turn}", "Turns that run in this process.")
	g.line = make.gauge(nameLine, "{server}", "Servers that wait for a worker of this process.")
	g.locks = make.gauge(nameLocks, "{lock}", "Locks that this process holds for work.")
	g.cached = make.gauge(nameCached, "{server}", "Servers that this process remembers.")
	g.bytes = make.gauge(nameCacheBytes, "By", "States of idle servers that this process remembers.")
	g.sees = make.gauge(nameWatches, "{watch}", "Watches of this process that wait on the store.")
	return []metric.Observable{
		g.queued, g.waiting, g.overdue, g.oldest, g.lockAge, g.turns, g.line, g.locks, g.cached, g.bytes, g.sees,
	}
}

func (m *maker) gauge(name, unit, about string) metric.Int64ObservableGauge {
	g, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(about))
	m.note(err)
	return g
}

func (m *maker) age(name, about string) metric.Float64ObservableGauge {
	g, err := m.meter.Float64ObservableGauge(name, metric.WithUnit("s"), metric.WithDescription(about))
	m.note(err)
	return g
}

// watch makes a database one that is looked at.
func (g *gauges) watch(db backend.Database) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watched = append(g.watched, &watched{db: db})
}

// observe is called when metrics are collected. Several databases are one sum.
func (g *gauges) observe(ctx context.Context, o metric.Observer) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all dserver.Load
	waits := map[string]dserver.Backlog{}
	var failed error
	for _, w := range g.watched {
		l := dserver.LoadOf(w.db)
		all.Turns, all.Waiting, all.Work = all.Turns+l.Turns, all.Waiting+l.Waiting, all.Work+l.Work
		all.Servers, all.CacheBytes, all.Watches = all.Servers+l.Servers, all.CacheBytes+l.CacheBytes, all.Watches+l.Watches
		all.OldestLock = earlier(all.OldestLock, l.OldestLock)
		if err := w.look(ctx, l.Types, g.every); err != nil {
			failed = fmt.Errorf("dserver telemetry: %w", err)
		}
		for typ, b := range w.found {
			sum := waits[typ]
			sum.Queued, sum.Servers, sum.Overdue = sum.Queued+b.Queued, sum.Servers+b.Servers, sum.Overdue+b.Overdue
			sum.Oldest = earlier(sum.Oldest, b.Oldest)
			waits[typ] = sum
		}
	}
	g.tell(o, all, waits)
	return failed
}

func (g *gauges) tell(o metric.Observer, l dserver.Load, waits map[string]dserver.Backlog) {
	in := metric.WithAttributes(attribute.String(attrSystem, system))
	o.ObserveInt64(g.turns, int64(l.Turns), in)
	o.ObserveInt64(g.line, int64(l.Waiting), in)
	o.ObserveInt64(g.locks, int64(l.Work), in)
	o.ObserveInt64(g.cached, int64(l.Servers), in)
	o.ObserveInt64(g.bytes, l.CacheBytes, in)
	o.ObserveInt64(g.sees, int64(l.Watches), in)
	o.ObserveFloat64(g.lockAge, age(l.OldestLock), in)
	for typ, b := range waits {
		of := metric.WithAttributes(attribute.String(attrSystem, system), attribute.String(attrDestination, typ))
		o.ObserveInt64(g.queued, b.Queued, of)
		o.ObserveInt64(g.waiting, int64(b.Servers), of)
		o.ObserveInt64(g.overdue, int64(b.Overdue), of)
		o.ObserveFloat64(g.oldest, age(b.Oldest), of)
	}
}

// look reads what waits for some types, unless that was done a short while ago. A database that does not answer has what it had
// for that while, too.
func (w *watched) look(ctx context.Context, types []string, every time.Duration) error {
	if time.Since(w.at) < every {
		return nil
	}
	w.at = time.Now()
	ctx, cancel := context.WithTimeout(ctx, maxLook)
	defer cancel()
	found := map[string]dserver.Backlog{}
	for _, typ := range types[:min(len(types), maxKinds)] {
		b, err := dserver.BacklogOf(ctx, w.db, typ)
		if err != nil {
			return err
		}
		found[typ] = b
	}
	w.found = found
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// age is how long ago a moment is; 0 of none.
func age(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return max(0, time.Since(at)).Seconds()
}

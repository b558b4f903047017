package telemetry

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Producer tells the histograms of a Telemetry to a reader of OpenTelemetry's SDK, which is made with it:
//
//	p := telemetry.NewProducer()
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(p))
//	t, err := telemetry.New(telemetry.Options{Meter: metric.NewMeterProvider(metric.WithReader(reader)), Producer: p})
//
// A measurement is two additions in memory then, a tenth of what one costs through a Meter, and there are four of each call.
// What it tells is cumulative, whatever the reader prefers, without a minimum, a maximum and exemplars, and views do not
// change it. It is safe for concurrent use.
type Producer struct {
	mu  sync.Mutex
	all []*Telemetry
}

// NewProducer makes a Producer that tells nothing until it is given to New.
func NewProducer() *Producer { return new(Producer) }

func (p *Producer) add(t *Telemetry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, t)
}

func (p *Producer) remove(t *Telemetry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = slices.DeleteFunc(p.all, func(other *Telemetry) bool { return other == t })
}

// Produce implements the Producer of OpenTelemetry's SDK.
func (p *Producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := make([]metricdata.ScopeMetrics, len(p.all))
	for i, t := range p.all {
		told[i] = metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scope}, Metrics: t.produce(time.Now())}
	}
	return told, nil
}

// produce is the histograms as they are.
func (t *Telemetry) produce(now time.Time) (all []metricdata.Metrics) {
	points := make([][]metricdata.HistogramDataPoint[float64], len(t.histograms.all))
	t.kinds.Range(func(_, value any) bool {
		for i, some := range value.(*kind).series.all() {
			for k := range some {
				if p := some[k].point(now); p.Count > 0 {
					points[i] = append(points[i], p)
				}
			}
		}
		return true
	})
	for i, h := range t.histograms.all {
		if len(points[i]) > 0 {
			all = append(all, metricdata.Metrics{Name: h.name, Unit: h.unit, Description: h.about,
				Data: metricdata.Histogram[float64]{DataPoints: points[i], Temporality: metricdata.CumulativeTemporality}})
		}
	}
	return all
}

// histogram is one metric: numbers in a unit of their own, nanoseconds for seconds, so that adding them is exact.
type histogram struct {
	name, unit, about string
	bounds            []float64
	limits            []int64                 // the bounds as numbers
	scale             float64                 // numbers in one of the unit
	live              metric.Float64Histogram // where there is no Producer, else nil
}

// Bounds of histograms: seconds from a tenth of a millisecond to a minute, and messages up to the most of a turn.
var (
	secondBounds  = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}
	messageBounds = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
)

// series is a histogram of one set of attributes.
type series struct {
	of     *histogram
	set    attribute.Set
	as     []metric.RecordOption // the set; as a list, since that is what instruments take, and a list costs memory each time
	since  time.Time
	counts []atomic.Uint64 // a bucket for each limit, and one for what is above
	sum    atomic.Int64
}

func (s *series) make(of *histogram, set attribute.Set) {
	s.of, s.set, s.as, s.since = of, set, []metric.RecordOption{metric.WithAttributeSet(set)}, time.Now()
	s.counts = make([]atomic.Uint64, len(of.limits)+1)
}

func (s *series) add(n int64) {
	h := s.of
	if h.live != nil {
		h.live.Record(context.Background(), float64(n)/h.scale, s.as...)
		return
	}
	bucket := 0
	for bucket < len(h.limits) && n > h.limits[bucket] {
		bucket++
	}
	s.counts[bucket].Add(1)
	s.sum.Add(n)
}

// point is what was added so far.
func (s *series) point(now time.Time) metricdata.HistogramDataPoint[float64] {
	p := metricdata.HistogramDataPoint[float64]{Attributes: s.set, StartTime: s.since, Time: now, Bounds: s.of.bounds,
		BucketCounts: make([]uint64, len(s.counts)), Sum: float64(s.sum.Load()) / s.of.scale}
	for i := range s.counts {
		p.BucketCounts[i] = s.counts[i].Load()
		p.Count += p.BucketCounts[i]
	}
	return p
}

// histograms are those of a Telemetry.
type histograms struct {
	sending, handling, latency, turns, batches, commits *histogram

	all []*histogram // in this order
}

func newHistograms(m *maker, isLive bool) (h histograms) {
	seconds := func(name, about string) *histogram {
		return h.add(m, isLive, &histogram{name: name, unit: "s", about: about, bounds: secondBounds, scale: float64(time.Second)})
	}
	h.sending = seconds(nameSending, "How long sends took; those of Call until their answer.")
	h.handling = seconds(nameHandling, "How long handlers ran, the run of them that counts.")
	h.latency = seconds(nameLatency, "From the sending of a message to the commit that handled it, by two clocks, with After.")
	h.turns = seconds(nameTurns, "How long turns took, from their begin to the commit's answer.")
	h.batches = h.add(m, isLive, &histogram{name: nameBatches, unit: "{message}", about: "Messages of a turn.", bounds: messageBounds, scale: 1})
	h.commits = seconds(nameCommits, "From the end of a turn's handlers to the answer of the store.")
	return h
}

func (h *histograms) add(m *maker, isLive bool, one *histogram) *histogram {
	for _, bound := range one.bounds {
		one.limits = append(one.limits, int64(bound*one.scale))
	}
	if isLive {
		one.live = m.histogram(one)
	}
	h.all = append(h.all, one)
	return one
}

// measured is the series of one type.
type measured struct {
	sending                                    [len(verbs)]series
	handling, latency, turns, batches, commits [1]series
}

// all is in the order of histograms.
func (m *measured) all() [6][]series {
	return [...][]series{m.sending[:], m.handling[:], m.latency[:], m.turns[:], m.batches[:], m.commits[:]}
}

func (m *measured) make(h *histograms, of marks) {
	for i, some := range m.all() {
		for k := range some {
			set := of.of.set
			if h.all[i] == h.sending {
				set = of.sent[k].set
			}
			some[k].make(h.all[i], set)
		}
	}
}

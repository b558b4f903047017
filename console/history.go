package console

import (
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The charts have an hour, in steps.
const (
	chartStep  = 30 * time.Second
	chartSteps = 120
)

// series is a value in each step of the last hour: the most that was seen in it, or not a number where nobody looked.
type series struct {
	last   int64 // number of the newest step, counted since 1970
	values [chartSteps]float32
}

var gap = float32(math.NaN())

func newSeries() *series {
	s := &series{}
	for i := range s.values {
		s.values[i] = gap
	}
	return s
}

func stepOf(at time.Time) int64 { return at.UnixNano() / int64(chartStep) }

func (s *series) add(at time.Time, value float64) {
	s.forward(stepOf(at))
	p := &s.values[s.last%chartSteps]
	if v := float32(value); math.IsNaN(float64(*p)) || v > *p {
		*p = v
	}
}

// forward forgets the steps that are an hour old.
func (s *series) forward(to int64) {
	if to-s.last >= chartSteps {
		*s = *newSeries()
		s.last = to
	}
	for s.last < to {
		s.last++
		s.values[s.last%chartSteps] = gap
	}
}

// chart is a series as a drawing has it.
type chart struct {
	Line, Area string // paths of SVG
	Most       float64
	Empty      bool
}

// The size of a drawing, in its own units.
const (
	chartWidth  = 120
	chartHeight = 28
)

// draw makes paths of the last hour. A gap breaks the line.
func (s *series) draw(now time.Time) (c chart) {
	s.forward(stepOf(now))
	for _, v := range s.values {
		if v := float64(v); v > c.Most {
			c.Most = v
		}
	}
	var line, area strings.Builder
	from, to := -1, 0
	end := func() {
		if from >= 0 {
			area.WriteString("L" + strconv.Itoa(to) + " " + strconv.Itoa(chartHeight) + "L" + strconv.Itoa(from) + " " + strconv.Itoa(chartHeight) + "Z")
		}
		from = -1
	}
	c.Empty = true
	for x := range chartSteps {
		v := float64(s.values[(s.last+1+int64(x))%chartSteps])
		if math.IsNaN(v) {
			end()
			continue
		}
		c.Empty = false
		y := float64(chartHeight - 1)
		if c.Most > 0 {
			y -= v / c.Most * (chartHeight - 3)
		}
		point := strconv.Itoa(x) + " " + strconv.FormatFloat(y, 'f', 1, 64)
		if from < 0 {
			from = x
			line.WriteString("M" + point + "h.5")
			area.WriteString("M" + point)
		} else {
			line.WriteString("L" + point)
			area.WriteString("L" + point)
		}
		to = x
	}
	end()
	c.Line, c.Area = line.String(), area.String()
	return c
}

// history is the last hour of what was read, held in memory: a few kilobytes for each type, of maxTypes at most.
type history struct {
	mu                                                sync.Mutex
	queued, oldest, handled, trouble, dead, consumers *series
	types                                             map[string]*series // what waits
}

func newHistory() *history {
	return &history{
		queued: newSeries(), oldest: newSeries(), handled: newSeries(), trouble: newSeries(), dead: newSeries(), consumers: newSeries(), types: map[string]*series{},
	}
}

func (h *history) add(r *reading) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queued.add(r.at, float64(r.queued()))
	h.oldest.add(r.at, age(r.oldest(), r.at).Seconds())
	if r.handled != nil {
		h.handled.add(r.at, r.perSecond())
	}
	h.trouble.add(r.at, float64(len(r.troubles)))
	h.dead.add(r.at, float64(r.dead()))
	h.consumers.add(r.at, float64(len(r.consumers)))
	known := h.types
	h.types = make(map[string]*series, len(r.types)) // those of types that have gone are forgotten
	for _, t := range r.types {
		s := known[t.name]
		if s == nil {
			s = newSeries()
		}
		s.add(r.at, float64(t.backlog.Queued))
		h.types[t.name] = s
	}
}

// age is how long ago something was; 0 when that is not known, or by a clock that is ahead.
func age(at, now time.Time) time.Duration {
	if at.IsZero() {
		return 0
	}
	return max(now.Sub(at), 0)
}

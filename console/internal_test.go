package console

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

func TestRatesAreTheDifferencesOfBeats(t *testing.T) {
	var all rates
	began := time.Unix(1_000_000, 0)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	beat := func(process string, seconds int, n int64) dserver.Presence {
		return dserver.Presence{Process: process, Beat: at(seconds), Handled: map[string]int64{"a": n, "b": 1}}
	}
	for i, c := range []struct {
		now       int
		consumers []dserver.Presence
		a         float64 // -1: it is not known
	}{
		{0, []dserver.Presence{beat("x", 0, 100)}, -1},
		{5, []dserver.Presence{beat("x", 0, 100)}, -1},
		{10, []dserver.Presence{beat("x", 10, 150)}, 5},
		{12, []dserver.Presence{beat("x", 10, 150), beat("y", 11, 7)}, 5},
		{22, []dserver.Presence{beat("x", 20, 170), beat("y", 21, 37)}, 5},
		{32, []dserver.Presence{beat("x", 30, 20), beat("y", 31, 47)}, 1}, // a consumer of x has ended
		{33, []dserver.Presence{beat("y", 31, 47), {Process: "old", Beat: at(33)}}, 1},
		{70, []dserver.Presence{beat("y", 31, 47)}, -1}, // it is silent
		{71, nil, -1},
	} {
		got, isKnown := all.see(at(c.now), c.consumers)["a"]
		if !isKnown {
			got = -1
		}
		if got != c.a {
			t.Errorf("step %d: %v, want %v", i, got, c.a)
		}
	}
	if len(all) != 0 {
		t.Errorf("of processes that have gone are left %v", all)
	}
}

func TestAChartHasTheLastHour(t *testing.T) {
	s := newSeries()
	if c := s.draw(time.Unix(1_000_000, 0)); !c.Empty || c.Line != "" || c.Area != "" {
		t.Errorf("nothing is drawn as %+v", c)
	}
	at := time.Unix(1_000_000, 0)
	s.add(at, 5)
	s.add(at, 3) // the most of a step counts
	s.add(at.Add(chartStep), 10)
	s.add(at.Add(3*chartStep), 0) // a gap before it
	c := s.draw(at.Add(3 * chartStep))
	if c.Most != 10 || strings.Count(c.Line, "M") != 2 || !strings.HasPrefix(c.Line, "M116 14.5h.5L117 2.0M119 27.0") {
		t.Errorf("it is drawn as %+v", c)
	}
	if c := s.draw(at.Add(time.Hour + 4*chartStep)); !c.Empty {
		t.Errorf("after an hour there is %+v", c)
	}
	s.add(at.Add(24*time.Hour), 1)
	if c := s.draw(at.Add(24 * time.Hour)); c.Most != 1 || strings.Count(c.Line, "M") != 1 {
		t.Errorf("after a day there is %+v", c)
	}
	for i := range 3 * chartSteps {
		s.add(at.Add(25*time.Hour+time.Duration(i)*chartStep), math.Abs(float64(i)))
	}
	if c := s.draw(at.Add(25*time.Hour + 3*chartSteps*chartStep)); strings.Count(c.Line, "L") != chartSteps-2 {
		t.Errorf("a full chart has %d lines", strings.Count(c.Line, "L"))
	}
}

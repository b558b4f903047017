package main

import (
	"strings"
	"testing"
	"time"
)

func TestEveryContenderKeepsCount(t *testing.T) {
	for _, e := range []entry{channels, single, group, durable, remote, followed(2)} {
		for _, casts := range []bool{false, true} {
			l := load{name: "test", callers: 8, counters: 3, casts: casts, subject: e, baseline: channels}
			samples, err := l.measure(t.Context(), t.TempDir(), 2, 10*time.Millisecond)
			if err != nil {
				t.Fatalf("%s: %v", e.name, err)
			}
			for _, s := range samples[0] {
				if s.ops == 0 || s.times.total != s.ops || s.rate() <= 0 {
					t.Errorf("%s: %d calls, %d times, %v a second", e.name, s.ops, s.times.total, s.rate())
				}
			}
		}
	}
}

func TestALostIncrementEndsTheMeasurement(t *testing.T) {
	l := load{name: "test", callers: 2, counters: 1, subject: channels, baseline: channels}
	c, err := channels.open(t.Context(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	one := int64(1)
	r := &runner{load: l, contender: c, added: &one}
	if _, err := r.run(t.Context(), time.Millisecond); err == nil || !strings.Contains(err.Error(), "acknowledged") {
		t.Fatalf("got %v", err)
	}
}

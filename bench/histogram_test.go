package main

import (
	"testing"
	"time"
)

func TestBucketsKeepAValueToWithinTwoPercent(t *testing.T) {
	for v := uint64(1); v < 1<<40; v += 1 + v/97 {
		got := middle(bucket(v))
		if off := max(got, v) - min(got, v); off*50 > v {
			t.Fatalf("%d came back as %d", v, got)
		}
	}
}

func TestPercentilesOfAKnownSeries(t *testing.T) {
	var h, other histogram
	for i := 1; i <= 1000; i++ {
		if i%2 == 0 {
			h.record(time.Duration(i) * time.Microsecond)
		} else {
			other.record(time.Duration(i) * time.Microsecond)
		}
	}
	h.add(&other)
	for p, want := range map[float64]time.Duration{50: 500, 99: 990, 100: 1000} {
		got := h.percentile(p)
		if want *= time.Microsecond; got < want*98/100 || got > want*102/100 {
			t.Errorf("p%v is %v, want %v", p, got, want)
		}
	}
	if got := new(histogram).percentile(50); got != 0 {
		t.Errorf("p50 of nothing is %v", got)
	}
}

package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestEveryContenderKeepsCount(t *testing.T) {
	for _, e := range []entry{channels, single, group, durable, remote, followed(2), rows, singleRows} {
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

// fellow counts when it begins and ends.
type fellow struct{ begun, ended int }

func (f *fellow) begin(context.Context)  { f.begun++ }
func (f *fellow) end() error             { f.ended++; return nil }
func (f *fellow) others() (usage, error) { return usage{CPU: time.Duration(f.ended) * time.Hour}, nil }

// What runs beside the subject's counters runs in the rounds of its entry alone, and what it uses counts there.
func TestACompanionRunsBesideTheSubjectWhileItIsMeasured(t *testing.T) {
	var f fellow
	opened := 0
	l := load{
		name: "test", callers: 2, counters: 3,
		subject: entry{name: "subject", open: func(ctx context.Context, dir string, n int) (contender, error) {
			opened++
			return channels.open(ctx, dir, n)
		}},
		baseline: entry{name: "alone"},
		others:   []entry{{name: "beside", start: func(context.Context, string) (companion, error) { return &f, nil }}},
	}
	const rounds = 4
	samples, err := l.measure(t.Context(), t.TempDir(), rounds, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if opened != 1 || f.begun != rounds+1 || f.ended != f.begun { // once to warm up
		t.Errorf("opened %d times, begun %d, ended %d", opened, f.begun, f.ended)
	}
	for i, all := range samples {
		for _, s := range all {
			if beside := i == 2; len(all) != rounds || s.ops == 0 || beside != (s.used.CPU >= time.Hour) {
				t.Errorf("entry %d: %d rounds, %d calls, %v", i, len(all), s.ops, s.used.CPU)
			}
		}
	}
}

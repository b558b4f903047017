package occ

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A transaction whose context has ended is not handed to a leader, who could be quicker than its caller.
func TestWhatEndedBeforeIsNotCommitted(t *testing.T) {
	t.Parallel()
	began := time.Now()
	clock := func() int64 { return int64(time.Since(began)) }
	lead := func(context.Context, *Tx) int { t.Error("it was picked"); return 0 }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, q := range map[string]*Queue{"near": NewQueue(lead, clock), "remote": NewRemoteQueue(lead, clock, time.Second)} {
		if err := q.Submit(&Tx{ctx: ctx}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if q.IsLeading() || q.Waiting() > 0 {
			t.Errorf("%s: it is in the queue", name)
		}
	}
}

// A leader of few waits for as many as there were last, but not for long.
func TestRegather(t *testing.T) {
	var now int64
	q := NewQueue(nil, func() int64 { now += gatherMax / 10; return now })
	q.queue, q.served, q.began = []*Tx{{}, {}}, 2, -gatherShare*gatherMax
	if q.Regather(); now > gatherMax/10 {
		t.Errorf("it waits %d ns for those who are there", now)
	}
	q.served, now = 3, 0
	if q.Regather(); now < gatherMax || now > 2*gatherMax {
		t.Errorf("it waits %d ns for those who do not come", now)
	}
	q.began, now = -regatherWithin, 0
	if q.Regather(); now > gatherMax/10 {
		t.Errorf("it waits %d ns when all have been away for long", now)
	}
	q.began = -gatherShare * gatherMax
	go func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.queue = append(q.queue, &Tx{})
	}()
	q.clock = func() int64 { return 0 } // no time passes
	q.Regather()
}

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

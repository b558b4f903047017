package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend/open"
	"github.com/dserver-go/dserver/dserver"
)

// The consumer of a busy server ends, killed or in order, while others stand by. The gap is the longest time without an answer
// of those that the end is in, or that begin just after it.
const (
	takeoverConsumers = 3
	takeoverCallers   = 8
	takeoverSettles   = 5 * time.Second        // until all consumers know of each other
	takeoverLooks     = 300 * time.Millisecond // to find the one that works
	takeoverWatched   = time.Second            // after its end, so that a gap comes to its own end
	takeoverNear      = 100 * time.Millisecond // after its end: what begins later, the machine does without it, too

	maxKillP50 = 150 * time.Millisecond
	maxKillP99 = 500 * time.Millisecond
	maxStopP99 = 20 * time.Millisecond
)

var takeover = section{"takeover", func(ctx context.Context, dir string, o options, w io.Writer) ([]promise, error) {
	own, err := os.MkdirTemp(dir, "takeover")
	if err != nil {
		return nil, err
	}
	t := &takeovers{name: file(own)}
	defer t.end()
	if err := t.begin(ctx); err != nil {
		return nil, err
	}
	stopped, err := t.rounds(ctx, o.runs, (*child).end) // first: killed ones leave records that are looked at for a time
	if err != nil {
		return nil, err
	}
	killed, err := t.rounds(ctx, o.runs, (*child).kill)
	if err != nil {
		return nil, err
	}
	const layout = "  %-46s %12s %12s %12s\n"
	fmt.Fprintf(w, "\nthe consumer of a busy server ends, %d others stand by, %d callers: the longest time without an answer, %d times\n",
		takeoverConsumers-1, takeoverCallers, o.runs)
	fmt.Fprintf(w, layout, "", "p50 ms", "p99 ms", "longest ms")
	fmt.Fprintf(w, layout, "killed", inMillis(quantile(killed, 0.5)), inMillis(quantile(killed, 0.99)), inMillis(killed[len(killed)-1]))
	fmt.Fprintf(w, layout, "stopped in order", inMillis(quantile(stopped, 0.5)), inMillis(quantile(stopped, 0.99)), inMillis(stopped[len(stopped)-1]))
	return []promise{
		under("the busy consumer is killed, p50 of the gap", quantile(killed, 0.5), maxKillP50),
		under("the busy consumer is killed, p99 of the gap", quantile(killed, 0.99), maxKillP99),
		under("the busy consumer stops, p99 of the gap", quantile(stopped, 0.99), maxStopP99),
	}, nil
}}

func under(what string, got, limit time.Duration) promise {
	return promise{what: what, want: "under " + inMillis(limit) + " ms", got: inMillis(got) + " ms", kept: got < limit}
}

func inMillis(d time.Duration) string {
	return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond))
}

// quantile is of durations in order.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// takeovers is consumers in processes of their own, and callers in this one.
type takeovers struct {
	name     string
	children []*child
	cancel   context.CancelCauseFunc
	calling  sync.WaitGroup
	close    func() error

	mu      sync.Mutex
	answers []time.Time
}

func (t *takeovers) begin(ctx context.Context) error {
	for range takeoverConsumers {
		c, err := startChild(ctx, roleConsumer, t.name)
		if err != nil {
			return err
		}
		t.children = append(t.children, c)
	}
	db, err := open.Database(t.name)
	if err != nil {
		return err
	}
	t.close = db.Close
	calls, cancel := context.WithCancelCause(ctx)
	t.cancel = cancel
	busy := counters.At(db, "busy")
	for range takeoverCallers {
		t.calling.Go(func() {
			for calls.Err() == nil {
				if _, err := dserver.Call(calls, busy, increment{}); err != nil {
					cancel(err)
					return
				}
				t.mu.Lock()
				t.answers = append(t.answers, time.Now())
				t.mu.Unlock()
			}
		})
	}
	return nil
}

func (t *takeovers) end() {
	if t.cancel != nil {
		t.cancel(nil)
	}
	t.calling.Wait()
	if t.close != nil {
		_ = t.close()
	}
	for _, c := range t.children {
		_ = c.end()
	}
}

// rounds ends the consumer that works, and starts another one, so many times. It returns the gaps in order.
func (t *takeovers) rounds(ctx context.Context, n int, end func(*child) error) (gaps []time.Duration, err error) {
	for range n {
		if err := wait(ctx, takeoverSettles); err != nil {
			return nil, err
		}
		i, err := t.busiest(ctx)
		if err != nil {
			return nil, err
		}
		ended := make(chan error, 1)
		began := time.Now()
		go func(c *child) { ended <- end(c) }(t.children[i])
		if err := wait(ctx, takeoverWatched); err != nil {
			return nil, err
		}
		gaps = append(gaps, t.gap(began))
		if err := <-ended; err != nil {
			return nil, err
		}
		if t.children[i], err = startChild(ctx, roleConsumer, t.name); err != nil {
			return nil, err
		}
	}
	slices.Sort(gaps)
	return gaps, nil
}

// wait lets time pass.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// busiest is the consumer that works: the one that uses the processor most.
func (t *takeovers) busiest(ctx context.Context) (busiest int, err error) {
	before := make([]usage, len(t.children))
	for i, c := range t.children {
		if before[i], err = c.use(); err != nil {
			return 0, err
		}
	}
	if err := wait(ctx, takeoverLooks); err != nil {
		return 0, err
	}
	var most time.Duration
	for i, c := range t.children {
		u, err := c.use()
		if err != nil {
			return 0, err
		}
		if used := u.minus(before[i]).CPU; used > most {
			busiest, most = i, used
		}
	}
	return busiest, nil
}

// gap is the longest time without an answer at a moment, or just after it.
func (t *takeovers) gap(ended time.Time) (longest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := ended
	for _, at := range append(t.answers, time.Now()) {
		if at.After(ended) && last.Before(ended.Add(takeoverNear)) {
			longest = max(longest, at.Sub(last))
		}
		if at.After(ended) {
			last = at
		}
	}
	t.answers = nil
	return longest
}

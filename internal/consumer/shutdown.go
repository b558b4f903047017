package consumer

import (
	"context"
	"time"
)

// The end of Run: nothing more is let in, the turns in hand come to their ends, and the others are told that this consumer
// did not vanish.
const (
	// defaultGrace is how long turns in hand may take when Run ends, before their commits are given up; lastGrace is how
	// long their ends may take after that.
	defaultGrace = 10 * time.Second
	lastGrace    = 2 * time.Second

	// workShare is the part of the grace that is for the release, at most maxWorkEnds: work may go on until then.
	workShare   = 10
	maxWorkEnds = time.Second
)

// workEnds is how long before the end of the grace the context of work ends.
func (c *consumer) workEnds() time.Duration { return min(c.grace/workShare, maxWorkEnds) }

// lastMoment is how long work may take to return when its context has ended so, and then its release for its turn.
func (c *consumer) lastMoment() time.Duration { return c.workEnds() / 2 }

// close gives back what no turn has taken, and lets nothing more in.
func (c *consumer) close() {
	defer c.locks.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for _, s := range c.takeWaiting() {
		if s.scheduled = s.letGo(); s.scheduled {
			c.enqueue(s)
		}
	}
	c.idle = 0
	c.ready.Broadcast() // they end, after what is left
}

// finish waits for the turns in hand. Its error names what did not come to an end (stray.go).
func (c *consumer) finish() error {
	ended := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(ended)
	}()
	if isClosedWithin(ended, c.grace) {
		return nil
	}
	c.abort(context.Canceled)
	if isClosedWithin(ended, lastGrace) {
		return nil
	}
	return c.leaveBehind()
}

func isClosedWithin(ended <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ended:
		return true
	case <-timer.C:
		return false
	}
}

// farewell takes back what others would take for the traces of a consumer that vanished. It has a time of its own, as
// that of the commits may be over.
func (c *consumer) farewell() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Base), lastGrace)
	defer cancel()
	c.locks.Farewell(ctx)
	c.disclaim(ctx)
	c.resign(ctx)
}

// resign tells the other consumers that this one ended in order, and handles nothing any more.
func (c *consumer) resign(ctx context.Context) {
	if err := c.Process.Introduce(ctx); err != nil && !isFatal(err) {
		c.log.Warn().Err(err).Msg("the consumer's end could not be recorded; others will be careful for a while")
	}
}

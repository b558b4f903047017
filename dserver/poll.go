package dserver

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// On a store across a network a watch may fire long after its commit, FoundationDB's some ten milliseconds, and a call to
// another process waits for two of them. So where something is likely to come soon, it is looked for instead:
//
//  1. A process whose call is young looks into its mailbox.
//  2. A consumer that has just taken the last message of a server looks whether its sender, who may have the answer by
//     now, sends another one.
//
// Looks become rarer the longer they find nothing, and end in a watch: what is idle costs nothing.
const (
	pollFirst = time.Millisecond / 2  // before the first look, and between those that follow soon
	pollShare = 4                     // later, a look after this part of the time that has passed without anything
	pollMax   = 50 * time.Millisecond // after which it is left to the watch
	pollGap   = time.Millisecond / 4  // between two looks of a consumer, at whatever servers

	// slowLinger is linger where looks find the next message: the time that its sender takes to get the answer.
	slowLinger = 25 * time.Millisecond
)

// isSlow reports whether looks are worth their price on a store.
func isSlow(db backend.Database) bool {
	w, ok := db.(backend.SlowWatcher)
	return ok && w.WatchDelay() > 2*pollFirst
}

// nextLook is how long to wait before the next look, when nothing has come for a while.
func nextLook(waited time.Duration) time.Duration { return max(pollFirst, waited/pollShare) }

// poll looks into the mailbox until call has its answer, or nothing has come for long.
func (p *process) poll(ctx context.Context, call *pendingCall) error {
	timer := time.NewTimer(pollFirst)
	defer timer.Stop()
	for last := time.Now(); ; {
		select {
		case <-call.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		came, err := p.fetch(ctx)
		if err != nil {
			return err
		}
		select {
		case <-p.young:
			came++
		default:
		}
		if came > 0 {
			last = time.Now()
		}
		waited := time.Since(last)
		if waited > pollMax {
			return nil
		}
		timer.Reset(nextLook(waited))
	}
}

// linger is when to look again at a server whose queue was emptied a while ago; not above 0 when it has been left alone for long
// enough. However many servers there are, they are looked at once a pollGap, and what has no place in that waits.
func (c *consumer) linger(waited time.Duration) time.Duration {
	if c.process.young == nil {
		return linger - waited
	}
	rest := slowLinger - waited
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	at := now.Add(nextLook(waited))
	if next := c.lastLook.Add(pollGap); at.Before(next) {
		at = next
	}
	if after := at.Sub(now); after < rest {
		c.lastLook = at
		return after
	}
	return rest
}

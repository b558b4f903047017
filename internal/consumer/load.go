package consumer

import "github.com/dserver-go/dserver/internal/mailbox"

// Load is part of mailbox.Member.
func (c *consumer) Load() (l mailbox.Load) {
	c.mu.Lock()
	l.Turns, l.Waiting, l.CacheBytes = c.workers-c.idle, c.waiting(), c.cache.bytes
	for _, t := range c.types {
		l.Servers += len(t.servers)
	}
	c.mu.Unlock()
	l.Work, l.OldestLock = c.locks.Held(), c.locks.Oldest()
	l.Watches = int(c.watches.Load())
	return l
}

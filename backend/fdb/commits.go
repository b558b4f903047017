//go:build fdb

package fdb

import "sync"

// commits counts the commits that were sent and whose outcome is not known yet. The zero value is open.
type commits struct {
	mu     sync.Mutex
	count  int
	closed bool
	idle   chan struct{} // closed when closed and count is 0
}

// enter reports false after close.
func (c *commits) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.count++
	return true
}

func (c *commits) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.closed && c.count == 0 {
		close(c.idle)
	}
}

// close refuses what comes and returns what is closed when the outcome of all that was there is known.
func (c *commits) close() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.idle = true, make(chan struct{})
	if c.count == 0 {
		close(c.idle)
	}
	return c.idle
}

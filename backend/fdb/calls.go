//go:build fdb

package fdb

import "sync"

// calls counts what Close waits for. The zero value is open.
type calls struct {
	mu     sync.Mutex
	count  int
	closed bool
	idle   chan struct{} // closed when closed and count is 0
}

// enter reports false after close.
func (c *calls) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.count++
	return true
}

func (c *calls) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.closed && c.count == 0 {
		close(c.idle)
	}
}

// close refuses what comes and returns what is closed when all that was there has left.
func (c *calls) close() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.idle = true, make(chan struct{})
	if c.count == 0 {
		close(c.idle)
	}
	return c.idle
}

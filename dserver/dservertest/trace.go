package dservertest

import (
	"strings"
	"sync"
)

// trace is the steps of an order, and what its consumer logged in them.
type trace struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (t *trace) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
}

// Write adds a line of the log.
func (t *trace) Write(line []byte) (int, error) {
	t.add("\t" + strings.TrimSpace(string(line)))
	return len(line), nil
}

func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n\t")
}

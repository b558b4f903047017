package turn

import (
	"context"
	"sync"
	"time"
)

// limited is a handler's context: that of its turn, with the turn's time limit. A timer is made when somebody waits for its
// end: most look for values alone, and each handler has one of these where there are interceptors.
type limited struct {
	context.Context // of the turn
	until           time.Time

	mu     sync.Mutex
	timed  context.Context // nil: nobody has waited
	cancel context.CancelFunc
	ended  bool
}

// Deadline is part of context.Context.
func (l *limited) Deadline() (time.Time, bool) {
	if until, ok := l.Context.Deadline(); ok && until.Before(l.until) {
		return until, true
	}
	return l.until, true
}

// Done is part of context.Context.
func (l *limited) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timed == nil {
		l.timed, l.cancel = context.WithDeadline(l.Context, l.until)
		if l.ended {
			l.cancel()
		}
	}
	return l.timed.Done()
}

// Err is part of context.Context.
func (l *limited) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.timed != nil:
		return l.timed.Err()
	case l.Context.Err() != nil:
		return l.Context.Err()
	case l.ended:
		return context.Canceled
	case !time.Now().Before(l.until):
		return context.DeadlineExceeded
	}
	return nil
}

// end cancels it.
func (l *limited) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.cancel != nil {
		l.cancel()
	}
}

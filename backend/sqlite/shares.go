package sqlite

import (
	"context"
	"sync"
	"time"
)

// Sharing the lock with other processes. SQLite's locks know no queue: who takes the lock again at once starves all others. So
// for as long as another process was seen to commit within a second, who has committed a group leaves the lock alone until
// another has committed, or sharedPause is over. A transaction that begins meanwhile waits before it reads, not when it has
// run: so it sees what the other commits, as a consumer does the messages that came while its last turn was committed.
//
// Who waits for the lock itself tries again with each notice of a commit ([writer.begin]).
type shares struct {
	mu      sync.Mutex
	since   int64         // when the last group of ours let go of the lock, by the log's clock
	another chan struct{} // closed when another process has committed since; nil when one has
	pause   time.Duration // sharedPause, but in tests
}

const sharedPause = time.Millisecond

// release notes that a group of ours has let go of the lock.
func (s *shares) release(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = now
	if s.another == nil {
		s.another = make(chan struct{})
	}
}

// foreign notes a commit of another process.
func (s *shares) foreign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.another != nil {
		close(s.another)
		s.another = nil
	}
}

// rest is for how long others have the lock, and what ends that before; nil: they do not.
func (s *shares) rest(now int64) (rest time.Duration, another <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rest = s.pause - time.Duration(now-s.since); rest <= 0 || s.another == nil {
		return 0, nil
	}
	return rest, s.another
}

// awaitShare waits until it is this process's turn again, before a transaction begins.
func (w *writer) awaitShare(ctx context.Context) error {
	if !w.db.log.IsShared() {
		return nil
	}
	if rest, another := w.shares.rest(w.db.log.Clock()); another != nil {
		return w.db.await(ctx, rest, another)
	}
	return nil
}

// leaveToOthers waits for that before a group, which need not have waited when it began, and lets it grow.
func (w *writer) leaveToOthers(ctx context.Context) error {
	if !w.db.log.IsShared() {
		return w.db.pause(ctx, 0)
	}
	if row, err := w.row(); err == nil && row != w.reserved { // an error is met again
		w.shares.foreign() // whom nobody looked for
	}
	if err := w.awaitShare(ctx); err != nil {
		return err
	}
	w.Regather()
	return w.db.pause(ctx, 0)
}

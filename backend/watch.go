package backend

import "time"

// SlowWatcher is a Database whose watches fire late, as those of a store across a network may. Who expects a commit soon
// does better to look for it than to wait for a watch.
type SlowWatcher interface {
	Database

	// WatchDelay is how long after a commit a watch fires, about.
	WatchDelay() time.Duration
}

// Watch is a hint to look again. Nothing is correct because of a watch: who waits for one also waits for a timer.
type Watch interface {
	// Done is closed after the key changed, or when the store can no longer tell. It is not closed by Cancel.
	Done() <-chan struct{}

	// Cancel gives the watch up. It may be called at any time, more than once, and after the watch fired.
	Cancel()
}

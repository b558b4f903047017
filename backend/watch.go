package backend

// Watch is a hint to look again. Nothing is correct because of a watch: who waits for one also waits for a timer.
type Watch interface {
	// Done is closed after the key changed, or when the store can no longer tell. It is not closed by Cancel.
	Done() <-chan struct{}

	// Cancel gives the watch up. It may be called at any time, more than once, and after the watch fired.
	Cancel()
}

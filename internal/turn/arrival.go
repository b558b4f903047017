package turn

import "github.com/dserver-go/dserver/internal/tenant"

// Arrival is a message whose sender is in the consumer's process, and which may join a turn without being written to the
// queue.
type Arrival struct {
	Message  tenant.Message
	Head     tenant.Headers
	Sent     int64 // as in its envelope
	Call     bool
	Info     bool         // for HandleInfo
	Released *Release     // locked work that has ended
	Done     chan Outcome // has room for one
}

// Outcome is what a turn did with an arrival.
type Outcome struct {
	Declined bool // nothing was done: push it to the queue
	Reply    []byte
	Err      error // *tenant.Error, or of the store
}

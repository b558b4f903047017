package tenant

import (
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Attempts is the record of the queue's head when it faulted. It holds the message's stamp, so that it is never taken
// for another message's, and the back-off as a duration, which each consumer waits by its own clock from first sight:
// no two clocks have to agree. Its field names are part of the stored format.
type Attempts struct {
	Stamp [12]byte      `cbor:"stamp"`
	Count int           `cbor:"count"`
	Wait  time.Duration `cbor:"wait"`            // nanoseconds
	Halts bool          `cbor:"halts,omitempty"` // the server stops until an operator acts
}

// IsOf reports whether they are those of an item.
func (a Attempts) IsOf(item queue.Item) bool { return a.Stamp == item.Stamp }

// Of is the count for an item.
func (a Attempts) Of(item queue.Item) int {
	if !a.IsOf(item) {
		return 0
	}
	return a.Count
}

// SetAttempts writes the record of a lane, and why the last attempt failed.
func (t Keys) SetAttempts(tx backend.Tx, lane queue.Lane, a Attempts, why Failure) {
	tx.Set(t.Attempts(lane), EncodeRecord(a))
	tx.Set(t.failure(int64(lane)), EncodeRecord(why))
	if a.Halts {
		t.setTrouble(tx)
	}
}

// ReadAttempts reads the record of a lane; in a transaction a change is a conflict.
func (t Keys) ReadAttempts(tx backend.Reader, lane queue.Lane) (a Attempts, err error) {
	value, err := tx.Get(t.Attempts(lane)).Get()
	if err == nil && value != nil {
		err = DecodeRecord(value, &a)
	}
	return a, err
}

package dserver

import (
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/queue"
)

// letter is a dead letter as it is stored: below the tenant's key, by the stamp that the message had on the queue. A
// message that was never on the queue gets the stamp of the commit that set it aside. Its field names are part of the
// stored format.
type letter struct {
	Item     []byte `cbor:"item"` // the message as it was on the queue, readable or not
	Err      Error  `cbor:"error"`
	Stack    string `cbor:"stack,omitempty"`
	Attempts int    `cbor:"attempts"`
	Since    int64  `cbor:"since"` // Unix milliseconds
}

func newLetter(r result) letter {
	l := letter{Err: *r.err, Attempts: 1, Since: time.Now().UnixMilli()}
	if r.item != nil {
		l.Item = r.item.Body
		return l
	}
	l.Item = encodeRecord(newEnvelope(r.arrival.message, ""))
	return l
}

// setAside writes the dead letter of a cast that its handler refused. A call's error goes to its caller instead.
func (t *turn) setAside(tx backend.Tx, r result) error {
	isCall := r.envelope.From != "" || r.arrival != nil && r.arrival.call
	if r.err == nil || isCall {
		return nil
	}
	return t.keys.writeLetter(tx, r.item, newLetter(r))
}

// writeLetter stores a letter and counts it.
func (t tenant) writeLetter(tx backend.Tx, item *queue.Item, l letter) error {
	rows, err := chunk.Split(encodeRecord(l))
	if err != nil {
		return err
	}
	tx.Add(t.dead(), 1)
	if item == nil { // a local arrival is small: one row
		tx.Append(t.dead(), rows[0])
		return nil
	}
	key := t.dead().Stamp(item.Stamp)
	tx.Set(key, rows[0])
	for i, row := range rows[1:] {
		tx.Set(key.Int(int64(i+1)), row)
	}
	return nil
}

package tenant

import (
	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Importer is who has paused a server that is being imported.
const Importer = "dserver import"

// Importing is where it stands that a server is being imported: the stamp of the commit that began, or went on.
func (t Keys) Importing() backend.Key { return t.Key.Str(KeyImport) }

// What follows writes what an export has of a server. Rows in the index of what is due are set anew.

// PutTimer writes a timer.
func (t Keys) PutTimer(tx backend.Tx, ref Ref, name string, record []byte) error {
	var r TimerRecord
	if err := DecodeRecord(record, &r); err != nil {
		return err
	}
	SetDue(tx, ref, Due{At: r.At, Kind: dueTimer, Name: name, Set: r.Set})
	return SetLarge(tx, t.timer(name), record)
}

// PutOnce writes the record of an idempotency key.
func (t Keys) PutOnce(tx backend.Tx, ref Ref, key string, record []byte) error {
	var r OnceRecord
	if err := DecodeRecord(record, &r); err != nil {
		return err
	}
	SetDue(tx, ref, Due{At: r.Until, Kind: DueOnce, Name: key})
	return SetLarge(tx, t.Once(key), record)
}

// PutDelayed writes messages that were sent with After.
func (t Keys) PutDelayed(tx backend.Tx, ref Ref, word string, d Delayed) error {
	if d.At == 0 { // an older version has not kept it
		d.At = dueIn(0)
	}
	SetDue(tx, ref, Due{At: d.At, Kind: DueMessage, Name: word})
	tx.Stamp(t.Sent(word))
	return SetLarge(tx, t.Delayed(word), EncodeRecord(d))
}

// WithoutCaller is an item of a queue whose caller will not be told: it waits for the answer of another store.
func WithoutCaller(item []byte) []byte {
	env, err := DecodeEnvelope(item)
	if err != nil || env.From == "" {
		return item
	}
	env.From = ""
	return env.Encode()
}

// LaneOf is the lane of a number that was stored.
func LaneOf(n int) queue.Lane {
	if n == int(queue.Priority) {
		return queue.Priority
	}
	return queue.Normal
}

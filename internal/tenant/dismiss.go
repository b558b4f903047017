package tenant

import (
	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Dismissal is what has to be written when messages are removed unhandled.
type Dismissal struct {
	out       Outbox
	Envelopes []Envelope
	why       *Error
}

// Dismiss prepares to tell the callers of messages that are removed unhandled. It only reads.
func Dismiss(tx backend.Reader, items []queue.Item, why *Error) (Dismissal, error) {
	return dismissTo(tx, items, why, nil)
}

// dismissTo is Dismiss where isThere knows of processes that have a record.
func dismissTo(tx backend.Reader, items []queue.Item, why *Error, isThere func(process string) bool) (Dismissal, error) {
	d := Dismissal{why: why}
	for _, item := range items {
		_, env := Readable(item.Body)
		d.Envelopes = append(d.Envelopes, env)
		d.out.Add("", Conclusion{Envelope: env, Err: why}.Answers())
	}
	return d, d.out.DropGone(tx, isThere)
}

// Write tells them, also those that wait for the outcome of an idempotency key. A timer whose message is removed is
// stopped.
func (d Dismissal) Write(tx backend.Tx, keys Keys) error {
	var onces OnceReads
	for _, env := range d.Envelopes {
		onces.Start(tx, keys, env)
	}
	for _, env := range d.Envelopes {
		if err := keys.StopTimer(tx, env); err != nil {
			return err
		}
		if err := onces.Conclude(tx, keys, Conclusion{Envelope: env, Err: d.why}); err != nil {
			return err
		}
	}
	return d.out.Write(tx)
}

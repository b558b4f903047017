package dserver

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Delayed is what was sent with After and is not due yet: one message, or those of a CastAll.
type Delayed struct {
	ID       string    // names it until it is due
	Due      time.Time // when it is put on the queue; zero when an older version sent it
	Priority bool
	Call     bool      // somebody waits for the answer
	Sent     time.Time // by the sender's clock
	Messages []Message // without a Name where one cannot be read: then Body is all that is stored
}

func delayedOf(d delayedFound) Delayed {
	found := Delayed{ID: d.word, Priority: d.record.Lane == int(queue.Priority)}
	if d.record.At != 0 {
		found.Due = time.UnixMilli(d.record.At)
	}
	for _, body := range d.record.Items {
		q := queuedOf(queue.Item{Body: body})
		found.Messages = append(found.Messages, q.Message)
		found.Call, found.Sent = found.Call || q.Call, q.Sent
	}
	return found
}

// Delayed yields what was sent with After and is not due yet, in no order. An error ends it. It reads page by page, so the
// loop may take its time; what comes or goes meanwhile may be missed.
func (s *DServer[S]) Delayed(ctx context.Context) iter.Seq2[Delayed, error] {
	return func(yield func(Delayed, error) bool) {
		if err := s.check(ctx, "Delayed"); err != nil {
			yield(Delayed{}, err)
			return
		}
		for page := (delayedPage{rest: tenantOf(s.Ref()).key.Str(keyLater).Below()}); !page.last; {
			var err error
			if page, err = s.delayedPage(ctx, page.rest); err != nil {
				yield(Delayed{}, err)
				return
			}
			for _, d := range page.found {
				if !yield(delayedOf(d), nil) {
					return
				}
			}
		}
	}
}

// delayedPage reads the first that are alive.
func (h handle) delayedPage(ctx context.Context, rest backend.Range) (page delayedPage, err error) {
	err = h.read(ctx, "read what is delayed", func(tx backend.ReadTx, keys tenant) error {
		killed, err := keys.killedAt(tx)
		if err != nil {
			return err
		}
		if page, err = keys.readDelayed(tx, rest, true); err != nil {
			return err
		}
		page, err = page.of(tx, keys, killed, true)
		return err
	})
	return page, err
}

// WithdrawDelayed removes what was sent with After, by its ID. The caller that waits for it, if any, gets ErrWithdrawn,
// in the same commit. It is ErrNotFound when it does not wait for its time any more: then it is on the queue, was handled
// or is gone. Either WithdrawDelayed takes it or the consumer that queues it, never both.
func (s *DServer[S]) WithdrawDelayed(ctx context.Context, id string) error {
	ref := s.Ref()
	return s.change(ctx, "WithdrawDelayed", func(tx backend.Tx, keys tenant) error {
		d, err := keys.findDelayed(tx, id)
		if err != nil {
			return err
		}
		answers, err := dismiss(tx, delayedPage{found: []delayedFound{d}}.all(), ErrWithdrawn)
		if err != nil {
			return err
		}
		keys.clearDelayed(tx, id)
		if d.record.At != 0 { // else its row finds nothing when its time comes
			clearDue(tx, ref, due{At: d.record.At, Kind: dueMessage, Name: id})
		}
		return answers.write(tx, keys)
	})
}

// findDelayed reads what waits for its time. In a transaction its disappearance is a conflict.
func (t tenant) findDelayed(tx backend.Reader, id string) (delayedFound, error) {
	d := delayedFound{word: id}
	killed, err := t.killedAt(tx)
	if err != nil {
		return d, err
	}
	value, err := readLarge(tx, t.delayed(id)).get()
	if err != nil {
		return d, err
	}
	alive, err := isAfter(tx.Get(t.sent(id)), killed)
	switch {
	case err != nil:
		return d, err
	case value == nil || !alive:
		return d, because(ErrNotFound, "no delayed message %q waits", id)
	}
	_ = decodeRecord(value, &d.record) // one that is damaged can be removed as well
	return d, nil
}

// maxDelayedCount is how many sends with After a Status counts.
const maxDelayedCount = 1000

// countDelayed begins to count the sends that wait for their time.
func (t tenant) countDelayed(tx backend.Reader) backend.Future[[]backend.KeyValue] {
	return tx.GetRange(t.key.Str(keySent).Below(), backend.RangeOptions{Limit: maxDelayedCount, Snapshot: true})
}

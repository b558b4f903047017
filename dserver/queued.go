package dserver

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Queued is a message that waits on a server's queue.
type Queued struct {
	Stamp    backend.Versionstamp // its place in the order of commits; names it
	Priority bool                 // it is ahead of those that are not
	Call     bool                 // somebody waits for the answer
	Sent     time.Time            // by the sender's clock
	Message  Message              // without a Name when it cannot be read: then Body is all that is stored
}

// maxQueued is how many messages are read from one snapshot.
const maxQueued = 100

// Queue yields the messages that wait, in the order in which they will be taken. An error ends it. It reads page by page,
// so the loop may take its time; messages that come or go meanwhile may be missed.
func (s *DServer[S]) Queue(ctx context.Context) iter.Seq2[Queued, error] {
	return func(yield func(Queued, error) bool) {
		if err := s.check(ctx, "Queue"); err != nil {
			yield(Queued{}, err)
			return
		}
		for last := (queue.Item{}); ; {
			items, killed, err := s.queuePage(ctx, last)
			if err != nil {
				yield(Queued{}, err)
				return
			}
			for _, item := range items {
				if item.Stamp.Compare(killed) > 0 && !yield(queuedOf(item), nil) {
					return
				}
			}
			if len(items) == 0 {
				return
			}
			last = items[len(items)-1]
		}
	}
}

// queuePage reads what follows an item, and until where it belongs to a server that was killed.
func (h handle) queuePage(ctx context.Context, last queue.Item) (items []queue.Item, killed backend.Versionstamp, err error) {
	err = h.read(ctx, "read the queue", func(tx backend.ReadTx, keys tenant) error {
		if killed, err = keys.killedAt(tx); err != nil {
			return err
		}
		items, err = keys.queue().Read(tx, last, maxQueued)
		return err
	})
	return items, killed, err
}

func queuedOf(item queue.Item) Queued {
	message, env := readable(item.Body)
	q := Queued{Stamp: item.Stamp, Priority: item.Lane == queue.Priority, Call: env.From != "", Message: message}
	if env.Sent != 0 {
		q.Sent = time.UnixMilli(env.Sent)
	}
	return q
}

// Queued returns the message of this stamp, or ErrNotFound when it does not wait any more.
func (s *DServer[S]) Queued(ctx context.Context, stamp backend.Versionstamp) (Queued, error) {
	if err := s.check(ctx, "Queued"); err != nil {
		return Queued{}, err
	}
	var q Queued
	err := s.read(ctx, "read the queue", func(tx backend.ReadTx, keys tenant) error {
		item, err := keys.waiting(tx, stamp)
		q = queuedOf(item)
		return err
	})
	if err != nil {
		return Queued{}, err
	}
	return q, nil
}

// waiting finds a message on the queue. In a transaction its disappearance is a conflict.
func (t tenant) waiting(tx backend.Reader, stamp backend.Versionstamp) (queue.Item, error) {
	item, found, err := t.queue().Find(tx, stamp)
	if err == nil && !found {
		err = because(ErrNotFound, "no message %v waits", stamp)
	}
	return item, err
}

// Withdraw takes the message of this stamp off the queue, unhandled. The caller that waits for it, if any, gets
// ErrWithdrawn, in the same commit. It is ErrNotFound when the message does not wait any more: either Withdraw takes a
// message or the turn that handles it, never both. The order of the others does not change.
func (s *DServer[S]) Withdraw(ctx context.Context, stamp backend.Versionstamp) error {
	ref := s.Ref()
	return s.change(ctx, "Withdraw", func(tx backend.Tx, keys tenant) error {
		item, err := keys.waiting(tx, stamp)
		if err != nil {
			return err
		}
		faulted, err := keys.readAttempts(tx, item.Lane)
		if err != nil {
			return err
		}
		answers, err := dismiss(tx, []queue.Item{item}, ErrWithdrawn)
		if err != nil {
			return err
		}
		keys.queue().Remove(tx, item)
		if faulted.isOf(item) {
			tx.Clear(keys.attempts(item.Lane).Only())
		}
		setReady(tx, ref) // the next message may have waited for this one's back-off
		return answers.write(tx, keys)
	})
}

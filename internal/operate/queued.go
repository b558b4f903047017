package operate

import (
	"bytes"
	"context"
	"crypto/rand"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// Queued is a message that waits on a server's queue.
type Queued struct {
	Stamp    backend.Versionstamp // its place in the order of commits; names it
	Priority bool
	Call     bool           // somebody waits for the answer
	Sent     time.Time      // by the sender's clock
	Message  tenant.Message // without a Name when it cannot be read: then Body is all that is stored
	Headers  tenant.Headers
}

// maxQueued is how many messages are read from one snapshot.
const maxQueued = 100

// Queue yields the messages that wait, in the order in which they will be taken. It reads page by page.
func (s Server) Queue(ctx context.Context) iter.Seq2[Queued, error] {
	return func(yield func(Queued, error) bool) {
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
func (s Server) queuePage(ctx context.Context, last queue.Item) (items []queue.Item, killed backend.Versionstamp, err error) {
	err = s.read(ctx, "read the queue", func(tx backend.ReadTx, keys tenant.Keys) error {
		if killed, err = keys.KilledAt(tx); err != nil {
			return err
		}
		items, err = keys.Queue().Read(tx, last, maxQueued)
		return err
	})
	return items, killed, err
}

func queuedOf(item queue.Item) Queued {
	message, env := tenant.Readable(item.Body)
	q := Queued{Stamp: item.Stamp, Priority: item.Lane == queue.Priority, Call: env.From != "", Message: message, Headers: env.Head}
	if env.Sent != 0 {
		q.Sent = time.UnixMilli(env.Sent)
	}
	return q
}

// Queued returns the message of a stamp, or ErrNotFound when it does not wait any more.
func (s Server) Queued(ctx context.Context, stamp backend.Versionstamp) (q Queued, err error) {
	err = s.read(ctx, "read the queue", func(tx backend.ReadTx, keys tenant.Keys) error {
		item, err := keys.Waiting(tx, stamp)
		q = queuedOf(item)
		return err
	})
	return q, err
}

// Mend puts another message in the place of one that waits, if that still is as it was seen. The message keeps its place, its
// caller, its idempotency key and its timer, and has all its attempts.
func (s Server) Mend(ctx context.Context, stamp backend.Versionstamp, seen, mended tenant.Message) error {
	return s.change(ctx, "Mend", func(tx backend.Tx, keys tenant.Keys, act *tenant.Act) error {
		item, err := keys.Waiting(tx, stamp)
		if err != nil {
			return err
		}
		faulted, err := keys.ReadAttempts(tx, item.Lane)
		if err != nil {
			return err
		}
		claims, err := tx.GetRange(tenant.ReadyClaims(s.Ref).Tree(), backend.RangeOptions{Limit: maxQueued, Snapshot: true}).Get()
		if err != nil {
			return err
		}
		was, env := tenant.Readable(item.Body)
		if was.Name != seen.Name || !bytes.Equal(was.Body, seen.Body) {
			return tenant.Because(tenant.ErrChanged, "the message %v of %v is not as it was seen", stamp, s.Ref)
		}
		env.Name, env.Body, env.Edit = mended.Name, mended.Body, rand.Text()
		if err := keys.Queue().Replace(tx, item, env.Encode()); err != nil {
			return err
		}
		if faulted.IsOf(item) {
			keys.ClearAttempt(tx, item.Lane)
		}
		for _, pair := range claims { // those of the dead that name it count as attempts
			if c, _, isClaim := tenant.ParseClaim(s.Ref, pair); isClaim && c.Names(item) {
				tx.Clear(pair.Key.Only())
			}
		}
		act.Stamp, act.Before, act.After = stamp, tenant.KeepMessage(was), tenant.KeepMessage(mended)
		tenant.SetReady(tx, s.Ref) // it may have waited for a back-off, or halted the server
		return nil
	})
}

// Withdraw takes the message of a stamp off the queue, unhandled, and tells its caller.
func (s Server) Withdraw(ctx context.Context, stamp backend.Versionstamp) error {
	return s.change(ctx, "Withdraw", func(tx backend.Tx, keys tenant.Keys, act *tenant.Act) error {
		item, err := keys.Waiting(tx, stamp)
		if err != nil {
			return err
		}
		faulted, err := keys.ReadAttempts(tx, item.Lane)
		if err != nil {
			return err
		}
		was, _ := tenant.Readable(item.Body)
		act.Stamp, act.Before = stamp, tenant.KeepMessage(was)
		answers, err := tenant.Dismiss(tx, []queue.Item{item}, tenant.ErrWithdrawn)
		if err != nil {
			return err
		}
		keys.Queue().Remove(tx, item)
		if faulted.IsOf(item) {
			keys.ClearAttempt(tx, item.Lane)
		}
		tenant.SetReady(tx, s.Ref) // the next message may have waited for this one's back-off
		return answers.Write(tx, keys)
	})
}

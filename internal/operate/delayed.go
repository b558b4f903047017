package operate

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// Delayed is what was sent with After and is not due yet: one message, or those of a CastAll.
type Delayed struct {
	ID       string    // names it until it is due
	Due      time.Time // when it is put on the queue; zero when an older version sent it
	Priority bool
	Call     bool      // somebody waits for the answer
	Sent     time.Time // by the sender's clock
	Messages []tenant.Message
	Headers  tenant.Headers // of each of them
}

func delayedOf(d tenant.DelayedFound) Delayed {
	found := Delayed{ID: d.Word, Priority: d.Record.Lane == int(queue.Priority)}
	if d.Record.At != 0 {
		found.Due = time.UnixMilli(d.Record.At)
	}
	for _, body := range d.Record.Items {
		q := queuedOf(queue.Item{Body: body})
		found.Messages = append(found.Messages, q.Message)
		found.Call, found.Sent, found.Headers = found.Call || q.Call, q.Sent, q.Headers
	}
	return found
}

// Delayed yields what was sent with After and is not due yet, in no order. It reads page by page.
func (s Server) Delayed(ctx context.Context) iter.Seq2[Delayed, error] {
	return func(yield func(Delayed, error) bool) {
		for page := (tenant.DelayedPage{Rest: tenant.KeysOf(s.Ref).Key.Str(tenant.KeyLater).Below()}); !page.Last; {
			var err error
			if page, err = s.delayedPage(ctx, page.Rest); err != nil {
				yield(Delayed{}, err)
				return
			}
			for _, d := range page.Found {
				if !yield(delayedOf(d), nil) {
					return
				}
			}
		}
	}
}

// delayedPage reads the first that are alive.
func (s Server) delayedPage(ctx context.Context, rest backend.Range) (page tenant.DelayedPage, err error) {
	err = s.read(ctx, "read what is delayed", func(tx backend.ReadTx, keys tenant.Keys) error {
		killed, err := keys.KilledAt(tx)
		if err != nil {
			return err
		}
		if page, err = keys.ReadDelayed(tx, rest, true); err != nil {
			return err
		}
		page, err = page.Of(tx, keys, killed, true)
		return err
	})
	return page, err
}

// WithdrawDelayed removes what was sent with After, by its ID, and tells its caller.
func (s Server) WithdrawDelayed(ctx context.Context, id string) error {
	return s.change(ctx, "WithdrawDelayed", func(tx backend.Tx, keys tenant.Keys, act *tenant.Act) error {
		act.Detail = id
		d, err := keys.FindDelayed(tx, id)
		if err != nil {
			return err
		}
		answers, err := tenant.Dismiss(tx, tenant.DelayedPage{Found: []tenant.DelayedFound{d}}.All(), tenant.ErrWithdrawn)
		if err != nil {
			return err
		}
		keys.ClearDelayed(tx, id)
		if d.Record.At != 0 { // else its row finds nothing when its time comes
			tenant.ClearDue(tx, s.Ref, tenant.Due{At: d.Record.At, Kind: tenant.DueMessage, Name: id})
		}
		return answers.Write(tx, keys)
	})
}

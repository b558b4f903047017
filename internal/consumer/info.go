package consumer

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/stacks"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Info handles a message that is not stored, in a turn of its own, at once and in this process.
func (h Handle) Info(ctx context.Context, message tenant.Message, head tenant.Headers) error {
	if h.Def.Infos[message.Name] == nil {
		return tenant.Because(tenant.ErrNoHandler, "this definition of %q has no HandleInfo for %s: use the one that has", h.Ref.Type, message.Name)
	}
	p, release := mailbox.Acquire(h.DB)
	defer release()
	c := newConsumer(h.DB, Options{Logger: p.Logger(), Labels: labelsHere(p, h.Ref.Type), Hooks: h.Hooks})
	c.Process = p
	c.Base, c.abort = context.WithCancelCause(ctx)
	defer c.abort(nil)
	c.Turns = turn.ForHandlers(c.Base, c.log)

	for {
		a := newGuest(message, head, true)
		a.Info = true
		t := c.visit(&server{id: h.Ref.ID, def: h.Def}, 1)
		t.Info, t.locals = &a.Arrival, []*guest{a}
		out, next := t.inform(ctx)
		switch {
		case out.Declined && next.now:
			continue // the server was killed, and is buried now
		case out.Declined && t.Batch == nil:
			return fmt.Errorf("dserver: the state of %v was written by a newer version of the program", h.Ref)
		case out.Declined:
			return fmt.Errorf("dserver: the HandleInfo of %s asked for what needs a stored message: Lock or ReplyLater", message.Name)
		default:
			return out.Err
		}
	}
}

// inform runs the turn on a goroutine of its own, and says how it ended. A handler that does not return, or that ends its
// goroutine, has nobody's but that.
func (t *visit) inform(ctx context.Context) (out turn.Outcome, next nextTurn) {
	ended := make(chan nextTurn, 1)
	t.c.wg.Go(func() {
		t.goroutine = stacks.Goroutine()
		t.c.conclude(t, func() nextTurn {
			next := t.run()
			ended <- next
			return next
		})
	})
	select {
	case out = <-t.Info.Done:
	case <-ctx.Done():
		why := fmt.Errorf("dserver: info %s: %w: %w", t.Info.Message.Name, backend.ErrCommitUnknown, ctx.Err())
		return turn.Outcome{Err: why}, nextTurn{}
	}
	if out.Err != nil {
		return out, nextTurn{} // another goroutine may have ended the turn
	}
	select { // its AfterCommit functions have had their time
	case next = <-ended:
	case <-ctx.Done():
	}
	return out, next
}

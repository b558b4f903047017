package mailbox

import (
	"context"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// The mailbox of a process has no goroutine. One of the waiting calls, the leader, reads it for all of them, and hands
// that on when it has its own answer. What was read is removed by a later push of this process, in its commit. The watch
// of the last read stays a while: a call that comes soon has nothing to read before it tells of something.
const (
	watchLinger = time.Second // how long a watch stays that no call waits for
	MaxMail     = 512         // items that are read at once
)

// Await waits for the answer to a call, and reads the mailbox for all calls when nobody else does.
func (p *Process) Await(ctx context.Context, call *PendingCall) (tenant.Delivery, error) {
	for {
		select {
		case <-call.done:
			return call.answer, nil
		case <-ctx.Done():
			return tenant.Delivery{}, ctx.Err()
		case p.lead <- struct{}{}:
			err := p.readMail(ctx, call)
			<-p.lead
			if err != nil {
				return tenant.Delivery{}, err
			}
			return call.answer, nil
		}
	}
}

// readMail delivers what comes to the mailbox until call has its answer or ctx ends.
func (p *Process) readMail(ctx context.Context, call *PendingCall) error {
	for {
		if p.bell == nil {
			if err := p.look(ctx); err != nil {
				return err
			}
		}
		select {
		case <-call.done:
			return nil
		default:
		}
		if p.bell == nil { // there may be more at once
			continue
		}
		if err := p.listen(ctx, call); err != nil {
			return err
		}
		if err := p.beat(ctx); err != nil {
			return err
		}
	}
}

// listen waits for mail.
func (p *Process) listen(ctx context.Context, call *PendingCall) error {
	timer := time.NewTimer(p.jittered(LookInterval))
	defer timer.Stop()
	select {
	case <-call.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.bell.Done():
		p.ignore()
	case <-timer.C:
		p.ignore()
	}
	return nil
}

// look delivers what is in the mailbox. It watches for more, unless there may be more at once that somebody waits for.
func (p *Process) look(ctx context.Context) error {
	var items []queue.Item
	err := p.db.Read(ctx, func(tx backend.ReadTx) (err error) {
		p.ignore() // a run before this one
		p.bell = tx.Watch(tenant.PresenceOf(p.ID).Bell())
		items, err = tenant.PresenceOf(p.ID).Mail().Read(tx, p.last, MaxMail)
		return err
	})
	if err != nil {
		p.ignore()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("read the mailbox: %w", err)
	}
	p.accept(items)
	if len(items) > 0 && p.isAwaited() {
		p.ignore()
	}
	return nil
}

// isAwaited reports whether a call waits for its answer.
func (p *Process) isAwaited() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending) > 0
}

// accept delivers what was read, and passes what cannot be: it would be met again by each later call.
func (p *Process) accept(items []queue.Item) {
	for _, item := range items {
		for _, letter := range tenant.Unbundle(item.Body) {
			d, known, err := tenant.ReadMail(letter)
			if err != nil {
				log := p.Logger()
				log.Error().Err(err).Stringer(logs.Key, item.Stamp).Msg("an answer cannot be read; its caller is told so, if it is known")
			}
			if known {
				p.Deliver(d)
			}
		}
	}
	if len(items) > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.last, p.stale = items[len(items)-1], p.stale+len(items)
	}
}

// unwatch cancels the watch of the mailbox, unless a call waits for it.
func (p *Process) unwatch() {
	select {
	case p.lead <- struct{}{}:
		p.ignore()
		<-p.lead
	default:
	}
}

// ignore cancels the watch of the mailbox, which will be read again. It is called by the leader.
func (p *Process) ignore() {
	if p.bell != nil {
		p.bell.Cancel()
		p.bell = nil
	}
}

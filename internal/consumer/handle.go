package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/lease"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Handle sends to one server.
type Handle struct {
	DB  backend.Database
	Def *turn.Definition
	Ref tenant.Ref

	Hooks turn.Hooks // of the turns of Info; nil: none
}

// Cast sends a message: through memory, where a consumer of this process takes it, or to the queue.
func (h Handle) Cast(ctx context.Context, m tenant.Message, how tenant.How) error {
	if how.IsPlain() {
		if out := h.inline(ctx, m, how.Headers, false); !out.Declined {
			return out.Err
		}
	}
	_, err := h.push(ctx, how, tenant.NewEnvelope(m, ""))
	return err
}

// CastAll sends messages in one commit, in order, with nothing in between.
func (h Handle) CastAll(ctx context.Context, ms []tenant.Message, how tenant.How) error {
	if len(ms) == 0 {
		return nil
	}
	envelopes := make([]tenant.Envelope, len(ms))
	for i, m := range ms {
		envelopes[i] = tenant.NewEnvelope(m, "")
	}
	_, err := h.push(ctx, how, envelopes...)
	return err
}

// inline lets the message join a turn of this process, when a consumer of it runs the type. A worker runs it, never the
// sender's goroutine: a handler may not return, and may end its goroutine, and neither may become its sender's.
func (h Handle) inline(ctx context.Context, m tenant.Message, head tenant.Headers, call bool) turn.Outcome {
	c := consumerOf(mailbox.Of(h.DB), h.Ref.Type)
	if c == nil || len(m.Body) > maxLocalBytes || c.types[h.Ref.Type].def.Locked[m.Name] != nil {
		return turn.Outcome{Declined: true}
	}
	if err := ctx.Err(); err != nil {
		return turn.Outcome{Err: fmt.Errorf("dserver: %s was not sent: %w", m.Name, err)}
	}
	if isTaken, err := c.takes(ctx, h.Ref.Type, m.Name, call); err != nil || !isTaken {
		return turn.Outcome{Declined: err == nil, Err: err}
	}
	a := newGuest(m, head, call)
	if !c.offer(h.Ref, a) {
		return turn.Outcome{Declined: true}
	}
	return c.await(ctx, a)
}

// Call sends a message and waits until it has taken effect. It returns the reply, nil when there is none.
func (h Handle) Call(ctx context.Context, m tenant.Message, how tenant.How) ([]byte, error) {
	if err := h.checkSelf(ctx, how); err != nil {
		return nil, err
	}
	if how.IsPlain() {
		if out := h.inline(ctx, m, how.Headers, true); !out.Declined {
			return out.Reply, out.Err
		}
	}
	return h.callQueued(ctx, m, how)
}

// callQueued pushes the call and waits for its answer in the mailbox of this process. Stacks are searched for its name
// (selfcall.go).
func (h Handle) callQueued(ctx context.Context, m tenant.Message, how tenant.How) ([]byte, error) {
	p, release := mailbox.Acquire(h.DB)
	defer release()
	if err := h.checkHandler(p); err != nil {
		return nil, err
	}
	call := p.Expect(h.Ref)
	defer p.Forget(call)
	a := p.Announce(call)
	also := func(tx backend.Tx) error {
		if how.Once == "" { // else who sends it again is told that it is there, and so without its answer
			backend.CommitAsync(tx)
		}
		return a.Write(tx)
	}
	known, err := h.pushWith(ctx, also, how, tenant.NewEnvelope(m, tenant.Address(p.ID, call.Secret)))
	a.Ended(err)
	if err != nil {
		return nil, err
	}
	if known != nil {
		return p.AwaitOnce(ctx, h.Ref, how.Once, known.Word)
	}
	d, err := p.Await(ctx, call)
	if err != nil && errors.Is(err, ctx.Err()) {
		return nil, fmt.Errorf("dserver: %v has not answered %s%s: %w", h.Ref, m.Name, h.absence(ctx, p), err)
	}
	if err != nil {
		return nil, fmt.Errorf("dserver: call %s of %v: %w", m.Name, h.Ref, err)
	}
	return d.Reply, d.Err
}

// absence is what to add to the error of a call whose time is over. Who gives up by hand is not kept waiting for it.
func (h Handle) absence(ctx context.Context, p *mailbox.Process) string {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ""
	}
	if text := p.Absence(h.Ref.Type); text != "" {
		return text
	}
	return h.hindrance(p)
}

// hindrance is what to add to the error of a call whose time is over, when consumers could not read the state, or none of them
// lists the server's label: "" else.
func (h Handle) hindrance(p *mailbox.Process) (text string) {
	ctx, cancel := context.WithTimeout(context.Background(), mailbox.AbsenceLimit)
	defer cancel()
	var head tenant.Head
	keys := tenant.KeysOf(h.Ref)
	err := h.DB.Read(ctx, func(tx backend.ReadTx) error {
		records, err := tx.GetRange(keys.Head().Tree(), backend.RangeOptions{}).Get()
		if err != nil {
			return err
		}
		head = tenant.Head{}
		return head.Records(keys.Head(), records)
	})
	if err != nil {
		return ""
	}
	if said := head.Unreadable.Text; said != "" {
		return " (its state could not be read: " + said + ")"
	}
	label := head.LabelOf(h.Def.Settings.Label)
	crew, err := p.Crew(ctx, h.Ref.Type)
	if err != nil || len(tenant.Listing(crew, label)) > 0 {
		return ""
	}
	return fmt.Sprintf(" (no consumer lists its label %q: Consumer.Labels, or Pin it elsewhere)", label)
}

// push appends messages to the queue, in one commit with all that makes them found. It returns what is known of their
// idempotency key when that was sent before, and then sends nothing.
func (h Handle) push(ctx context.Context, how tenant.How, envelopes ...tenant.Envelope) (*tenant.OnceRecord, error) {
	return h.pushWith(ctx, func(backend.Tx) error { return nil }, how, envelopes...)
}

// pushWith is push with further writes.
func (h Handle) pushWith(ctx context.Context, also func(tx backend.Tx) error, how tenant.How, envelopes ...tenant.Envelope) (*tenant.OnceRecord, error) {
	p := tenant.NewParcel(h.Ref, how, envelopes...)
	p.MaxQueued = h.Def.Settings.MaxQueued
	err := h.DB.Transact(ctx, func(tx backend.Tx) error {
		p.Look(tx)
		if err := p.Write(tx); err != nil {
			return err
		}
		return also(tx)
	})
	if err != nil {
		return nil, h.pushError(ctx, err)
	}
	mailbox.Of(h.DB).Wake(h.Ref)
	return p.Known, nil
}

func (h Handle) pushError(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, backend.ErrCommitUnknown) {
		return fmt.Errorf("dserver: nothing was sent to %v: %w", h.Ref, err)
	}
	return fmt.Errorf("dserver: send to %v: %w", h.Ref, err)
}

// checkSelf refuses a call from the locked work of the server itself, which would wait for the lock's end.
func (h Handle) checkSelf(ctx context.Context, how tenant.How) error {
	if how.Priority || !lease.IsWorkOf(ctx, h.Ref) {
		return nil
	}
	return fmt.Errorf("dserver: a call of %v from its own locked work would wait for itself: use what work is given, or Info", h.Ref)
}

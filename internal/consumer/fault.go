package consumer

import (
	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// faulted ends a turn whose first message broke: nothing was committed. A message of the queue is counted. A local call
// is answered, as it was never stored; a local cast takes the queue's way; the end of locked work goes back to its
// holder.
func (t *visit) faulted(f *turn.Fault) nextTurn {
	first := t.Messages[0]
	switch {
	case first.Released != nil:
		t.locals[0].Done <- turn.Outcome{Err: f}
		t.tellFault(first, tenant.Because(tenant.ErrFault, "%s", f.Text), false)
		t.giveBack(t.locals[1:])
		return t.idle()
	case first.Item != nil:
		return t.faultedStored(first, f)
	}
	a := first.Arrival
	t.about(t.c.log.Warn(), a.Message.Name).Str(zerolog.ErrorFieldName, f.Text).Func(logs.WithStack(f.Hung())).
		Msg("a message that was not queued broke its handler")
	why := tenant.Because(tenant.ErrFault, "%s", f.Text)
	t.tellFault(first, why, false)
	if a.Call {
		a.Done <- turn.Outcome{Err: why}
	} else {
		a.Done <- turn.Outcome{Declined: true}
	}
	t.giveBack(t.locals[1:])
	return t.idle()
}

// postponed ends a turn whose first message has a statement that may succeed later. A local message takes the queue's way,
// where it is tried again.
func (t *visit) postponed(err error) nextTurn {
	first := t.Messages[0]
	a := first.Arrival
	if a == nil || a.Info || first.Released != nil {
		return t.faulted(&turn.Fault{Text: err.Error()})
	}
	t.about(t.c.log.Warn(), a.Message.Name).Err(err).Msg("a statement of a message that was not queued failed: it is tried again from the queue")
	t.tellFault(first, tenant.Because(tenant.ErrFault, "%v", err), false)
	t.locals[0].Done <- turn.Outcome{Declined: true}
	t.giveBack(t.locals[1:])
	return t.idle()
}

func (t *visit) faultedStored(w turn.Work, f *turn.Fault) nextTurn {
	t.giveBack(t.locals)
	n, err := t.Count(w, f)
	t.tellCounted(w, n, f)
	if err != nil {
		return t.failed(err)
	}
	for _, d := range t.Mine {
		t.c.Process.Deliver(d)
	}
	return nextTurn{now: true}
}

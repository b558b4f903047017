package consumer

import (
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// tell tells the hooks of the turn. The turn is over, so that a panic there can undo nothing: it is logged.
func (t *visit) tell(told func()) {
	defer func() {
		if p := recover(); p != nil {
			f := turn.Panicked(p)
			t.c.log.Error().Str(logs.Panic, f.Text).Str(logs.Stack, f.Stack).Stringer(logs.Server, t.Ref).
				Msg("an interceptor panicked when it was told of a turn")
		}
	}()
	told()
}

// tellFault tells the hooks of a message that faulted, if there are any.
func (t *visit) tellFault(w turn.Work, why *tenant.Error, isDead bool) {
	if t.c.Hooks != nil {
		t.tell(func() { t.TellOf(turn.Handled{Work: &w, Err: why, Faulted: true, DeadLetter: isDead}) })
	}
}

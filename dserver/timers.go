package dserver

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/internal/operate"
)

// Timer is a timer that a server has set for itself (Context.SetTimer).
type Timer struct {
	Name     string
	Due      time.Time // one that is past is on the queue, or about to be
	Priority bool
	Message  Message // what it sends; without a Name when it cannot be read: then Body is all that is stored
}

func publicTimer(t operate.Timer) Timer {
	return Timer{Name: t.Name, Due: t.Due, Priority: t.Priority, Message: Message(t.Message)}
}

// Timers yields the timers of the server that are set, in the order of their names. An error ends it. It reads page by page, so
// the loop may take its time; timers that come or go meanwhile may be missed.
func (s *handle) Timers(ctx context.Context) iter.Seq2[Timer, error] {
	return listed(ctx, s, "Timers", operate.Server.Timers, publicTimer)
}

package dserver

import (
	"context"

	"github.com/dserver-go/dserver/internal/operate"
)

// Kill removes everything: the state, the lock, timers, idempotency keys, dead letters, and the queue, whose callers
// get ErrKilled. When it returns, the callers were told, unless ctx ended meanwhile: then consumers tell them. Messages
// that are sent later find a new server. A caller whose From (ReplyLater) was kept in the old state is not told: that
// state is removed, and no handler runs that could answer. It waits until its ctx ends.
func (s *DServer[S]) Kill(ctx context.Context) error {
	return s.change(ctx, "Kill", func(s operate.Server) error { return s.Kill(ctx) })
}

// Reset removes the state, the lock and the timers. The queue stays, and its next message finds a new server (Init). A
// message that faulted has all its attempts again. The caller of locked work gets ErrKilled.
func (s *DServer[S]) Reset(ctx context.Context) error {
	return s.change(ctx, "Reset", func(s operate.Server) error { return s.Reset(ctx) })
}

// Unlock ends locked work: its message becomes a dead letter, its caller gets ErrFault, and a result that the work may
// still return is refused. It is ErrNotFound when the server is not locked. Handlers have Context.Unlock.
func (s *DServer[S]) Unlock(ctx context.Context) error {
	return s.change(ctx, "Unlock", func(s operate.Server) error { return s.Unlock(ctx) })
}

// Resume makes a server go on that halted (Settings.Halt): its message has all its attempts again. It is ErrNotFound
// when the server has not halted. Withdraw and Unlock make it go on without the message.
func (s *DServer[S]) Resume(ctx context.Context) error {
	return s.change(ctx, "Resume", func(s operate.Server) error { return s.Resume(ctx) })
}

package dserver

import (
	"context"

	"github.com/dserver-go/dserver/internal/operate"
)

// Kill removes everything: the state, the lock, timers, idempotency keys, dead letters, and the queue, whose callers
// get ErrKilled. When it returns, the callers were told, unless ctx ended meanwhile: then consumers tell them. Messages
// that are sent later find a new server, which is pinned nowhere: it begins where those of its type do (Settings.Label). A caller whose From (ReplyLater) was kept in the old state is not told: that
// state is removed, and no handler runs that could answer. It waits until its ctx ends.
func (s *handle) Kill(ctx context.Context) error {
	return s.change(ctx, "Kill", operate.Server.Kill)
}

// Reset removes the state, the lock and the timers. The queue stays, and its next message finds a new server (Init). A
// message that faulted has all its attempts again. The caller of locked work gets ErrKilled.
func (s *handle) Reset(ctx context.Context) error {
	return s.change(ctx, "Reset", operate.Server.Reset)
}

// Unlock ends locked work: its message becomes a dead letter, its caller gets ErrFault, and a result that the work may
// still return is refused. It is ErrNotFound when the server is not locked. Handlers have Context.Unlock.
func (s *handle) Unlock(ctx context.Context) error {
	return s.change(ctx, "Unlock", operate.Server.Unlock)
}

// Pause stops the server until Resume: from the moment that Pause returns, no message of it is handled, whatever its lane, and
// nothing of a turn that was under way is committed. What is sent waits, timers and messages with After go on the queue when
// they are due, and nobody is refused but Info, which is ErrPaused. Locked work that has begun may end, and its result is
// applied, since another system has done what it was asked; it is not begun anew. Queries and State read as ever, and operators
// may do all that they do: mend the queue, set the state, retry.
//
// A server that is paused is in Troubles, so that none is forgotten. Pause need not find a server, and does nothing where it is
// paused already, so it may be called again. Kill ends it with all else.
func (s *handle) Pause(ctx context.Context) error {
	return s.change(ctx, "Pause", operate.Server.Pause)
}

// Resume makes a server go on that was paused, or that halted (Settings.Halt): the message that halted it has all its attempts
// again. It is ErrNotFound when the server is neither. Withdraw and Unlock make a halted one go on without the message, and Mend
// with a better one.
func (s *handle) Resume(ctx context.Context) error {
	return s.change(ctx, "Resume", operate.Server.Resume)
}

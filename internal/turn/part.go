package turn

import (
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// A turn parts with a server when it takes its last message and clears its ready mark in the same commit, which is then the
// only one of a message to a server that gets one now and then. Where more comes within moments the mark stays instead: it saves
// consumers a look at the marks, and a push is no conflict with a turn.
//
//  1. A consumer parts with a server that was left alone for as long as an emptied queue is (package consumer) when it was
//     emptied last, until a message comes in between, and whose handlers are quick, as they may run twice.
//  2. Such a turn has what it read of the head and of the queue as a conflict. So whatever gives the server something to do
//     meanwhile makes it run again, and then it does not part.
//  3. It parts when it has handled all that waits, and leaves nothing behind that a mark is needed for: no lock, no message to
//     the server itself. And where all is as usual: with a label, without a state, of one that is paused or killed, the mark is
//     cleared by who confirms that there is nothing to do.
//
// | dies | what is left |
// |---|---|
// | before the commit | the messages, and the mark |
// | after it | neither |
// | outcome unknown | one of these; the consumer looks at the server again |

func (t *Turn) mayPart() bool {
	return t.Parts && t.Marked && t.ran == 1 && t.Info == nil && !t.isRelease()
}

// part clears the mark where the turn parts.
func (t *Turn) part(tx backend.Tx) {
	if !t.parts || !t.isDone() {
		return
	}
	t.Host.Part()
	tenant.ClearReady(tx, t.Ref)
	t.Parted = true
}

// isDone reports whether there is nothing to do for the server after this turn.
func (t *Turn) isDone() bool {
	b, h := t.Batch, &t.Head
	switch {
	case !h.All, len(t.Stored()) < len(h.Items), b.resets, b.Locks, b.Waits, t.LockEnd.Ends():
		return false
	case h.Lock.IsHeld(), h.Paused.Is(), !h.Killed.IsZero(), t.Label() != "", h.Version.IsZero() && !t.stamped:
		return false
	}
	return !slices.ContainsFunc(b.Parcels, func(p *tenant.Parcel) bool { return p.To == t.Ref })
}

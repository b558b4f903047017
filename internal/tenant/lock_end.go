package tenant

import (
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// LockEnd is the end of locked work before its time: by an operator's Unlock, a handler's, or a reset. It is one commit, the
// operator's own or that of the handler's turn:
//
//  1. The lock is read, or the turn has it in its head, with its fence as a conflict.
//  2. Its message is dismissed: its caller, and who waits for its idempotency key, get why. An operator sets it aside in
//     any case, to be looked at; a handler decides as work would, so only what was cast is set aside; a reset forgets it.
//  3. The holder's bell is rung, if its process has a record: its next beat finds that the fence is gone, and ends the
//     work's context. Of a lock that was given up there is nobody who must be told.
//  4. The lock, its fence and its message are cleared, and the server is marked: what waited goes on.
//
// Of this commit and that of the release, or of a take-over, the second finds another fence, and looks again: the release
// is refused, a take-over finds no lock, and a handler runs anew on the state that apply left, on a server that is not
// locked. So work is applied, or ended before its time, and never both.
//
// | dies | what is left |
// |---|---|
// | before the commit | the server is locked as before; a handler's message is on the queue, and ends the work then |
// | after it | the message has its end, its caller is told, the queue goes on; the holder finds out by itself |
// | outcome unknown | a handler's: as its turn, the queue tells; an operator's: called again, it is done or ErrNotFound |
type LockEnd struct {
	Items     []queue.Item // the message; none of a lock that is damaged
	Attempts  int
	Why       *Error // nil: nothing ends
	SetsAside bool   // the message becomes a dead letter
	told      Notice
	Answers   Dismissal
}

// EndLock prepares the end of a lock, if it is held. It only reads. Of the processes that isKnown says to live, if it is
// not nil, no record is read: they change while their processes live, and a slow handler would conflict with them.
func (t Keys) EndLock(tx backend.Reader, held Lock, why *Error, isKnown func(process string) bool) (e LockEnd, err error) {
	if !held.IsHeld() {
		return e, nil
	}
	e.Why, e.Attempts = why, held.Record.Attempt
	if e.Items, err = t.LockedItems(tx); err != nil {
		return e, err
	}
	for i := range e.Items {
		e.Items[i].Stamp = held.Record.Stamp
	}
	if e.told, err = NoticeTo(tx, held.Beat); err != nil {
		return e, err
	}
	e.Answers, err = dismissTo(tx, e.Items, why, isKnown)
	return e, err
}

// Ends reports whether there is a lock to end.
func (e LockEnd) Ends() bool { return e.Why != nil }

// IsCall reports whether somebody waits for the message's answer.
func (e LockEnd) IsCall() bool {
	return slices.ContainsFunc(e.Answers.Envelopes, func(env Envelope) bool { return env.From != "" })
}

func (e LockEnd) Write(tx backend.Tx, keys Keys, ref Ref) error {
	if !e.Ends() {
		return nil
	}
	e.told.Write(tx)
	for _, item := range e.Items {
		if !e.SetsAside {
			continue
		}
		if err := keys.WriteLetter(tx, &item, NewLetter(item.Body, e.Why, "", e.Attempts)); err != nil {
			return err
		}
	}
	keys.ClearLock(tx)
	SetReady(tx, ref)
	return e.Answers.Write(tx, keys)
}

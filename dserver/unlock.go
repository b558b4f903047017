package dserver

import (
	"context"
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// The end of locked work before its time: by an operator's Unlock, a handler's, or a reset. It is one commit, the
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
type lockEnd struct {
	items     []queue.Item // the message; none of a lock that is damaged
	attempts  int
	why       *Error // nil: nothing ends
	setsAside bool   // the message becomes a dead letter
	told      notice
	answers   dismissal
}

// endLock prepares the end of a lock, if it is held. It only reads. Of the processes that isKnown says to live, if it is
// not nil, no record is read: they change while their processes live, and a slow handler would conflict with them.
func (t tenant) endLock(tx backend.Reader, held lock, why *Error, isKnown func(process string) bool) (e lockEnd, err error) {
	if !held.isHeld() {
		return e, nil
	}
	e.why, e.attempts = why, held.record.Attempt
	if e.items, err = t.lockedItems(tx); err != nil {
		return e, err
	}
	for i := range e.items {
		e.items[i].Stamp = held.record.Stamp
	}
	if e.told, err = noticeTo(tx, held.beat); err != nil {
		return e, err
	}
	e.answers, err = dismissTo(tx, e.items, why, isKnown)
	return e, err
}

// ends reports whether there is a lock to end.
func (e lockEnd) ends() bool { return e.why != nil }

// isCall reports whether somebody waits for the message's answer.
func (e lockEnd) isCall() bool {
	return slices.ContainsFunc(e.answers.envelopes, func(env envelope) bool { return env.From != "" })
}

func (e lockEnd) write(tx backend.Tx, keys tenant, ref Ref) error {
	if !e.ends() {
		return nil
	}
	e.told.write(tx)
	for _, item := range e.items {
		if !e.setsAside {
			continue
		}
		letter := newLetter(result{work: &work{item: &item}, err: e.why})
		letter.Attempts = e.attempts
		if err := keys.writeLetter(tx, &item, letter); err != nil {
			return err
		}
	}
	keys.clearLock(tx)
	setReady(tx, ref)
	return e.answers.write(tx, keys)
}

// Unlock ends locked work: its message becomes a dead letter, its caller gets ErrFault, and a result that the work may
// still return is refused. It is ErrNotFound when the server is not locked. Handlers have Context.Unlock.
func (s *DServer[S]) Unlock(ctx context.Context) error {
	ref := s.Ref()
	return s.change(ctx, "Unlock", func(tx backend.Tx, keys tenant) error {
		held, err := readLock(tx, keys)
		if err != nil {
			return err
		}
		if !held.isHeld() {
			return because(ErrNotFound, "%v is not locked", ref)
		}
		end, err := keys.endLock(tx, held, because(ErrFault, "an operator ended the locked work"), nil)
		if err != nil {
			return err
		}
		end.setsAside = true
		return end.write(tx, keys, ref)
	})
}

// Resume makes a server go on that halted (Settings.Halt): its message has all its attempts again. It is ErrNotFound
// when the server has not halted. Withdraw and Unlock make it go on without the message.
func (s *DServer[S]) Resume(ctx context.Context) error {
	ref := s.Ref()
	return s.change(ctx, "Resume", func(tx backend.Tx, keys tenant) error {
		held, err := readLock(tx, keys)
		if err != nil {
			return err
		}
		var halted []queue.Lane
		for _, lane := range []queue.Lane{queue.Priority, queue.Normal} {
			a, err := keys.readAttempts(tx, lane)
			if err != nil {
				return err
			}
			if a.Halts {
				halted = append(halted, lane)
			}
		}
		if len(halted) == 0 && !held.record.Halted {
			return because(ErrNotFound, "%v has not halted", ref)
		}
		for _, lane := range halted {
			tx.Clear(keys.attempts(lane).Only())
		}
		if r := held.record; r.Halted {
			r.Halted, r.Attempt, r.Wait = false, 1, 0
			tx.Set(keys.lock(), encodeRecord(r))
			tx.Set(keys.beat(), []byte(vacant))
		}
		setReady(tx, ref)
		return nil
	})
}

package dserver

import (
	"context"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Unlock ends locked work: its message is set aside as a dead letter, its caller gets ErrFault, and its holder's result
// will be refused. It is ErrNotFound when the server is not locked.
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
		items, err := keys.lockedItems(tx)
		if err != nil {
			return err
		}
		why := because(ErrFault, "an operator ended the locked work")
		answers, err := dismiss(tx, items, why)
		if err != nil {
			return err
		}
		told, err := noticeTo(tx, held.beat)
		if err != nil {
			return err
		}
		told.write(tx)
		for _, item := range items {
			item.Stamp = held.record.Stamp
			letter := newLetter(result{work: &work{item: &item}, err: why})
			letter.Attempts = held.record.Attempt
			if err := keys.writeLetter(tx, &item, letter); err != nil {
				return err
			}
		}
		keys.clearLock(tx)
		setReady(tx, ref)
		return answers.write(tx, keys)
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

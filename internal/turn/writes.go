package turn

import (
	"cmp"
	"crypto/rand"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// write makes the batch's effect part of the transaction. All reads come before the first write.
func (t *Turn) write(tx backend.Tx, timers tenant.TimerReads) error {
	b := t.Batch
	outcomes := tenant.LookOutcomes(tx, b.answers)
	out, onces, err := t.look(tx, &timers)
	if err != nil {
		return err
	}
	if t.LockEnd, err = t.lookEnd(tx); err != nil {
		return err
	}
	for _, r := range b.Results {
		if err := t.settle(tx, r, onces); err != nil {
			return err
		}
	}
	if stored := t.Stored(); len(stored) > 0 {
		t.Keys.Queue().Remove(tx, stored...)
		for i, item := range stored {
			if i == 0 || stored[i-1].Lane != item.Lane {
				tx.Conflict(t.Keys.Attempts(item.Lane)) // or what another consumer counts meanwhile would stay
			}
			if t.Head.Attempts[item.Lane].IsOf(item) {
				t.Keys.ClearAttempt(tx, item.Lane)
			}
		}
	}
	if t.Head.Unreadable != (tenant.UnreadableRecord{}) { // it was read
		tx.Clear(t.Keys.Unreadable().Only())
	}
	t.writeState(tx)
	if !b.resets { // else all timers are gone, those of this turn too
		if err := t.Keys.WriteTimers(tx, t.Ref, timers, b.timers); err != nil {
			return err
		}
	}
	if b.Locks {
		if err := t.writeLock(tx); err != nil {
			return err
		}
	}
	if err := tenant.WriteParcels(tx, b.Parcels); err != nil {
		return err
	}
	for _, o := range outcomes {
		if err := o.Write(tx); err != nil {
			return err
		}
	}
	if err := execute(tx, b.statements); err != nil {
		return err
	}
	if !t.recalled { // then they need none, see recall.go
		tx.Conflict(t.Keys.Version())
		tx.Conflict(t.Keys.Fence())
		tx.Conflict(t.Keys.Pin())
		tx.Conflict(t.Keys.Paused())
	}
	if err := t.LockEnd.Write(tx, t.Keys, t.Ref); err != nil {
		return err
	}
	t.part(tx)
	return out.Write(tx)
}

// execute has statements run in the commit.
func execute(tx backend.Tx, statements []backend.Statement) error {
	if len(statements) == 0 {
		return nil
	}
	e, ok := tx.(backend.Execer)
	if !ok {
		return &backend.StatementError{SQL: statements[0].SQL, Cause: backend.ErrNoSQL}
	}
	for _, s := range statements {
		e.Exec(s)
	}
	return nil
}

// lookEnd reads what has to be known to end locked work before its time, by Unlock or by Reset. Work that ends with this
// turn is none.
func (t *Turn) lookEnd(tx backend.Reader) (end tenant.LockEnd, err error) {
	b := t.Batch
	if b.Released() || b.unlocks == nil && !b.resets {
		return end, nil
	}
	end, err = t.Keys.EndLock(tx, t.Head.Lock, cmp.Or(b.unlocks, tenant.ErrKilled), t.Env.Process.HasSeen)
	end.SetsAside = b.unlocks != nil && !end.IsCall()
	return end, err
}

// look does the reads that the writes need.
func (t *Turn) look(tx backend.Tx, timers *tenant.TimerReads) (out tenant.Outbox, onces tenant.OnceReads, err error) {
	b := t.Batch
	for _, r := range b.Results {
		if !r.Declined {
			onces.Start(tx, t.Keys, r.Envelope)
			t.Mine = append(t.Mine, out.Add(t.Env.Process.ID, r.conclusion().Answers())...)
		}
	}
	t.Mine = append(t.Mine, out.Add(t.Env.Process.ID, b.answers)...)
	for name := range b.timers {
		timers.Start(tx, t.Keys, name)
	}
	for _, p := range b.Parcels {
		p.Look(tx)
	}
	err = out.DropGone(tx, t.Env.Process.HasSeen)
	if err == nil {
		t.Env.Process.Saw(out)
	}
	return out, onces, err
}

// settle writes what becomes of a message that was consumed: a dead letter for a cast that its handler refused, the
// outcome under its idempotency key, the end of the lock.
func (t *Turn) settle(tx backend.Tx, r Result, onces tenant.OnceReads) error {
	if r.Declined {
		return nil
	}
	if r.Released != nil {
		t.unlock(tx)
	}
	if r.Err != nil && !r.IsCall() {
		if err := t.Keys.WriteLetter(tx, r.Item, r.letter()); err != nil {
			return err
		}
		if r.Item == nil {
			t.Version = tx.Version() // names the letter
		}
	}
	switch {
	case r.stale, r.defers && !r.IsCall(): // nobody can answer it
		r.later = false
	case r.later && !r.defers: // the end of its locked work does
		return nil
	}
	return onces.Conclude(tx, t.Keys, r.conclusion())
}

// unlock ends the lock, and makes consumers look at what waited for it.
func (t *Turn) unlock(tx backend.Tx) {
	t.Keys.ClearLock(tx)
	tenant.SetReady(tx, t.Ref)
}

// writeLock locks the server for the last message of the batch.
func (t *Turn) writeLock(tx backend.Tx) error {
	r := t.Batch.Results[len(t.Batch.Results)-1]
	t.Taken = tenant.LockRecord{
		Name: r.Envelope.Name, Stamp: r.Item.Stamp, Key: rand.Text(), Since: time.Now().UnixMilli(), Attempt: 1,
		Limit: t.Def.Settings.WorkLimit,
	}
	t.Keys.Take(tx, t.Taken, t.Env.HolderName())
	t.Version = tx.Version()
	return tenant.SetLarge(tx, t.Keys.LockedMessage(), r.Item.Body)
}

// writeState stores the edits under a new version. A server that Init prepared exists, whatever it holds.
func (t *Turn) writeState(tx backend.Tx) {
	b := t.Batch
	created := t.Head.Version.IsZero() && t.Def.Init != nil && !b.fresh
	if b.resets {
		t.Keys.Reset(tx)
		t.Keys.ClearAttempts(tx)
		tenant.SetReady(tx, t.Ref) // who finds the queue empty forgets its counters
		return
	}
	if !created && len(b.edits) == 0 {
		return
	}
	writeEdits(tx, t.Keys.State(), b.edits)
	tx.Stamp(t.Keys.Version())
	t.stamped, t.Version = true, tx.Version()
	t.writeOwner(tx)
	if m := &t.Head.Meta; m.Created == 0 || m.Schema != t.Def.Version {
		if m.Created == 0 {
			label := t.Label()
			m.Created = time.Now().UnixMilli()
			if label != t.Head.Pin.Label { // it began under that of its type, and stays there
				t.Head.Pin = tenant.Pin{IsSet: true, Label: label}
				t.Keys.SetPin(tx, label)
			}
		}
		m.Schema = t.Def.Version
		tx.Set(t.Keys.Meta(), tenant.EncodeRecord(*m))
	}
}

// Stored is the items of the queue that the batch consumed.
func (t *Turn) Stored() []queue.Item {
	var items []queue.Item
	for _, r := range t.Batch.Results {
		if r.Item != nil && r.Released == nil {
			items = append(items, *r.Item)
		}
	}
	return items
}

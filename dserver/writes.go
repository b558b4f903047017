package dserver

import (
	"cmp"
	"crypto/rand"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// write makes the batch's effect part of the transaction. All reads come before the first write.
func (t *turn) write(tx backend.Tx, timers timerReads) error {
	b := t.batch
	outcomes := lookOutcomes(tx, b.answers)
	out, onces, err := t.look(tx, &timers)
	if err != nil {
		return err
	}
	if t.lockEnd, err = t.lookEnd(tx); err != nil {
		return err
	}
	for _, r := range b.results {
		if err := t.settle(tx, r, onces); err != nil {
			return err
		}
	}
	if stored := t.stored(); len(stored) > 0 {
		t.keys.queue().Remove(tx, stored...)
		for i, item := range stored {
			if i == 0 || stored[i-1].Lane != item.Lane {
				tx.Conflict(t.keys.attempts(item.Lane)) // or what another consumer counts meanwhile would stay
			}
			if t.head.attempts[item.Lane].isOf(item) {
				tx.Clear(t.keys.attempts(item.Lane).Only())
			}
		}
	}
	if t.head.unreadable != (unreadableRecord{}) { // it was read
		tx.Clear(t.keys.unreadable().Only())
	}
	t.writeState(tx)
	if !b.resets { // else all timers are gone, those of this turn too
		if err := t.keys.writeTimers(tx, t.s.ref(), timers, b.timers); err != nil {
			return err
		}
	}
	if b.locks {
		if err := t.writeLock(tx); err != nil {
			return err
		}
	}
	if err := writeParcels(tx, b.parcels); err != nil {
		return err
	}
	for _, o := range outcomes {
		if err := o.write(tx); err != nil {
			return err
		}
	}
	if !t.recalled { // then they need none, see recall.go
		tx.Conflict(t.keys.version())
		tx.Conflict(t.keys.fence())
	}
	if err := t.lockEnd.write(tx, t.keys, t.s.ref()); err != nil {
		return err
	}
	return out.write(tx)
}

// lookEnd reads what has to be known to end locked work before its time, by Unlock or by Reset. Work that ends with this
// turn is none.
func (t *turn) lookEnd(tx backend.Reader) (end lockEnd, err error) {
	b := t.batch
	if b.released() || b.unlocks == nil && !b.resets {
		return end, nil
	}
	end, err = t.keys.endLock(tx, t.head.lock, cmp.Or(b.unlocks, ErrKilled), t.c.process.hasSeen)
	end.setsAside = b.unlocks != nil && !end.isCall()
	return end, err
}

// look does the reads that the writes need.
func (t *turn) look(tx backend.Tx, timers *timerReads) (out outbox, onces onceReads, err error) {
	b := t.batch
	for _, r := range b.results {
		if !r.declined {
			onces.start(tx, t.keys, r.envelope)
			t.mine = append(t.mine, out.add(t.c.process.id, r.answers())...)
		}
	}
	t.mine = append(t.mine, out.add(t.c.process.id, b.answers)...)
	for name := range b.timers {
		timers.start(tx, t.keys, name)
	}
	for _, p := range b.parcels {
		p.look(tx)
	}
	err = out.dropGone(tx, t.c.process.hasSeen)
	if err == nil {
		t.c.process.saw(out)
	}
	return out, onces, err
}

// settle writes what becomes of a message that was consumed: a dead letter for a cast that its handler refused, the
// outcome under its idempotency key, the end of the lock.
func (t *turn) settle(tx backend.Tx, r result, onces onceReads) error {
	if r.declined {
		return nil
	}
	if r.released != nil {
		t.unlock(tx)
	}
	if r.err != nil && !r.isCall() {
		if err := t.keys.writeLetter(tx, r.item, newLetter(r)); err != nil {
			return err
		}
		if r.item == nil {
			t.version = tx.Version() // names the letter
		}
	}
	switch {
	case r.stale, r.defers && !r.isCall(): // nobody can answer it
		r.later = false
	case r.later && !r.defers: // the end of its locked work does
		return nil
	}
	return onces.conclude(tx, t.keys, r)
}

// unlock ends the lock, and makes consumers look at what waited for it.
func (t *turn) unlock(tx backend.Tx) {
	t.keys.clearLock(tx)
	setReady(tx, t.s.ref())
}

func (t tenant) clearLock(tx backend.Tx) {
	tx.Clear(t.lock().Only())
	tx.Clear(t.beat().Only())
	tx.Clear(t.fence().Only())
	tx.Clear(t.lockedMessage().Tree())
}

// writeLock locks the server for the last message of the batch.
func (t *turn) writeLock(tx backend.Tx) error {
	r := t.batch.results[len(t.batch.results)-1]
	t.key = rand.Text()
	tx.Set(t.keys.lock(), encodeRecord(lockRecord{
		Name: r.envelope.Name, Stamp: r.item.Stamp, Key: t.key, Since: time.Now().UnixMilli(), Attempt: 1,
	}))
	tx.Set(t.keys.beat(), []byte(t.c.holderName()))
	tx.Stamp(t.keys.fence())
	t.version = tx.Version()
	return setLarge(tx, t.keys.lockedMessage(), r.item.Body)
}

// writeState stores the edits under a new version. A server that Init prepared exists, whatever it holds.
func (t *turn) writeState(tx backend.Tx) {
	b := t.batch
	created := t.head.version.IsZero() && t.s.def.init != nil && !b.fresh
	if b.resets {
		t.keys.reset(tx)
		t.keys.clearAttempts(tx)
		setReady(tx, t.s.ref()) // who finds the queue empty forgets its counters
		return
	}
	if !created && len(b.edits) == 0 {
		return
	}
	writeEdits(tx, t.keys.state(), b.edits)
	tx.Stamp(t.keys.version())
	t.stamped, t.version = true, tx.Version()
	t.writeOwner(tx)
	if m := &t.head.meta; m.Created == 0 || m.Schema != t.s.def.version {
		if m.Created == 0 {
			m.Created = time.Now().UnixMilli()
		}
		m.Schema = t.s.def.version
		tx.Set(t.keys.meta(), encodeRecord(*m))
	}
}

// stored is the items of the queue that the batch consumed.
func (t *turn) stored() []queue.Item {
	var items []queue.Item
	for _, r := range t.batch.results {
		if r.item != nil && r.released == nil {
			items = append(items, *r.item)
		}
	}
	return items
}

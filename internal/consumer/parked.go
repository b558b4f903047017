package consumer

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Servers that cannot go on now: they wait for a back-off, for locked work, for a program that can handle their next
// message or read their state, or for an operator, as they have halted. Their marks would be read with each bell of their
// shard, so that many of them slow all others. So they leave the marks:
//
//  1. A consumer that could handle nothing of a marked server for parkAfter parks it: one transaction reads the mark, sees
//     that the server is as it was, and moves the mark to an index that no bell makes anyone read. Whatever gives a server
//     something to do sets its mark, and is a conflict with that read: then nothing is parked, and the server looked at.
//     Between processes SQLite compares values, and a mark that is set again is as it was: so the head is read as well.
//  2. Consumers read that index when they start, and each LookInterval, where it has rows (patrol). So a server whose consumer
//     dies is found by the others, as one with a mark is by those whose bell was not heard.
//  3. A server that has halted is in neither: only what sets its mark makes it go on. That is a message, an operator who
//     lets it go on, or takes away what is next.
//  4. Who confirms that the queue is empty removes the mark and the row, whichever is there.
//
// | dies | what is left |
// |---|---|
// | before the commit of 1 | the mark |
// | after it | the row, which others find within LookInterval; of a server that has halted nothing, and nothing is due |

// parkAfter is how long nothing could be handled before a server is parked: most waits are over by then, and cost nothing.
const parkAfter = time.Second

// parkedShare bounds the looks at the index: one comes after so many times what the last one took.
const parkedShare = 20

// park is step 1 for a turn that could handle nothing where something waits. next is what it would do else.
func (t *visit) park(next nextTurn) nextTurn {
	switch {
	case !t.Marked, next.now, t.c.steps != nil:
		return next
	case t.Batch != nil && len(t.Batch.Results) > 0, len(t.Head.Items) == 0 && !t.Head.Lock.IsHeld():
		return next
	}
	now, r := time.Now(), t.s.others()
	if r.stuck.IsZero() {
		r.stuck = now
	}
	if wait := t.c.parkAfter - now.Sub(r.stuck); wait > 0 {
		next.after = turn.Soonest(next.after, wait)
		return next
	}
	r.stuck = now // pushes to a server that stands still make it parked again and again, but not all the time
	t.c.unmark(t.s)
	moved, err := t.moveMark()
	switch {
	case err != nil:
		return t.failed(err)
	case !moved:
		t.c.Wake(t.Ref)
	}
	return next
}

// moveMark is the transaction of step 1. It reports false when the server is not as the turn has seen it.
func (t *visit) moveMark() (moved bool, err error) {
	ref, label, runs := t.Ref, t.Label(), 0
	place := tenant.ParkedRow(ref, label)
	err = t.c.DB.Transact(t.c.Base, func(tx backend.Tx) error {
		moved = false
		if runs++; runs > 1 { // it conflicted: the server has something to do
			return nil
		}
		mark, row, claim := tx.Get(tenant.ReadyMark(ref)), tx.Get(place), tx.Get(tenant.ReadyClaim(ref, t.c.Process.ID))
		pin := tx.Get(t.Keys.Pin()) // it moves the row
		var now tenant.Head
		if err := tenant.ReadHead(tx, t.Keys, &now, tenant.Known{}, false); err != nil {
			return err
		}
		isMarked, err := tenant.IsThere(mark)
		if err != nil {
			return err
		}
		isClaimed, err := tenant.IsThere(claim)
		if err != nil {
			return err
		}
		if _, err := pin.Get(); err != nil {
			return err
		}
		isParked, err := tenant.IsThere(row)
		if err != nil || !now.IsAs(&t.Head) {
			return err
		}
		moved = true
		switch {
		case !isMarked && !isClaimed:
		case len(now.Items) == 0: // then no claim says anything, as when it is confirmed to be empty
			tx.Clear(tenant.ReadyServer(ref).Tree())
		default: // nothing is begun here
			tx.Clear(tenant.ReadyMark(ref).Only())
			tx.Clear(tenant.ReadyClaim(ref, t.c.Process.ID).Only())
		}
		if !now.Pin.IsSet && label != "" { // it begins there, and the row is found by that
			t.Keys.SetPin(tx, label)
		}
		if label == "" && t.hasRow() { // what follows is instead of it
			tx.Clear(tenant.LabelRow(label, ref).Only())
		}
		switch halts := now.Halts(); {
		case halts && isParked:
			tx.Clear(place.Only())
		case !halts && !isParked && t.IsElsewhere():
			tx.Clear(tenant.ParkedRow(ref, "").Only()) // where it may stand if its type began elsewhere
			tenant.SetCalled(tx, ref, label)
		case !halts && !isParked:
			tx.Set(place, nil)
		}
		return nil
	})
	if moved && err == nil {
		t.c.caution.claims.Delete(ref)
		t.forgetRow(label == "")
	}
	return moved, err
}

// scanParked is step 2 for one shard.
func (c *consumer) scanParked(ctx context.Context, shard int64) error {
	parse := func(rows, key backend.Key) (tenant.Ref, bool, error) {
		ref, err := tenant.ParseParked(rows, key)
		return ref, true, err
	}
	_, err := c.eachRow(ctx, tenant.ParkedShard(shard), nil, parse, func(ref tenant.Ref) error {
		if err := c.awaitRoom(ctx); err != nil {
			return err
		}
		c.wakeParked(ref)
		return nil
	})
	return err
}

// wakeParked looks at a server that waits, unless this consumer will do that by itself.
func (c *consumer) wakeParked(ref tenant.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.types[ref.Type].servers[ref.ID]
	if s != nil && (s.scheduled || s.alarm != nil) || c.locks.IsHolding(ref) {
		return
	}
	c.lookAt(ref)
}

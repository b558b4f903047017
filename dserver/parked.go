package dserver

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Servers that cannot go on now: they wait for a back-off, for locked work, for a program that can handle their next
// message or read their state, or for an operator, as they have halted. Their marks would be read with each bell of their
// shard, so that many of them slow all others. So they leave the marks:
//
//  1. A consumer that could handle nothing of a marked server for parkAfter parks it: one transaction reads the mark, sees
//     that the server is as it was, and moves the mark to an index that no bell makes anyone read. Whatever gives a server
//     something to do sets its mark, and is a conflict with that read: then nothing is parked, and the server looked at.
//  2. Consumers read that index when they start, and each lookInterval. So a server whose consumer dies is found by the
//     others, as one with a mark is by those whose bell was not heard.
//  3. A server that has halted is in neither: only what sets its mark makes it go on. That is a message, an operator who
//     lets it go on, or takes away what is next.
//  4. Who confirms that the queue is empty removes the mark and the row, whichever is there.
//
// | dies | what is left |
// |---|---|
// | before the commit of 1 | the mark |
// | after it | the row, which others find within lookInterval; of a server that has halted nothing, and nothing is due |

// parkAfter is how long nothing could be handled before a server is parked: most waits are over by then, and cost nothing.
const parkAfter = time.Second

// parkedShare bounds the looks at the index: one comes after so many times what the last one took.
const parkedShare = 20

// park is step 1 for a turn that could handle nothing where something waits. next is what it would do else.
func (t *turn) park(next nextTurn) nextTurn {
	switch {
	case !t.marked, next.now, t.c.steps != nil:
		return next
	case t.batch != nil && len(t.batch.results) > 0, len(t.head.items) == 0 && !t.head.lock.isHeld():
		return next
	}
	now, r := time.Now(), t.s.trouble()
	if r.stuck.IsZero() {
		r.stuck = now
	}
	if wait := t.c.parkAfter - now.Sub(r.stuck); wait > 0 {
		next.after = soonest(next.after, wait)
		return next
	}
	r.stuck = now // pushes to a server that stands still make it parked again and again, but not all the time
	t.c.unmark(t.s)
	moved, err := t.moveMark()
	switch {
	case err != nil:
		return t.failed(err)
	case !moved:
		t.c.wake(t.s.ref())
	}
	return next
}

// moveMark is the transaction of step 1. It reports false when the server is not as the turn has seen it.
func (t *turn) moveMark() (moved bool, err error) {
	ref, runs := t.s.ref(), 0
	err = t.c.db.Transact(t.c.base, func(tx backend.Tx) error {
		moved = false
		if runs++; runs > 1 { // it conflicted: the server has something to do
			return nil
		}
		mark, row, claim := tx.Get(readyMark(ref)), tx.Get(parked(ref)), tx.Get(readyClaim(ref, t.c.process.id))
		var now head
		if err := readHead(tx, t.keys, &now, state{}, true); err != nil {
			return err
		}
		isMarked, err := isThere(mark)
		if err != nil {
			return err
		}
		isClaimed, err := isThere(claim)
		if err != nil {
			return err
		}
		isParked, err := isThere(row)
		if err != nil || !now.isAs(&t.head) {
			return err
		}
		moved = true
		switch {
		case !isMarked && !isClaimed:
		case len(now.items) == 0: // then no claim says anything, as when it is confirmed to be empty
			tx.Clear(readyServer(ref).Tree())
		default: // nothing is begun here
			tx.Clear(readyMark(ref).Only())
			tx.Clear(readyClaim(ref, t.c.process.id).Only())
		}
		switch halts := now.halts(); {
		case halts && isParked:
			tx.Clear(parked(ref).Only())
		case !halts && !isParked:
			tx.Set(parked(ref), nil)
		}
		return nil
	})
	if moved && err == nil {
		t.c.caution.claims.Delete(ref)
	}
	return moved, err
}

func isThere(f backend.Future[[]byte]) (bool, error) {
	value, err := f.Get()
	return value != nil, err
}

// isAs reports whether nothing has changed from one look to another that decides about what can be handled.
func (h *head) isAs(seen *head) bool {
	sameItem := func(a, b queue.Item) bool { return a.Stamp == b.Stamp && a.Lane == b.Lane }
	return h.version == seen.version && bytes.Equal(h.about, seen.about) && h.attempts == seen.attempts &&
		h.lock == seen.lock && h.killed == seen.killed && h.all == seen.all &&
		slices.EqualFunc(h.items, seen.items, sameItem)
}

// halts reports whether nothing can be handled before an operator acts, or another message comes.
func (h *head) halts() bool {
	if !h.killed.IsZero() || h.lock.isHeld() && !h.lock.record.Halted {
		return false
	}
	var next [2]*queue.Item
	for i := range slices.Backward(h.items) {
		next[h.items[i].Lane] = &h.items[i]
	}
	if h.lock.isHeld() {
		next[queue.Normal] = nil
	}
	for lane, item := range next {
		if item != nil && (!h.attempts[lane].Halts || !h.attempts[lane].isOf(*item)) {
			return false
		}
	}
	return true
}

// clearReady removes what leads consumers to a server.
func clearReady(tx backend.Tx, r Ref) {
	tx.Clear(readyServer(r).Tree())
	tx.Clear(parked(r).Only())
}

// scanParked is step 2 for one shard.
func (c *consumer) scanParked(ctx context.Context, typ string, shard int64) error {
	rows := parkedShard(typ, shard)
	return c.eachKey(ctx, rows, nil, func(key backend.Key) error {
		id, err := parseParked(rows, key)
		if err == nil {
			err = c.awaitRoom(ctx)
		}
		if err == nil {
			c.wakeParked(Ref{typ, id})
		}
		return err
	})
}

func parseParked(shard, key backend.Key) (id string, err error) {
	rest, _ := key.CutPrefix(shard)
	elements, err := rest.Elements()
	if err != nil {
		return "", err
	}
	if len(elements) == 1 {
		if id, ok := elements[0].(string); ok {
			return id, nil
		}
	}
	return "", fmt.Errorf("%w: the row %v in the index of servers that wait", backend.ErrCorrupt, key)
}

// wakeParked looks at a server that waits, unless this consumer will do that by itself.
func (c *consumer) wakeParked(ref Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.types[ref.Type].servers[ref.ID]
	if s != nil && (s.scheduled || s.timer != nil) || c.holding[ref] != nil {
		return
	}
	c.lookAt(ref)
}

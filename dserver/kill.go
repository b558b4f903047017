package dserver

import (
	"context"
	"fmt"
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/queue"
)

// Killing a server is one commit, however long its queue:
//
//  1. Everything but the queue is cleared. That covers the version and the lock, so turns in flight abort.
//  2. The head of the queue is removed, and its callers are told. When that was all of it, what is left of the server
//     goes too; a push meanwhile is a conflict then.
//  3. Else the commit's own stamp is written as the killed record: all that was pushed before it is dead, also what was
//     pushed while this transaction ran. Turns leave a server with that record alone.
//  4. The burial: the dead messages are removed and their callers told, a page in each transaction, the last of which
//     clears the record. The killer does that, and so does any consumer that meets the record.
//
// What is pushed after the kill belongs to a new server, which begins with the next turn after the burial. Its version
// is the stamp of a later commit, so no state of the old one that a consumer remembers is taken for it.
//
// | dies | what is left |
// |---|---|
// | before the commit of 1 to 3 | nothing happened |
// | after it, or in the burial | the server is dead; any consumer, or another Kill, buries the rest and tells its callers |
// | commit unknown | the backend finds out; if ctx ended meanwhile, Kill says so and may be called again |

// patientRuns is how often a kill tries to find the queue quiet, before it takes the way on which pushes don't matter.
const patientRuns = 3

// Kill removes everything: the state, the lock, timers, idempotency keys, dead letters, and the queue, whose callers
// get ErrKilled. When it returns, the callers were told, unless ctx ended meanwhile: then consumers tell them. Messages
// that are sent later find a new server. Whom the old state knew by a From is not told: its handlers are gone.
func (s *DServer[S]) Kill(ctx context.Context) error {
	ref, runs, buried := s.Ref(), 0, false
	err := s.change(ctx, "Kill", func(tx backend.Tx, keys tenant) (err error) {
		runs++
		buried, err = kill(tx, keys, ref, runs <= patientRuns)
		return err
	})
	if err != nil || buried {
		return err
	}
	if err := bury(ctx, s.db, ref); err != nil {
		return nil // it is dead all the same, and its ready mark is set
	}
	processOf(s.db).wake(ref)
	return nil
}

// kill is the steps 1 to 3. It reports whether there is nothing left to bury.
func kill(tx backend.Tx, keys tenant, ref Ref, patient bool) (buried bool, err error) {
	q := keys.queue()
	items, err := q.Read(tx, queue.Item{}, maxBatch)
	if err != nil {
		return false, err
	}
	locked, err := keys.lockedItems(tx)
	if err != nil {
		return false, err
	}
	delayed, err := keys.delayedItems(tx, patient)
	if err != nil {
		return false, err
	}
	answers, err := dismiss(tx, slices.Concat(locked, delayed, items), ErrKilled)
	if err != nil {
		return false, err
	}
	if len(items) > 0 {
		q.Remove(tx, items...)
	}
	if patient {
		if buried, err = q.IsEmpty(tx); err != nil {
			return false, err
		}
	}
	if buried {
		tx.Clear(keys.key.Tree())
		tx.Clear(readyServer(ref).Tree())
		return true, answers.out.write(tx)
	}
	for _, r := range keys.besideQueue() {
		tx.Clear(r)
	}
	tx.Stamp(keys.killed())
	setReady(tx, ref)
	return false, answers.out.write(tx)
}

// bury is step 4, until nothing is left to do.
func bury(ctx context.Context, db backend.Database, ref Ref) error {
	for done := false; !done; {
		runs := 0
		err := db.Transact(ctx, func(tx backend.Tx) (err error) {
			runs++
			done, err = buryPage(tx, ref, runs <= patientRuns)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// buryPage removes the first dead messages, and with the last of them the record.
func buryPage(tx backend.Tx, ref Ref, patient bool) (done bool, err error) {
	keys := tenantOf(ref)
	q := keys.queue()
	killed, err := keys.killedAt(tx)
	if err != nil || killed.IsZero() {
		return true, err
	}
	items, err := q.ReadBefore(tx, killed, maxBatch)
	if err != nil {
		return false, err
	}
	answers, err := dismiss(tx, items, ErrKilled)
	if err != nil {
		return false, err
	}
	if len(items) > 0 {
		q.Remove(tx, items...)
	}
	rest, err := q.ReadBefore(tx, killed, 1)
	if err != nil {
		return false, err
	}
	if len(rest) == 0 {
		tx.Clear(keys.killed().Only())
		if err := forgetQueue(tx, keys, ref, patient); err != nil {
			return false, err
		}
	}
	return len(rest) == 0, answers.out.write(tx)
}

// forgetQueue clears the counters and the ready mark of a queue that nobody pushes to, so that a server that is gone
// leaves nothing.
func forgetQueue(tx backend.Tx, keys tenant, ref Ref, patient bool) error {
	if !patient {
		return nil
	}
	empty, err := keys.queue().IsEmpty(tx)
	if empty {
		tx.Clear(keys.key.Str(keyQueue).Tree())
		tx.Clear(readyServer(ref).Tree())
	}
	return err
}

// What of the messages with After a kill reads, to tell their callers. One transaction has room for so many answers.
const (
	maxDelayed      = 10_000
	maxDelayedBytes = 16 << 20
)

// delayedItems is the messages that wait for their time. A patient one conflicts with those that are sent meanwhile.
func (t tenant) delayedItems(tx backend.Reader, patient bool) (items []queue.Item, err error) {
	pairs, err := tx.GetRange(t.key.Str(keyLater).Below(),
		backend.RangeOptions{Limit: maxDelayed, Bytes: maxDelayedBytes, Snapshot: !patient}).Get()
	for err == nil && len(pairs) > 0 {
		var record delayed
		if pairs, err = cutLarge(pairs, &record); err != nil {
			return nil, err
		}
		for _, body := range record.Items {
			items = append(items, queue.Item{Body: body})
		}
	}
	return items, err
}

// cutLarge decodes the record that pairs begin with, and returns what follows it: nothing, when a limit cut it off.
func cutLarge(pairs []backend.KeyValue, record any) ([]backend.KeyValue, error) {
	n, err := chunk.Count(pairs[0].Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", backend.ErrCorrupt, pairs[0].Key, err)
	}
	if n > len(pairs) {
		return nil, nil
	}
	value, err := largeRead{pairs[0].Key, backend.Ready(pairs[:n], nil)}.get()
	if err != nil {
		return nil, err
	}
	return pairs[n:], decodeRecord(value, record)
}

// killedAt is when the server was killed whose messages are not buried yet; zero when there is none.
func (t tenant) killedAt(tx backend.Reader) (backend.Versionstamp, error) {
	value, err := tx.Get(t.killed()).Get()
	if err != nil {
		return backend.Versionstamp{}, err
	}
	return backend.StampOf(value)
}

// besideQueue is all keys of the tenant that are not its queue's.
func (t tenant) besideQueue() []backend.Range {
	all, q := t.key.Tree(), t.key.Str(keyQueue).Tree()
	return []backend.Range{{Begin: all.Begin, End: q.Begin}, {Begin: q.End, End: all.End}}
}

// bury ends the turn that met a killed server.
func (t *turn) bury() nextTurn {
	if err := bury(t.c.base, t.c.db, t.s.ref()); err != nil {
		return t.failed(err)
	}
	return nextTurn{now: true}
}

// Reset forgets the state, the lock and the timers; the queue stays and its next message finds a new server (Init). A
// message that faulted is tried anew. The caller of locked work gets ErrKilled.
func (s *DServer[S]) Reset(ctx context.Context) error {
	ref := s.Ref()
	return s.change(ctx, "Reset", func(tx backend.Tx, keys tenant) error {
		locked, err := keys.lockedItems(tx)
		if err != nil {
			return err
		}
		answers, err := dismiss(tx, locked, ErrKilled)
		if err != nil {
			return err
		}
		keys.reset(tx)
		keys.clearAttempts(tx)
		setReady(tx, ref)
		return answers.write(tx, keys)
	})
}

// reset clears the state, the lock and the timers. Rows in the index of what is due find nothing when their time comes.
// The version's clear is a write, so turns in flight abort.
func (t tenant) reset(tx backend.Tx) {
	tx.Clear(t.state().Tree())
	tx.Clear(t.meta().Only())
	tx.Clear(t.version().Only())
	tx.Clear(t.key.Str(keyTimer).Tree())
	t.clearLock(tx)
}

// clearAttempts makes what faulted be tried anew.
func (t tenant) clearAttempts(tx backend.Tx) {
	tx.Clear(t.attempts(queue.Priority).Only())
	tx.Clear(t.attempts(queue.Normal).Only())
}

// lockedItems is the message that the lock was taken for, if there is one; a change is a conflict.
func (t tenant) lockedItems(tx backend.Reader) ([]queue.Item, error) {
	body, err := readLarge(tx, t.lockedMessage()).get()
	if err != nil || body == nil {
		return nil, err
	}
	return []queue.Item{{Body: body}}, nil
}

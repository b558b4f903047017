package dserver

import (
	"context"
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Killing a server is one commit, however long its queue:
//
//  1. Everything but what waits is cleared: the queue, and what was sent with After. That covers the version and the lock, so turns in flight abort.
//  2. The head of the queue is removed, and its callers are told. When that was all of it, what is left of the server
//     goes too; a push meanwhile is a conflict then.
//  3. Else the commit's own stamp is written as the killed record: all that was pushed before it is dead, also what was
//     pushed while this transaction ran. Turns leave a server with that record alone.
//  4. The burial: the dead messages, those sent with After as well, are removed and their callers told, a page in each
//     transaction, the last of which clears the record. The killer does that, and so does any consumer that meets the
//     record. Until then a dead message whose time comes is not put on the queue.
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
// that are sent later find a new server. A caller whose From (ReplyLater) was kept in the old state is not told: that
// state is removed, and no handler runs that could answer. It waits until its ctx ends.
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
	locked, told, err := keys.lookLocked(tx)
	if err != nil {
		return false, err
	}
	later, err := keys.readDelayed(tx, keys.key.Str(keyLater).Below(), !patient)
	if err != nil {
		return false, err
	}
	if len(items) > 0 {
		q.Remove(tx, items...)
	}
	told.write(tx)
	if patient && later.last {
		if buried, err = q.IsEmpty(tx); err != nil {
			return false, err
		}
	}
	dead := slices.Concat(locked, items)
	if buried {
		dead = append(dead, later.all()...)
	}
	answers, err := dismiss(tx, dead, ErrKilled)
	if err != nil {
		return false, err
	}
	if buried {
		tx.Clear(keys.key.Tree())
		clearReady(tx, ref)
		return true, answers.out.write(tx)
	}
	for _, r := range keys.besideWaiting() {
		tx.Clear(r)
	}
	tx.Stamp(keys.killed())
	setReady(tx, ref)
	return false, answers.out.write(tx)
}

// burial is how far a burial has come with what was sent with After. What came after the kill stays, so the pages cannot
// all begin at the first.
type burial struct {
	killed backend.Versionstamp // by which kill; another one begins anew
	rest   backend.Range
	done   bool
}

// bury is step 4, until nothing is left to do.
func bury(ctx context.Context, db backend.Database, ref Ref) error {
	var b burial
	for !b.done {
		var next burial
		err := db.Transact(ctx, func(tx backend.Tx) (err error) {
			next, err = b.page(tx, ref)
			return err
		})
		if err != nil {
			return err
		}
		b = next
	}
	return nil
}

// page removes some of the dead messages, and with the last of them the record.
func (b burial) page(tx backend.Tx, ref Ref) (next burial, err error) {
	keys := tenantOf(ref)
	q := keys.queue()
	killed, err := keys.killedAt(tx)
	if err != nil || killed.IsZero() {
		return burial{done: true}, err
	}
	if b.killed != killed {
		b = burial{killed: killed, rest: keys.key.Str(keyLater).Below()}
	}
	items, err := q.ReadBefore(tx, killed, maxBatch)
	if err != nil {
		return b, err
	}
	later, err := keys.readDelayed(tx, b.rest, true)
	if err != nil {
		return b, err
	}
	if later, err = later.of(tx, keys, killed, false); err != nil {
		return b, err
	}
	answers, err := dismiss(tx, append(items, later.all()...), ErrKilled)
	if err != nil {
		return b, err
	}
	if len(items) > 0 {
		q.Remove(tx, items...)
	}
	for _, d := range later.found {
		keys.clearDelayed(tx, d.word)
	}
	b.rest = later.rest
	left, err := q.ReadBefore(tx, killed, 1)
	if err != nil {
		return b, err
	}
	if b.done = later.last && len(left) == 0; b.done {
		tx.Clear(keys.killed().Only())
		if err := forgetQueue(tx, keys, ref); err != nil {
			return b, err
		}
	}
	return b, answers.out.write(tx)
}

// forgetQueue clears the counters and the ready mark of a queue that is empty, so that a server that is gone leaves
// nothing. A push meanwhile is a conflict, once: then the queue is not empty, and nobody takes from it before the burial.
func forgetQueue(tx backend.Tx, keys tenant, ref Ref) error {
	empty, err := keys.queue().IsEmpty(tx)
	if empty {
		tx.Clear(keys.key.Str(keyQueue).Tree())
		clearReady(tx, ref)
	}
	return err
}

// What a page holds of the messages with After: more than one of any size.
const (
	maxDelayedRows  = 256
	maxDelayedBytes = 8 << 20
)

// delayedPage is messages that wait for their time.
type delayedPage struct {
	found []delayedFound
	rest  backend.Range // where the next page is
	last  bool          // there is none
}

type delayedFound struct {
	word   string
	record delayed // without items when it is damaged: then nobody can be told
}

func (p delayedPage) all() (items []queue.Item) {
	for _, d := range p.found {
		for _, body := range d.record.Items {
			items = append(items, queue.Item{Body: body})
		}
	}
	return items
}

// of leaves only what was sent after a kill, or only what was sent before it.
func (p delayedPage) of(tx backend.Reader, keys tenant, killed backend.Versionstamp, alive bool) (delayedPage, error) {
	sent := make([]backend.Future[[]byte], len(p.found))
	for i, d := range p.found {
		sent[i] = tx.Get(keys.sent(d.word))
	}
	var left []delayedFound
	for i, d := range p.found {
		is, err := isAfter(sent[i], killed)
		if err != nil {
			return p, err
		}
		if is == alive {
			left = append(left, d)
		}
	}
	p.found = left
	return p, nil
}

// isAfter reports whether what was sent then belongs to the server that came after a kill. Without a kill it does.
func isAfter(sent backend.Future[[]byte], killed backend.Versionstamp) (bool, error) {
	value, err := sent.Get()
	if err != nil {
		return false, err
	}
	stamp, err := backend.StampOf(value)
	return killed.IsZero() || stamp.Compare(killed) > 0, err
}

func (t tenant) clearDelayed(tx backend.Tx, word string) {
	tx.Clear(t.delayed(word).Tree())
	tx.Clear(t.sent(word).Only())
}

// readDelayed reads the first messages of a range that wait for their time. Unless it is a snapshot, it conflicts with
// those that are sent meanwhile.
func (t tenant) readDelayed(tx backend.Reader, r backend.Range, snapshot bool) (p delayedPage, err error) {
	pairs, err := tx.GetRange(r, backend.RangeOptions{Limit: maxDelayedRows, Bytes: maxDelayedBytes, Snapshot: snapshot}).Get()
	if err != nil {
		return p, err
	}
	p.rest, p.last = r, len(pairs) < maxDelayedRows && bytesOf(pairs) < maxDelayedBytes
	for len(pairs) > 0 {
		word, err := childOf(t.key.Str(keyLater), pairs[0].Key)
		if err != nil {
			return p, err
		}
		tree := t.delayed(word).Tree()
		n := 1
		for n < len(pairs) && pairs[n].Key.Compare(tree.End) < 0 {
			n++
		}
		if n == len(pairs) && !p.last && len(p.found) > 0 {
			break // it may not be whole
		}
		d := delayedFound{word: word}
		if value, err := (largeRead{t.delayed(word), backend.Ready(pairs[:n], nil)}).get(); err == nil {
			_ = decodeRecord(value, &d.record) // one that is damaged is removed as well
		}
		p.found, p.rest.Begin, pairs = append(p.found, d), tree.End, pairs[n:]
	}
	return p, nil
}

// killedAt is when the server was killed whose messages are not buried yet; zero when there is none.
func (t tenant) killedAt(tx backend.Reader) (backend.Versionstamp, error) {
	value, err := tx.Get(t.killed()).Get()
	if err != nil {
		return backend.Versionstamp{}, err
	}
	return backend.StampOf(value)
}

// besideWaiting is all keys of the tenant but its queue's, and those of what was sent with After.
func (t tenant) besideWaiting() (beside []backend.Range) {
	all := t.key.Tree()
	for _, section := range []string{keyLater, keySent, keyQueue} { // in the order of the keys
		waits := t.key.Str(section).Tree()
		beside = append(beside, backend.Range{Begin: all.Begin, End: waits.Begin})
		all.Begin = waits.End
	}
	return append(beside, all)
}

// bury ends the turn that met a killed server.
func (t *turn) bury() nextTurn {
	if err := bury(t.c.base, t.c.db, t.s.ref()); err != nil {
		return t.failed(err)
	}
	return nextTurn{now: true}
}

// Reset removes the state, the lock and the timers. The queue stays, and its next message finds a new server (Init). A
// message that faulted has all its attempts again. The caller of locked work gets ErrKilled.
func (s *DServer[S]) Reset(ctx context.Context) error {
	ref := s.Ref()
	return s.change(ctx, "Reset", func(tx backend.Tx, keys tenant) error {
		held, err := readLock(tx, keys)
		if err != nil {
			return err
		}
		end, err := keys.endLock(tx, held, ErrKilled, nil)
		if err != nil {
			return err
		}
		keys.reset(tx)
		keys.clearAttempts(tx)
		setReady(tx, ref)
		return end.write(tx, keys, ref)
	})
}

// reset clears the state, the lock and the timers. Rows in the index of what is due find nothing when their time comes.
// The version's clear is a write, so turns in flight abort.
func (t tenant) reset(tx backend.Tx) {
	tx.Clear(t.state().Tree())
	tx.Clear(t.meta().Only())
	tx.Clear(t.owner().Only())
	tx.Clear(t.unreadable().Only())
	tx.Clear(t.version().Only())
	tx.Clear(t.key.Str(keyTimer).Tree())
	t.clearLock(tx)
}

// clearAttempts makes what faulted be tried anew.
func (t tenant) clearAttempts(tx backend.Tx) {
	tx.Clear(t.attempts(queue.Priority).Only())
	tx.Clear(t.attempts(queue.Normal).Only())
}

// lookLocked is lockedItems, with who has to be told that the lock ends.
func (t tenant) lookLocked(tx backend.Reader) ([]queue.Item, notice, error) {
	items, err := t.lockedItems(tx)
	if err != nil || len(items) == 0 {
		return nil, notice{}, err
	}
	held, err := readLock(tx, t)
	if err != nil {
		return nil, notice{}, err
	}
	told, err := noticeTo(tx, held.beat)
	return items, told, err
}

// lockedItems is the message that the lock was taken for, if there is one; a change is a conflict.
func (t tenant) lockedItems(tx backend.Reader) ([]queue.Item, error) {
	body, err := readLarge(tx, t.lockedMessage()).get()
	if err != nil || body == nil {
		return nil, err
	}
	return []queue.Item{{Body: body}}, nil
}

package tenant

import (
	"context"
	"slices"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Killing a server is one commit, however long its queue:
//
//  1. Everything is cleared but what waits, which is the queue, and what was sent with After. That covers the version and
//     the lock, so turns in flight abort.
//     It is pinned nowhere any more, and whoever lists the label where its type begins is called.
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

// Kill is the steps 1 to 3. It reports whether there is nothing left to bury.
func Kill(tx backend.Tx, keys Keys, ref Ref, patient bool) (buried bool, err error) {
	q := keys.Queue()
	items, err := q.Read(tx, queue.Item{}, MaxBatch)
	if err != nil {
		return false, err
	}
	locked, told, err := keys.lookLocked(tx)
	if err != nil {
		return false, err
	}
	later, err := keys.ReadDelayed(tx, keys.Key.Str(KeyLater).Below(), !patient)
	if err != nil {
		return false, err
	}
	pin, err := keys.ReadPin(tx)
	if err != nil {
		return false, err
	}
	if len(items) > 0 {
		q.Remove(tx, items...)
	}
	told.Write(tx)
	if patient && later.Last {
		if buried, err = q.IsEmpty(tx); err != nil {
			return false, err
		}
	}
	dead := slices.Concat(locked, items)
	if buried {
		dead = append(dead, later.All()...)
	}
	answers, err := Dismiss(tx, dead, ErrKilled)
	if err != nil {
		return false, err
	}
	tx.Clear(TroubleRow(ref).Only())
	if pin.IsSet {
		if err := unpin(tx, ref, pin.Label); err != nil {
			return false, err
		}
	}
	if buried {
		tx.Clear(keys.Key.Tree())
		ClearReady(tx, ref)
		return true, answers.out.Write(tx)
	}
	for _, r := range keys.besideWaiting() {
		tx.Clear(r)
	}
	tx.Stamp(keys.killed())
	SetReady(tx, ref)
	return false, answers.out.Write(tx)
}

// unpin takes a server from where it was pinned: it begins anew where servers of its type do. Who lists that label may have left
// it alone for as long as it was another's, and is called.
func unpin(tx backend.Tx, ref Ref, label string) error {
	tx.Clear(LabelRow(label, ref).Only())
	crew, err := AblesOf(tx, ref.Type)
	called := []string{label}
	for _, a := range crew {
		if !slices.Contains(called, a.Begins) && len(Listing(crew, a.Begins)) > 0 { // else nobody takes the row away
			SetCalled(tx, ref, a.Begins)
			called = append(called, a.Begins)
		}
	}
	return err
}

// burial is how far a burial has come with what was sent with After. What came after the kill stays, so the pages cannot
// all begin at the first.
type burial struct {
	killed backend.Versionstamp // by which kill; another one begins anew
	rest   backend.Range
	done   bool
}

// Bury is step 4, until nothing is left to do.
func Bury(ctx context.Context, db backend.Database, ref Ref) error {
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
	keys := KeysOf(ref)
	q := keys.Queue()
	killed, err := keys.KilledAt(tx)
	if err != nil || killed.IsZero() {
		return burial{done: true}, err
	}
	if b.killed != killed {
		b = burial{killed: killed, rest: keys.Key.Str(KeyLater).Below()}
	}
	items, err := q.ReadBefore(tx, killed, MaxBatch)
	if err != nil {
		return b, err
	}
	later, err := keys.ReadDelayed(tx, b.rest, true)
	if err != nil {
		return b, err
	}
	if later, err = later.Of(tx, keys, killed, false); err != nil {
		return b, err
	}
	answers, err := Dismiss(tx, append(items, later.All()...), ErrKilled)
	if err != nil {
		return b, err
	}
	if len(items) > 0 {
		q.Remove(tx, items...)
	}
	for _, d := range later.Found {
		keys.ClearDelayed(tx, d.Word)
	}
	b.rest = later.Rest
	left, err := q.ReadBefore(tx, killed, 1)
	if err != nil {
		return b, err
	}
	if b.done = later.Last && len(left) == 0; b.done {
		tx.Clear(keys.killed().Only())
		if err := forgetQueue(tx, keys, ref); err != nil {
			return b, err
		}
	}
	return b, answers.out.Write(tx)
}

// forgetQueue clears the counters and the ready mark of a queue that is empty, so that a server that is gone leaves
// nothing. A push meanwhile is a conflict, once: then the queue is not empty, and nobody takes from it before the burial.
func forgetQueue(tx backend.Tx, keys Keys, ref Ref) error {
	empty, err := keys.Queue().IsEmpty(tx)
	if empty {
		keys.ForgetQueue(tx)
		ClearReady(tx, ref)
	}
	return err
}

// ForgetQueue clears the counters of a queue that is empty.
func (t Keys) ForgetQueue(tx backend.Tx) { tx.Clear(t.Key.Str(KeyQueue).Tree()) }

// besideWaiting is all keys of the tenant but its queue's, and those of what was sent with After.
func (t Keys) besideWaiting() (beside []backend.Range) {
	all := t.Key.Tree()
	for _, section := range []string{KeyLater, KeySent, KeyQueue} { // in the order of the keys
		waits := t.Key.Str(section).Tree()
		beside = append(beside, backend.Range{Begin: all.Begin, End: waits.Begin})
		all.Begin = waits.End
	}
	return append(beside, all)
}

// Reset clears the state, the lock and the timers. Rows in the index of what is due find nothing when their time comes.
// The version's clear is a write, so turns in flight abort.
func (t Keys) Reset(tx backend.Tx) {
	tx.Clear(t.State().Tree())
	tx.Clear(t.Meta().Only())
	tx.Clear(t.Owner().Only())
	tx.Clear(t.Unreadable().Only())
	tx.Clear(t.Version().Only())
	tx.Clear(t.Key.Str(KeyTimer).Tree())
	t.ClearLock(tx)
}

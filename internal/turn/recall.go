package turn

import (
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// A turn with local arrivals alone reads what this consumer has just written: on a store across a network that is two
// of its three round trips. Where the store's transactions can recall, such a turn reads nothing:
//
//  1. The owner record of a server names the consumer that wrote its state last, if it may recall. A turn that writes
//     the state and finds another owner takes the record over, or clears it where it cannot recall.
//  2. A turn of the owner that finds the server quiet (no stored message, no lock, no attempts, not killed) has all
//     records and the queue as a conflict. Its commit proves that they were so until then.
//  3. The next turn recalls that commit: the records but the version, and the queue, must be as they were. Its commit
//     proves it again. It does not need the version: whoever else writes the state changes the owner record, and whoever
//     clears the state clears records beside it.
//  4. When it is not so, the attempt is lost, and the turn reads as ever. For a while after that nothing is recalled.
//
// The version is left out as the turn before has written it, in the very commit from which on nothing may change.
//
// | dies | what is left |
// |---|---|
// | at any time | the owner record, which the next consumer takes over with its first turn that writes the state |
const (
	recallMax  = 3 * time.Second        // the age of what is recalled; the store must still know what came after
	recallRest = 100 * time.Millisecond // after a recollection that failed
)

// quiet is what the commit of a state's version has proved.
type quiet struct {
	owned  bool                 // the owner record names this consumer
	first  backend.Versionstamp // the commit since which each has recalled the one before it
	proved bool                 // nothing else was there but the state
	since  int64                // when it was committed, in Unix nanoseconds
	pin    *tenant.Pin          // nil of most servers: none
}

// isPlain reports whether the turn is for local arrivals alone, as far as is known.
func (t *Turn) isPlain() bool {
	return t.Info == nil && !t.Marked && len(t.Offered) > 0 && t.Offered[0].Released == nil &&
		(t.Memory.doubts == nil || time.Since(t.Memory.doubts.recalled) > recallRest)
}

// recall makes the head of memory (3). It reports false when it must be read.
func (t *Turn) recall(tx backend.Tx) bool {
	st := &t.Memory.State
	failed := t.recalled
	t.recaller, _ = tx.(backend.Recaller)
	if t.recalled = false; failed && t.hasDoubt() {
		t.Memory.Doubt().recalled = time.Now()
	}
	if t.recaller == nil || failed || !st.quiet.proved || time.Now().UnixNano()-st.quiet.since > int64(recallMax) || !t.isPlain() {
		return false
	}
	if t.recalled = t.recaller.Recall(st.Version, st.quiet.first, t.Keys.BesideVersion()); t.recalled {
		t.proves = true
		t.Head = tenant.Head{Version: st.Version, Meta: st.Meta, Owner: t.Env.Name, All: true}
		if st.quiet.pin != nil {
			t.Head.Pin = *st.quiet.pin
		}
	}
	return t.recalled
}

// hasDoubt reports whether the attempt that recalled failed for another reason than that it had nothing to write.
func (t *Turn) hasDoubt() bool { return t.stamped || t.Batch == nil || t.Batch.broken != nil }

// mayProve reports whether the read of the head is to be a conflict (2).
func (t *Turn) mayProve() bool {
	return t.recaller != nil && t.Memory.State.quiet.owned && t.isPlain()
}

// writeOwner keeps the owner record true, in a turn that writes the state (1).
func (t *Turn) writeOwner(tx backend.Tx) {
	me := t.Env.Name
	switch {
	case t.Head.Owner == me:
	case t.recaller != nil && t.isPlain():
		tx.Set(t.Keys.Owner(), []byte(me))
	case t.Head.Owner != "":
		tx.Clear(t.Keys.Owner().Only())
		return
	default:
		return
	}
	t.owned = true
}

// proved is what the commit of the turn's version has proved, after all since first. What the turn has itself written beside the state makes
// the next recollection fail.
func (t *Turn) proved(first backend.Versionstamp) quiet {
	q := quiet{
		owned:  t.owned,
		first:  first,
		proved: t.proves && t.Head.IsQuiet() && t.Head.Owner == t.Env.Name,
		since:  time.Now().UnixNano(),
	}
	if pin := t.Head.Pin; pin.IsSet {
		q.pin = &pin
	}
	return q
}

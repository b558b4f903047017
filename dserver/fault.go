package dserver

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// attempts is the record of the queue's head when it faulted. It holds the message's stamp, so that it is never taken
// for another message's, and the back-off as a duration, which each consumer waits by its own clock from first sight:
// no two clocks have to agree. Its field names are part of the stored format.
type attempts struct {
	Stamp [12]byte      `cbor:"stamp"`
	Count int           `cbor:"count"`
	Wait  time.Duration `cbor:"wait"`            // nanoseconds
	Halts bool          `cbor:"halts,omitempty"` // the server stops until an operator acts
}

func (a attempts) isOf(item queue.Item) bool { return a.Stamp == item.Stamp }

// of is the count for an item.
func (a attempts) of(item queue.Item) int {
	if !a.isOf(item) {
		return 0
	}
	return a.Count
}

// readAttempts reads the record of a lane; in a transaction a change is a conflict.
func (t tenant) readAttempts(tx backend.Reader, lane queue.Lane) (a attempts, err error) {
	value, err := tx.Get(t.attempts(lane)).Get()
	if err == nil && value != nil {
		err = decodeRecord(value, &a)
	}
	return a, err
}

// The back-off is four times longer after each attempt.
const (
	firstBackOff   = 100 * time.Millisecond
	backOffFactor  = 4
	longestBackOff = 30 * time.Second
)

// backOff is how long to wait after the attempt number count, with up to a quarter less so that consumers spread.
func backOff(count int) time.Duration {
	wait := firstBackOff
	for i := 1; i < count && wait < longestBackOff; i++ {
		wait *= backOffFactor
	}
	wait = min(wait, longestBackOff)
	return wait - rand.N(wait/4)
}

// forever is the back-off of a server that halts.
const forever = time.Duration(math.MaxInt64)

// backOff is how long the head of a lane has to wait still.
func (s *server) backOff(h head, item queue.Item, now time.Time) time.Duration {
	a := h.attempts[item.Lane]
	if !a.isOf(item) {
		return 0
	}
	if a.Halts {
		return forever
	}
	w := &s.trouble().waiting[item.Lane]
	if w.stamp != item.Stamp || w.count != a.Count {
		*w = waiting{item.Stamp, a.Count, now.Add(a.Wait)}
	}
	return max(0, w.until.Sub(now))
}

// faulted ends a turn whose first message broke: nothing was committed. A message of the queue is counted. A local call
// is answered, as it was never stored; a local cast takes the queue's way; the end of locked work goes back to its
// holder.
func (t *turn) faulted(f *fault) nextTurn {
	first := t.messages[0]
	switch {
	case first.released != nil:
		t.locals[0].done <- outcome{err: f}
		t.giveBack(t.locals[1:])
		return t.idle()
	case first.item != nil:
		return t.faultedStored(first, f)
	}
	a := first.arrival
	t.about(t.c.log.Warn(), a.message.Name).Str(zerolog.ErrorFieldName, f.Text).Func(withStack(f.hung())).
		Msg("a message that was not queued broke its handler")
	if a.call {
		a.done <- outcome{err: because(ErrFault, "%s", f.Text)}
	} else {
		a.done <- outcome{declined: true}
	}
	t.giveBack(t.locals[1:])
	return t.idle()
}

func (t *turn) faultedStored(w work, f *fault) nextTurn {
	t.giveBack(t.locals)
	n, err := t.count(w, f)
	t.tellCounted(w, n, f)
	if err != nil {
		return t.failed(err)
	}
	for _, d := range t.mine {
		t.c.process.deliver(d)
	}
	return nextTurn{now: true}
}

// count stores that an attempt failed, and sets the message aside after the last. It is a compare-and-set: when another
// consumer counted or took the message meanwhile, there is nothing to count.
func (t *turn) count(w work, f *fault) (n counted, err error) {
	err = t.c.db.Transact(t.c.base, func(tx backend.Tx) error {
		t.mine, n = nil, counted{}
		now, isThere, err := t.unchanged(tx, w)
		if err != nil || !isThere {
			return err
		}
		count := now.of(*w.item) + 1
		last := count >= t.s.def.settings.maxAttempts
		n = counted{attempts: count, wait: backOff(count), last: last, halts: last && t.s.def.settings.halt}
		if last && !n.halts {
			return t.giveUp(tx, w, f, count)
		}
		tx.Set(t.keys.attempts(w.item.Lane), encodeRecord(attempts{Stamp: w.item.Stamp, Count: count, Wait: n.wait, Halts: last}))
		return nil
	})
	return n, err
}

// giveUp sets the message aside, so that the queue goes on.
func (t *turn) giveUp(tx backend.Tx, w work, f *fault, count int) error {
	r := result{work: &w, err: because(ErrFault, "%s", f.Text)}
	var out outbox
	var onces onceReads
	onces.start(tx, t.keys, w.envelope)
	t.mine = out.add(t.c.process.id, r.answers())
	if err := out.dropGone(tx, nil); err != nil {
		return err
	}
	t.keys.queue().Remove(tx, *w.item)
	tx.Clear(t.keys.attempts(w.item.Lane).Only())
	letter := newLetter(r)
	letter.Stack, letter.Attempts = truncate(f.Stack, maxStack), count
	if err := t.keys.writeLetter(tx, w.item, letter); err != nil {
		return err
	}
	if err := t.keys.stopTimer(tx, w.envelope); err != nil {
		return err
	}
	if err := onces.conclude(tx, t.keys, r); err != nil {
		return err
	}
	setReady(tx, t.s.ref())
	return out.write(tx)
}

// maxStack bounds the stack of a panic in a dead letter.
const maxStack = 16 << 10

package dserver

import (
	"math/rand/v2"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// attempts is the record of the queue's head when it faulted. It holds the message's stamp, so that it is never taken
// for another message's, and the back-off as a duration, which each consumer waits by its own clock from first sight:
// no two clocks have to agree. Its field names are part of the stored format.
type attempts struct {
	Stamp [12]byte      `cbor:"stamp"`
	Count int           `cbor:"count"`
	Wait  time.Duration `cbor:"wait"` // nanoseconds
}

func (a attempts) isZero() bool { return a.Count == 0 }

// of is the count for an item.
func (a attempts) of(item queue.Item) int {
	if a.Stamp != item.Stamp {
		return 0
	}
	return a.Count
}

// isOf reports whether the record is of one of the items.
func (a attempts) isOf(items []queue.Item) bool {
	for _, item := range items {
		if a.of(item) > 0 {
			return true
		}
	}
	return false
}

// readAttempts reads the record; in a transaction a change is a conflict.
func (t tenant) readAttempts(tx backend.Reader) (a attempts, err error) {
	value, err := tx.Get(t.attempts()).Get()
	if err == nil && value != nil {
		err = decodeRecord(value, &a)
	}
	return a, err
}

// The back-off is four times longer after each attempt. A message that this consumer has no handler for waits longest,
// as consumers of a newer version may be starting.
const (
	firstBackOff   = 100 * time.Millisecond
	backOffFactor  = 4
	longestBackOff = 30 * time.Second
)

// backOff is how long to wait after the attempt number count, with up to a quarter less so that consumers spread.
func (f *fault) backOff(count int) time.Duration {
	wait := firstBackOff
	for i := 1; i < count && wait < longestBackOff; i++ {
		wait *= backOffFactor
	}
	if wait = min(wait, longestBackOff); f.later {
		wait = longestBackOff
	}
	return wait - rand.N(wait/4)
}

// backOff is how long the head of the queue has to wait still.
func (s *server) backOff(h head, now time.Time) time.Duration {
	if len(h.items) == 0 || h.attempts.of(h.items[0]) == 0 {
		s.waiting = waiting{}
		return 0
	}
	if s.waiting.stamp != h.items[0].Stamp || s.waiting.count != h.attempts.Count {
		s.waiting = waiting{h.items[0].Stamp, h.attempts.Count, now.Add(h.attempts.Wait)}
	}
	return max(0, s.waiting.until.Sub(now))
}

// faulted ends a turn whose first message broke: nothing was committed. A message of the queue is counted. A local call
// is answered, as it was never stored; a local cast takes the queue's way.
func (t *turn) faulted(f *fault) nextTurn {
	if len(t.head.items) > 0 {
		return t.faultedStored(t.head.items[0], f)
	}
	a := t.locals[0]
	t.c.log.Warn().Stringer(logServer, t.s.ref()).Str(logMessage, a.message.Name).Msg(f.Text)
	if a.call {
		a.done <- outcome{err: because(ErrFault, "%s", f.Text)}
	} else {
		a.done <- outcome{declined: true}
	}
	t.giveBack(t.locals[1:])
	return t.idle()
}

func (t *turn) faultedStored(item queue.Item, f *fault) nextTurn {
	w := storedWork(&item)
	t.c.log.Warn().Stringer(logServer, t.s.ref()).Str(logMessage, w.envelope.Name).
		Int(logAttempts, t.head.attempts.of(item)+1).Msg(f.Text)
	t.giveBack(t.locals)
	if err := t.count(w, f); err != nil {
		return t.failed(err)
	}
	for _, d := range t.mine {
		t.c.process.deliver(d)
	}
	return nextTurn{now: true}
}

// count stores that an attempt failed, and sets the message aside after the last. It is a compare-and-set: when another
// consumer counted or took the message meanwhile, there is nothing to count.
func (t *turn) count(w work, f *fault) error {
	return t.c.db.Transact(t.c.base, func(tx backend.Tx) error {
		t.mine = nil
		_, found, err := t.keys.queue().Find(tx, w.item.Stamp)
		if err != nil {
			return err
		}
		now, err := t.keys.readAttempts(tx)
		if err != nil {
			return err
		}
		killed, err := t.keys.killedAt(tx)
		if err != nil {
			return err
		}
		if !found || !killed.IsZero() || now != t.head.attempts {
			return nil
		}
		count := now.of(*w.item) + 1
		if count >= t.s.def.settings.maxAttempts {
			return t.giveUp(tx, w, f, count)
		}
		tx.Set(t.keys.attempts(), encodeRecord(attempts{w.item.Stamp, count, f.backOff(count)}))
		return nil
	})
}

// giveUp sets the message aside, so that the queue goes on.
func (t *turn) giveUp(tx backend.Tx, w work, f *fault, count int) error {
	r := result{work: w, err: because(ErrFault, "%s", f.Text)}
	replies, err := t.answer(tx, []result{r})
	if err != nil {
		return err
	}
	t.keys.queue().Remove(tx, *w.item)
	tx.Clear(t.keys.attempts().Only())
	letter := newLetter(r)
	letter.Stack, letter.Attempts = truncate(f.Stack, maxStack), count
	if err := t.keys.writeLetter(tx, w.item, letter); err != nil {
		return err
	}
	setReady(tx, t.s.ref())
	return replies.write(tx)
}

// maxStack bounds the stack of a panic in a dead letter.
const maxStack = 16 << 10

package dserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Messages that this consumer cannot handle: it has no handler for them, or the state of their server has a form that
// it does not know. They are another's, and this one leaves the server alone: it neither claims nor suspects, nor counts
// attempts, nor makes anybody back off. What is before such a message on its lane is handled, what is behind it waits.
//
//  1. Of a newer state nothing is ever touched.
//  2. For a message without a handler the consumer looks whether a living process has one, by what the processes tell of
//     themselves (ability.go). While one has, nothing is written, and it looks again after lookInterval.
//  3. While none has, it waits, by its own clock from first sight. Looks that are far apart begin anew.
//  4. When none had one for NoHandlerWait, the message is set aside, or halts the server, in one transaction that reads
//     once more who is there, and conflicts with whoever takes the message.
//
// | dies | what is left |
// |---|---|
// | before the commit of 4 | nothing was stored: the next consumer waits from its own first sight |
// | after it | a dead letter, or a server that halts |

// defaultNoHandlerWait is Settings.NoHandlerWait when it is 0.
const defaultNoHandlerWait = 2 * time.Minute

// unheard is since when a consumer sees that nobody living handles a message.
type unheard struct {
	stamp backend.Versionstamp
	since time.Time
	last  time.Time
}

// look returns for how long nobody had a handler, as far as was seen.
func (u *unheard) look(stamp backend.Versionstamp, handled bool, now time.Time) time.Duration {
	if handled || u.stamp != stamp || now.Sub(u.last) > 3*lookInterval {
		*u = unheard{stamp: stamp, since: now}
	}
	u.last = now
	return now.Sub(u.since)
}

// isOurs reports whether this consumer may handle a message. One that nobody can read is at fault itself.
func (t *turn) isOurs(w work) bool { return w.unread != nil || t.s.def.handles(w.envelope.Name) }

// takes reports whether a message of this process may join a turn. One that only others handle goes to the queue; a call
// that nobody living handles is answered at once, as one that broke.
func (c *consumer) takes(ctx context.Context, typ, name string, call bool) (bool, error) {
	if c.types[typ].def.handles(name) {
		return true, nil
	}
	if !call {
		return false, nil
	}
	handled, err := c.process.isHandled(ctx, typ, name, 0)
	return !handled, err
}

// ours is the messages of a batch that this consumer can handle: each lane's up to the first that it cannot.
func (t *turn) ours(batch []queue.Item) []work {
	works := make([]work, 0, len(batch))
	for i := range batch {
		item := &batch[i]
		if t.unheard[item.Lane] != nil {
			t.able--
			continue
		}
		if w := storedWork(item); t.isOurs(w) {
			works = append(works, w)
		} else {
			t.unheard[item.Lane] = &w
			t.able--
		}
	}
	return works
}

// isAnothers reports whether a lane waits for another consumer.
func (t *turn) isAnothers() bool { return t.unheard != [2]*work{} }

// leave is the steps 2 to 4 for what the turn could not handle. It reports whether something has changed; else t.waits
// is when to look again, unless a scan is soon enough.
func (t *turn) leave() (again bool, err error) {
	for _, w := range t.unheard {
		if w == nil {
			continue
		}
		gone, err := t.leaveOne(*w)
		if err != nil || gone {
			return gone, err
		}
	}
	return false, nil
}

func (t *turn) leaveOne(w work) (gone bool, err error) {
	handled, err := t.c.process.isHandled(t.c.base, t.s.def.name, w.envelope.Name, t.head.meta.Schema)
	if err != nil {
		return false, err
	}
	limit := t.s.def.settings.noHandlerWait
	unheard := t.s.trouble().unheard[w.item.Lane].look(w.item.Stamp, handled, time.Now())
	switch {
	case t.c.steps != nil: // no time passes there, and nobody else comes
		limit = 0
	case handled, limit < 0:
		return false, nil
	}
	if unheard < limit {
		if t.c.left.isNew(t.s.ref()) {
			t.about(t.c.log.Warn(), w.envelope.Name).Stringer(logWait, limit).
				Msg("no living consumer has a handler for a message: it waits for one")
		}
		t.waits = soonest(t.waits, min(limit-unheard, lookInterval))
		return false, nil
	}
	return t.abandon(w, unheard)
}

// abandon is step 4.
func (t *turn) abandon(w work, waited time.Duration) (gone bool, err error) {
	name, now := w.envelope.Name, time.Now()
	f := &fault{Text: fmt.Sprintf("no handler for %s in any living consumer since %s, for %v",
		name, now.Add(-waited).UTC().Format(time.RFC3339), waited.Round(time.Second))}
	var n counted
	err = t.c.db.Transact(t.c.base, func(tx backend.Tx) error {
		t.mine, gone = nil, false
		attempted, isThere, err := t.unchanged(tx, w)
		if err != nil {
			return err
		}
		found, err := ablesOf(tx, t.s.def.name)
		if err != nil {
			return err
		}
		if !isThere || isHandledBy(t.c.process.others.living(found, now), name, t.head.meta.Schema) {
			return nil
		}
		gone = true
		n, err = t.end(tx, w, f, attempted.of(*w.item))
		return err
	})
	if err != nil || !gone {
		return false, err
	}
	for _, d := range t.mine {
		t.c.process.deliver(d)
	}
	t.tellCounted(w, n, f)
	return true, nil
}

// restFor is how long a server is left alone that is another's, whatever wakes it: a bell that rings for others of its
// shard would cost a read of it each time. The scan that comes anyway is later.
const restFor = lookInterval * 4 / 5

// rests reports whether the turn leaves its server alone without a look.
func (t *turn) rests() bool {
	return len(t.locals) == 0 && t.s.rare != nil && time.Now().Before(t.s.rare.rests)
}

// leftAlone is the servers that were logged, once each.
type leftAlone struct {
	mu   sync.Mutex
	refs map[Ref]struct{}
}

// maxLeftAlone bounds what is logged.
const maxLeftAlone = 10_000

// isNew notes a server, and reports whether it was not noted yet.
func (l *leftAlone) isNew(ref Ref) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.refs[ref]; known || len(l.refs) == maxLeftAlone {
		return false
	}
	if l.refs == nil {
		l.refs = map[Ref]struct{}{}
	}
	l.refs[ref] = struct{}{}
	return true
}

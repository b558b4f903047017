package consumer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// Messages that this consumer cannot handle: it has no handler for them, or the state of their server has a form that
// it does not know. They are another's, and this one leaves the server alone: it neither claims nor suspects, nor counts
// attempts, nor makes anybody back off. What is before such a message on its lane is handled, what is behind it waits.
//
//  1. Of a newer state nothing is ever touched.
//  2. For a message without a handler the consumer looks whether a living process has one, by what the processes tell of
//     themselves (mailbox/crew.go). While one has, nothing is written, and it looks again after LookInterval.
//  3. While none has, it waits, by its own clock from first sight. Looks that are far apart begin anew.
//  4. When none had one for NoHandlerWait, the message is set aside, or halts the server, in one transaction that reads
//     once more who is there, and conflicts with whoever takes the message.
//
// | dies | what is left |
// |---|---|
// | before the commit of 4 | nothing was stored: the next consumer waits from its own first sight |
// | after it | a dead letter, or a server that halts |

// unheard is since when a consumer sees that nobody living handles a message.
type unheard struct {
	stamp backend.Versionstamp
	since time.Time
	last  time.Time
}

// look returns for how long nobody had a handler, as far as was seen.
func (u *unheard) look(stamp backend.Versionstamp, handled bool, now time.Time) time.Duration {
	if handled || u.stamp != stamp || now.Sub(u.last) > 3*mailbox.LookInterval {
		*u = unheard{stamp: stamp, since: now}
	}
	u.last = now
	return now.Sub(u.since)
}

// takes reports whether a message of this process may join a turn. One that only others handle goes to the queue; a call
// that nobody living handles is answered at once, as one that broke.
func (c *consumer) takes(ctx context.Context, typ, name string, call bool) (bool, error) {
	if c.types[typ].def.Handles(name) {
		return true, nil
	}
	if !call {
		return false, nil
	}
	crew, err := c.Process.Crew(ctx, typ)
	if err == nil && !tenant.IsHandledBy(crew, name, 0) { // that answer cannot be taken back: somebody may have come since
		crew, err = c.Process.ReadCrew(ctx, typ)
	}
	return err == nil && !tenant.IsHandledBy(crew, name, 0), err
}

// leave is the steps 2 to 4 for what the turn could not handle. It reports whether something has changed; else t.Waits
// is when to look again, unless a scan is soon enough.
func (t *visit) leave() (again bool, err error) {
	for _, w := range t.Unheard {
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

func (t *visit) leaveOne(w turn.Work) (gone bool, err error) {
	crew, err := t.c.Process.Crew(t.c.Base, t.Def.Name)
	if err != nil {
		return false, err
	}
	handled := tenant.IsHandledBy(tenant.Listing(crew, t.Label()), w.Envelope.Name, t.Head.Meta.Schema)
	limit := t.Def.Settings.NoHandlerWait
	unheard := t.s.others().unheard[w.Item.Lane].look(w.Item.Stamp, handled, time.Now())
	switch {
	case t.c.steps != nil: // no time passes there, and nobody else comes
		limit = 0
	case handled, limit < 0:
		return false, nil
	}
	if unheard < limit {
		if t.c.logged.isNew(t.Ref) {
			t.about(t.c.log.Warn(), w.Envelope.Name).Stringer(logs.Wait, limit).
				Msg("no living consumer has a handler for a message: it waits for one")
		}
		t.Waits = turn.Soonest(t.Waits, min(limit-unheard, mailbox.LookInterval))
		return false, nil
	}
	return t.endUnheard(w, unheard)
}

// endUnheard is step 4.
func (t *visit) endUnheard(w turn.Work, waited time.Duration) (gone bool, err error) {
	name, now := w.Envelope.Name, time.Now()
	f := &turn.Fault{Text: fmt.Sprintf("no handler for %s in any living consumer since %s, for %v",
		name, now.Add(-waited).UTC().Format(time.RFC3339), waited.Round(time.Second))}
	var n turn.Counted
	err = t.c.DB.Transact(t.c.Base, func(tx backend.Tx) error {
		t.Mine, gone = nil, false
		attempted, isThere, err := t.Unchanged(tx, w)
		if err != nil {
			return err
		}
		found, err := tenant.AblesOf(tx, t.Def.Name)
		if err != nil {
			return err
		}
		living := tenant.Listing(t.c.Process.Others.Living(found, now), t.Label())
		if !isThere || tenant.IsHandledBy(living, name, t.Head.Meta.Schema) {
			return nil
		}
		gone = true
		n, err = t.EndMessage(tx, w, f, attempted.Of(*w.Item))
		return err
	})
	if err != nil || !gone {
		return false, err
	}
	for _, d := range t.Mine {
		t.c.Process.Deliver(d)
	}
	t.tellCounted(w, n, f)
	return true, nil
}

// restFor is how long a server is left alone that is another's, whatever wakes it: a bell that rings for others of its
// shard would cost a read of it each time. The scan that comes anyway is later.
const restFor = mailbox.LookInterval * 4 / 5

// rests reports whether the turn leaves its server alone without a look.
func (t *visit) rests() bool {
	apart := t.s.apart
	switch {
	case apart == nil || !time.Now().Before(apart.rests):
		return false
	case len(t.locals) == 0:
		return true
	case apart.elsewhere.IsZero() || t.locals[0].Released != nil:
		return false
	}
	t.giveBack(t.locals)
	return true
}

// loggedOnce is the servers that were logged, once each.
type loggedOnce struct {
	mu   sync.Mutex
	refs map[tenant.Ref]struct{}
}

// maxLeftAlone bounds what is logged.
const maxLeftAlone = 10_000

// isNoted reports whether a server was noted.
func (l *loggedOnce) isNoted(ref tenant.Ref) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.refs[ref]
	return known
}

// isNew notes a server, and reports whether it was not noted yet.
func (l *loggedOnce) isNew(ref tenant.Ref) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.refs[ref]; known || len(l.refs) == maxLeftAlone {
		return false
	}
	if l.refs == nil {
		l.refs = map[tenant.Ref]struct{}{}
	}
	l.refs[ref] = struct{}{}
	return true
}

package consumer

import (
	"context"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Servers of labels that this consumer does not list (tenant/pin.go). Pushes know no label, so all consumers of a type look
// at its marks, and find out with the first read whose a server is:
//
//  1. Of a server that is another's nothing is handled, counted, claimed or taken over. Messages of this process that wanted
//     to join its turn go to the queue. It is left alone for a while, whatever wakes it.
//  2. One whose mark is still there a second later, at the next look, is not taken by anybody just now. It is parked under
//     its label, as parked.go says, and the label's bell rings. A mark of a server that has nothing to do, and
//     has done nothing since the look before, is removed with the claims, as by those who run it: they do not believe any
//     more then that theirs is there.
//  3. Whoever parks it looks whether a living process lists its label, and logs when none does.
//  4. A consumer watches the bell of each label that it lists, and reads the rows below it when that rang, when it starts,
//     and each LookInterval. A row makes it look at a server whatever it remembers: it may have been pinned a moment ago.
//  5. A row that stands under another label than its server's is removed, with the same look whether there is something to
//     do: a server that was killed begins anew somewhere else.
//
// | dies | what is left |
// |---|---|
// | before the commit of 2 or 5 | the mark, or the row where it was |
// | after it | the row under the label |

// labelsOf is the labels that a consumer lists.
func labelsOf(o Options) []string {
	if len(o.Labels) == 0 {
		return []string{""}
	}
	return slices.Compact(slices.Sorted(slices.Values(o.Labels)))
}

// labelsHere is the labels that consumers of this process list for a type. A process without one may ask servers that are
// not pinned.
func labelsHere(p *mailbox.Process, typ string) (labels []string) {
	for _, m := range p.MembersOf(typ) {
		labels = append(labels, m.(*consumer).Labels...)
	}
	return labels
}

// hasRow reports whether a row in the index of the server's label led to it, and forgetRow that there is none any more.
func (t *visit) hasRow() bool { return t.s.apart != nil && t.s.apart.row }

func (t *visit) forgetRow(gone bool) {
	if gone && t.s.apart != nil {
		t.s.apart.row = false
	}
}

// isHere notes that the server is run here.
func (t *visit) isHere() {
	if t.s.apart != nil {
		t.s.apart.elsewhere = time.Time{}
	}
}

// leaveElsewhere ends a turn that found that the server is another consumer's: the steps 1 to 3.
func (t *visit) leaveElsewhere() nextTurn {
	o, now := t.s.others(), time.Now()
	t.c.lookNoMore(t.s)
	t.c.locks.Forget(t.Ref)
	if t.hasRow() {
		t.forgetRow(true)
		if err := t.clearStrayRows(); err != nil {
			return t.failed(err)
		}
	}
	if o.elsewhere.IsZero() || now.Sub(o.elsewhere) > 3*mailbox.LookInterval {
		o.elsewhere = now
	}
	isIdle := len(t.Head.Items) == 0 && !t.Head.Lock.IsHeld()
	isLeft := t.Marked && t.c.steps == nil && (!isIdle || o.wasIdle && o.idleAs == t.Head.Version)
	o.wasIdle, o.idleAs = isIdle, t.Head.Version
	if !isLeft || now.Sub(o.elsewhere) < t.c.parkAfter {
		return t.rest()
	}
	t.c.unmark(t.s)
	if isIdle {
		if err := t.confirmEmpty(); err != nil {
			return t.failed(err)
		}
		return t.rest()
	}
	if _, err := t.moveMark(); err != nil {
		return t.failed(err)
	}
	if err := t.tellUnlisted(); err != nil {
		return t.failed(err)
	}
	return t.rest()
}

// lookNoMore stops the timer of a server that was in hand here, and waits for nothing here any more: call leaves one with a
// timer alone, also when it is pinned back.
func (c *consumer) lookNoMore(s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.alarm != nil {
		s.alarm.Stop() // when that is too late, the server is looked at once more
		s.alarm = nil
	}
}

// clearRows clears the rows of a server below the labels that this consumer lists.
func (t *visit) clearRows(tx backend.Tx) {
	for _, label := range t.c.Labels {
		tx.Clear(tenant.LabelRow(label, t.Ref).Only())
	}
}

// clearStrayRows is step 5: this consumer found the server below a label that it lists.
func (t *visit) clearStrayRows() error {
	return t.c.DB.Transact(t.c.Base, func(tx backend.Tx) error {
		pin, err := t.Keys.ReadPin(tx)
		if err != nil || pin != t.Head.Pin {
			return err
		}
		t.clearRows(tx)
		tenant.SetReady(tx, t.Ref)
		return nil
	})
}

// tellUnlisted is step 3, once for each type and label. Who was not there a moment ago may have come, so it looks again before
// it tells.
func (t *visit) tellUnlisted() error {
	about := tenant.Ref{Type: t.Def.Name, ID: t.Label()}
	for _, look := range []func(context.Context, string) ([]tenant.Able, error){t.c.Process.Crew, t.c.Process.ReadCrew} {
		if t.c.unlisted.isNoted(about) {
			return nil
		}
		crew, err := look(t.c.Base, t.Def.Name)
		if err != nil || len(tenant.Listing(crew, t.Label())) > 0 {
			return err
		}
	}
	if t.c.unlisted.isNew(about) {
		t.c.log.Warn().Stringer(logs.Server, t.Ref).Str(logs.Label, t.Label()).
			Msg("no living consumer lists the label of a server: it waits for one, as do others of that label")
	}
	return nil
}

// scanLabel is step 4 for one label, until ctx ends.
func (c *consumer) scanLabel(ctx context.Context, label string) {
	for ctx.Err() == nil {
		began := time.Now()
		look, err := c.scanLabelOnce(ctx, label)
		if err != nil {
			c.scanFailed(ctx, err)
			continue
		}
		c.pause(ctx, look, max(mailbox.Jittered(mailbox.LookInterval), parkedShare*time.Since(began)))
	}
}

// scanLabelOnce looks at all servers below a label's bell, of the types that it runs.
func (c *consumer) scanLabelOnce(ctx context.Context, label string) (l look, err error) {
	bell := tenant.LabelBell(label)
	defer func() {
		if err != nil {
			l.cancel()
		}
	}()
	begin := func(tx backend.ReadTx) error {
		l.watch = tx.Watch(bell)
		return nil
	}
	parse := func(bell, key backend.Key) (tenant.Ref, bool, error) {
		ref, err := tenant.ParseLabelRow(bell, key)
		return ref, true, err
	}
	_, err = c.eachRow(ctx, bell, begin, parse, func(ref tenant.Ref) error { // the next look comes soon enough for what was passed by
		if err := c.awaitRoom(ctx); err != nil {
			return err
		}
		c.call(ref)
		return nil
	})
	return l, err
}

// call looks at a server below a label's bell, unless this consumer will do that by itself.
func (c *consumer) call(ref tenant.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.locks.IsHolding(ref) {
		return
	}
	s := c.server(ref)
	if s.alarm == nil {
		s.called = true
		c.lookAt(ref)
	}
}

package dserver

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// A message that kills its process (a stack overflow, memory that runs out, os.Exit) leaves no time to count the
// attempt, and would meet one consumer after the other for ever. So attempts are counted beforehand where that may
// have happened:
//
//  1. A consumer is careful while it is young, as it may have been started in place of one that was killed, and while
//     the record of a consumer that vanished is there. Otherwise nothing of the following is done.
//  2. A careful consumer claims a server before it handles its queue: one commit, until the queue is empty.
//  3. One that finds the claim of another suspects the messages at the head, of which one may have killed the holder.
//     It handles them one at a time, and commits each attempt before it makes it. A message without attempts left is
//     set aside, unhandled.
//
// A claim keeps nobody away, and a wrong suspicion costs speed alone: a message that does no harm is consumed in its
// first attempt.
//
// | dies | what is left |
// |---|---|
// | before the claim's commit | no trace; the next consumer is careful as well |
// | after it, before the turn's | the claim: the next consumer suspects the head |
// | after an attempt was counted | the count: it goes up to MaxAttempts |
const (
	youth         = 30 * time.Second
	consumerBeat  = 10 * time.Second
	vanishedAfter = 3 * consumerBeat // of a record that does not change, by the observer's clock
)

// caution tells whether a consumer is careful, and for what.
type caution struct {
	name     string      // in claims
	until    time.Time   // the end of its youth
	vanished atomic.Bool // a consumer is dead and not forgotten
	claims   sync.Map    // Ref -> nothing: the servers that it has claimed
}

func newCaution() *caution { return &caution{name: rand.Text(), until: time.Now().Add(youth)} }

func (c *caution) isCareful() bool { return c.vanished.Load() || time.Now().Before(c.until) }

// claim is step 2. It is called by the turn, before its transaction.
func (t *turn) claim() error {
	ref, mine := t.s.ref(), t.c.caution
	if !t.marked || !mine.isCareful() {
		return nil
	}
	if _, claimed := mine.claims.Load(ref); claimed {
		return nil
	}
	key, taken := readyClaim(ref), false
	var suspects backend.Versionstamp
	err := t.c.db.Transact(t.c.base, func(tx backend.Tx) error {
		suspects, taken = backend.Versionstamp{}, false
		holder, err := tx.Get(key).Get()
		if err != nil {
			return err
		}
		items, err := t.keys.queue().Read(tx, queue.Item{}, maxBatch)
		if err != nil || len(items) == 0 {
			return err
		}
		if holder != nil && string(holder) != mine.name {
			for _, item := range items {
				suspects = later(suspects, item.Stamp)
			}
		}
		tx.Set(key, []byte(mine.name))
		taken = true
		return nil
	})
	if err == nil && taken {
		mine.claims.Store(ref, nil)
		if !suspects.IsZero() {
			t.s.trouble().suspects = suspects
		}
	}
	return err
}

func later(a, b backend.Versionstamp) backend.Versionstamp {
	if a.Compare(b) < 0 {
		return b
	}
	return a
}

// suspect is step 3: it commits the attempt at the head of the queue before it is made, and reports whether the head
// is a suspect. A message that has no attempts left is set aside.
func (t *turn) suspect() (bool, error) {
	if t.s.rare == nil || t.s.rare.suspects.IsZero() {
		return false, nil
	}
	suspected := false
	var head work
	var n counted
	err := t.c.db.Transact(t.c.base, func(tx backend.Tx) (err error) {
		suspected, t.mine, n = false, nil, counted{}
		if err := readHead(tx, t.keys, &t.head, state{}, true); err != nil {
			return err
		}
		items := t.ready(1)
		if len(items) == 0 || items[0].Stamp.Compare(t.s.rare.suspects) > 0 || t.head.lock.isHeld() || !t.head.killed.IsZero() {
			return nil
		}
		suspected, head = true, storedWork(&items[0])
		n, err = t.countBefore(tx, head)
		return err
	})
	if err != nil {
		return false, err
	}
	if n.last {
		t.tellCounted(head, n, errVanished)
	}
	for _, d := range t.mine {
		t.c.process.deliver(d)
	}
	if !suspected {
		t.s.rare.suspects = backend.Versionstamp{}
	}
	return suspected, nil
}

// errVanished is what becomes of a message whose consumers vanished.
var errVanished = &fault{Text: "the consumer vanished in each attempt"}

func (t *turn) countBefore(tx backend.Tx, w work) (n counted, err error) {
	item := *w.item
	a := t.head.attempts[item.Lane]
	_, found, err := t.keys.queue().Find(tx, item.Stamp)
	if err != nil || !found {
		return n, err
	}
	now, err := t.keys.readAttempts(tx, item.Lane)
	if err != nil || now != a {
		return n, err
	}
	count := a.of(item)
	if a.isOf(item) && a.Begun {
		count++ // by a consumer that vanished in it
	}
	last := count >= t.s.def.settings.maxAttempts
	n = counted{attempts: count, last: last, halts: last && t.s.def.settings.halt}
	if last && !n.halts {
		return n, t.giveUp(tx, w, errVanished, count)
	}
	tx.Set(t.keys.attempts(item.Lane), encodeRecord(attempts{Stamp: item.Stamp, Count: count, Begun: !last, Halts: last}))
	return n, nil
}

// disclaim gives up the claims of a consumer that ends in order: they are no reason to suspect anything.
func (c *consumer) disclaim(ctx context.Context) {
	var refs []Ref
	c.caution.claims.Range(func(ref, _ any) bool {
		refs = append(refs, ref.(Ref))
		return true
	})
	for page := range slices.Chunk(refs, maxScan) {
		err := c.db.Transact(ctx, func(tx backend.Tx) error { return c.disclaimPage(tx, page) })
		if err != nil {
			if !isFatal(err) {
				c.log.Warn().Err(err).Msg("claims could not be given up; the next consumers will be careful")
			}
			return
		}
	}
}

func (c *consumer) disclaimPage(tx backend.Tx, page []Ref) error {
	holders := make([]backend.Future[[]byte], len(page))
	for i, ref := range page {
		holders[i] = tx.Get(readyClaim(ref))
	}
	mine := make([]bool, len(page))
	for i := range page {
		holder, err := holders[i].Get()
		if err != nil {
			return err
		}
		mine[i] = string(holder) == c.caution.name
	}
	for i, ref := range page {
		if mine[i] {
			tx.Clear(readyClaim(ref).Only())
		}
	}
	return nil
}

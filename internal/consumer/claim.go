package consumer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/queue"
)

// A message that kills its process (a stack overflow, memory that runs out, os.Exit) leaves no time to count the
// attempt, and would meet one consumer after the other for ever. So where that may have happened, who begins something
// says so beforehand, in a claim: a row of its own process beside the server's ready mark. A claim keeps nobody away, and
// conflicts with nobody. It is evidence once its process is dead (mailbox/witness.go):
//
//  1. A consumer is careful while it is young, as it may have been started in place of one that was killed, while the
//     record of a consumer that vanished is there, and with a server about which it is in doubt. Otherwise nothing of the
//     following is done.
//  2. A careful consumer claims a server's queue before it handles any of it: one commit, until the queue is empty.
//  3. What may have killed the process of another claim is a suspect: the message that it names, or, of a claim of the
//     queue, all that waits when the claim is first seen. The claim of a process that is known to live is no reason.
//  4. A suspect is handled alone, under a claim that names it. So a process that dies then leaves a row: one attempt.
//  5. The attempts of a message are those that were counted when they failed, and the claims that name it whose process
//     is dead. Whoever is alive has not died of it, and does not count. The last attempt is made only when all claimants
//     before are known to be dead or to live; until then the server waits, and all others of this consumer go on.
//  6. A message is set aside when the attempts are used up, and who made the last one is dead as well. That commit
//     conflicts with the message, its attempts, the claims that it counts and the records of their processes: a claimant
//     that shows up just then undoes it.
//
// So a message is set aside after deaths in a row of which the last began when the others were over. Consumers that are
// many, slow, overloaded or frozen together never make that up, and what has killed nobody is consumed.
//
// A claim is removed with the ready mark when the queue is empty, at its consumer's orderly end, by a careful consumer
// to whom it says nothing any more when its process is dead, and with its process.
//
// | dies | what is left |
// |---|---|
// | before the claim's commit | no trace; the next consumer is careful as well |
// | after the claim of a queue, before the turn's commit | the claim: the next consumer suspects what waits |
// | after the claim that names a suspect | the claim: one attempt, as soon as its process is known to be dead |
// | while it waits for evidence | nothing was written; the next consumer waits anew |
// | after the last attempt's claim | the claim says that it was the last: the next consumer sets the message aside |
const (
	youth = 5 * mailbox.ConsumerBeat // longer than a death takes to be proven

	// maxClaims is how many claims of a server are read: more say nothing more.
	maxClaims = 1000
)

// caution tells whether a consumer is careful, and for what.
type caution struct {
	until    time.Time   // the end of its youth
	vanished atomic.Bool // a consumer is dead and not forgotten
	claims   sync.Map    // Ref -> *claimed: the servers that it has claimed, or is in doubt about
}

func (c *caution) isCareful() bool { return c.vanished.Load() || time.Now().Before(c.until) }

// claimed is what a consumer remembers of its claim of a server. It belongs to the server's turn.
type claimed struct {
	row    tenant.Claim
	isMade bool
	doubts bool // there are suspects
	warned bool // that the server waits

	// By process: what waited when its claim of the queue was first seen.
	until map[string]backend.Versionstamp
}

// care is how a turn goes on.
type care int

const (
	asEver  care = iota
	alone        // the first message is a suspect
	patient      // until more is known of the claimants; nothing is handled
	aside        // the first message was set aside, or has halted the server
)

// claimLooks is how many times in a beat's interval a server that waits for evidence is looked at.
const claimLooks = 5

var errNoRecord = errors.New("dserver: this process has no record")

// careful does what is due when consumers may have vanished. It is called by the turn, before its transaction.
func (t *visit) careful() (care, error) {
	mine := t.claimed()
	if mine == nil {
		return asEver, nil
	}
	look, err := t.lookAtClaims(mine)
	if errors.Is(err, errNoRecord) {
		if err = t.c.Process.BeatAlways(t.c.Base); err == nil {
			look, err = t.lookAtClaims(mine)
		}
	}
	if err != nil {
		return asEver, err
	}
	look.remember(t, mine)
	return look.care, nil
}

// claimed is what is remembered of a server that has to be claimed or looked at; nil when there is nothing to do.
func (t *visit) claimed() *claimed {
	if !t.Marked || t.c.steps != nil || len(t.locals) > 0 && t.locals[0].Released != nil {
		return nil
	}
	known, _ := t.c.caution.claims.Load(t.Ref)
	mine, _ := known.(*claimed)
	switch {
	case mine == nil && !t.c.caution.isCareful():
		return nil
	case mine == nil:
		return new(claimed)
	case mine.isMade && !mine.doubts && mine.row == tenant.Claim{}:
		return nil
	case !mine.doubts && !t.c.caution.isCareful():
		return nil
	}
	return mine
}

// claimLook is what one transaction found, and decided.
type claimLook struct {
	care
	row     tenant.Claim
	writes  bool                            // the row
	nothing bool                            // nothing waits that could be handled
	records map[string][]byte               // of the claimants' processes
	until   map[string]backend.Versionstamp // as in claimed
	at      time.Time
	first   turn.Work
	counted turn.Counted // when it was set aside, or the server halts
}

// lookAtClaims reads the claims of the server, decides (steps 2 to 6), and writes what follows.
func (t *visit) lookAtClaims(mine *claimed) (l claimLook, err error) {
	err = t.c.DB.Transact(t.c.Base, func(tx backend.Tx) (err error) {
		t.Mine = nil
		l, err = t.lookIn(tx, mine)
		return err
	})
	return l, err
}

func (t *visit) lookIn(tx backend.Tx, mine *claimed) (l claimLook, err error) {
	own := tx.Get(tenant.PresenceOf(t.c.Process.ID).Record())
	rows := tx.GetRange(tenant.ReadyClaims(t.Ref).Tree(), backend.RangeOptions{Limit: maxClaims, Snapshot: true})
	if err := tenant.ReadHead(tx, t.Keys, &t.Head, tenant.Known{}, true); err != nil {
		return l, err
	}
	works := t.Ready(tenant.MaxBatch)
	if len(works) == 0 || !t.Head.Killed.IsZero() || t.Head.Paused.Is() || !t.Def.Reads(t.Head.Meta.Schema) || t.IsElsewhere() || t.s.IsBlind(t.Head.Version) != nil {
		return claimLook{nothing: true}, nil
	}
	if record, err := own.Get(); err != nil || record == nil {
		return l, errors.Join(err, errNoRecord)
	}
	pairs, err := rows.Get()
	if err != nil {
		return l, err
	}
	l.at = time.Now()
	found, err := t.otherClaims(tx, &l, mine, pairs)
	if err != nil {
		return l, err
	}
	return l, t.decide(tx, &l, mine, found, works)
}

// otherClaims is the claims of other processes, with what is known of these.
func (t *visit) otherClaims(tx backend.Tx, l *claimLook, mine *claimed, pairs []backend.KeyValue) ([]foreignClaim, error) {
	var found []foreignClaim
	var records []backend.Future[[]backend.KeyValue]
	for _, pair := range pairs {
		claim, process, ok := tenant.ParseClaim(t.Ref, pair)
		if !ok || process == t.c.Process.ID {
			continue
		}
		found = append(found, foreignClaim{Claim: claim, process: process})
		records = append(records, tx.GetRange(tenant.PresenceOf(process).Record().Only(), backend.RangeOptions{Snapshot: true}))
	}
	l.records, l.until = map[string][]byte{}, map[string]backend.Versionstamp{}
	for i := range found {
		c := &found[i]
		record, err := records[i].Get()
		if err != nil {
			return nil, err
		}
		if l.records[c.process] = nil; len(record) > 0 {
			l.records[c.process] = record[0].Value
		}
		c.life = t.c.Process.Others.Weigh(c.process, l.records[c.process], l.at)
		if c.IsOfQueue() {
			c.until = t.untilOf(mine, c.process)
			l.until[c.process] = c.until
		}
	}
	return found, nil
}

// untilOf is up to where a claim of the queue makes suspects: what waited when it was first seen.
func (t *visit) untilOf(mine *claimed, process string) (until backend.Versionstamp) {
	if until, ok := mine.until[process]; ok {
		return until
	}
	for _, item := range t.Head.Items {
		if until.Compare(item.Stamp) < 0 {
			until = item.Stamp
		}
	}
	return until
}

// decide says how the turn goes on, and writes what that needs.
func (t *visit) decide(tx backend.Tx, l *claimLook, mine *claimed, found []foreignClaim, works []turn.Work) error {
	l.first = works[0]
	first := *l.first.Item
	if slices.ContainsFunc(works, func(w turn.Work) bool { return isSuspect(found, *w.Item) }) {
		e := evidence{head: first.Stamp, count: t.Head.Attempts[first.Lane].Of(first), max: t.Def.Settings.MaxAttempts, claims: found}
		l.care, l.row = e.judge()
	}
	switch l.care {
	case patient:
		return nil
	case aside:
		return t.setAside(tx, l, works[0], found)
	}
	if mine.isMade && mine.row == l.row {
		return nil
	}
	// While the message waits its server has a mark, with which the claim goes: there is none of an empty queue.
	t.Keys.Queue().Keep(tx, first)
	l.writes = true
	if err := t.removeVain(tx, found); err != nil {
		return err
	}
	tx.Set(tenant.ReadyClaim(t.Ref, t.c.Process.ID), tenant.EncodeRecord(l.row))
	return nil
}

// removeVain removes the claims of the dead that make no suspects any more. A claimant that was not dead after all is a
// conflict.
func (t *visit) removeVain(tx backend.Tx, found []foreignClaim) error {
	for _, c := range found {
		says := slices.ContainsFunc(t.Head.Items, c.suspects)
		if c.life != mailbox.Dead || says {
			continue
		}
		key := tenant.ReadyClaim(t.Ref, c.process)
		if _, err := tx.Get(key).Get(); err != nil {
			return err
		}
		tx.Clear(key.Only())
	}
	return nil
}

// setAside is step 6.
func (t *visit) setAside(tx backend.Tx, l *claimLook, w turn.Work, found []foreignClaim) error {
	attempted, isThere, err := t.Unchanged(tx, w)
	if err != nil || !isThere {
		l.care = patient // it is looked at again
		return err
	}
	count := attempted.Of(*w.Item)
	for _, c := range found {
		if !c.Names(*w.Item) || c.life != mailbox.Dead {
			continue
		}
		count++
		key := tenant.ReadyClaim(t.Ref, c.process)
		row, record := tx.Get(key), tx.Get(tenant.PresenceOf(c.process).Record())
		if _, err := row.Get(); err != nil {
			return err
		}
		if _, err := record.Get(); err != nil {
			return err
		}
		tx.Clear(key.Only())
	}
	l.counted, err = t.EndMessage(tx, w, turn.Vanished, count)
	return err
}

// remember keeps what a look found, after its transaction.
func (l *claimLook) remember(t *visit, mine *claimed) {
	t.c.Process.Others.Note(l.records, l.at)
	for _, d := range t.Mine {
		t.c.Process.Deliver(d)
	}
	if l.nothing {
		return
	}
	mine.until, mine.doubts = l.until, l.care != asEver
	if l.writes {
		mine.row, mine.isMade = l.row, true
	}
	t.c.caution.claims.Store(t.Ref, mine)
	switch {
	case l.care == aside:
		t.tellCounted(l.first, l.counted, turn.Vanished)
	case l.care == patient && !mine.warned:
		mine.warned = true
		t.about(t.c.log.Warn(), l.first.Envelope.Name).
			Msg("the server waits: its next message may have killed consumers, and it is not known yet which of them live")
	}
}

// foreignClaim is the claim of another process, and what is known of that.
type foreignClaim struct {
	tenant.Claim
	process string
	life    mailbox.Life
	until   backend.Versionstamp // of a claim of the queue
}

// suspects reports whether a message may have killed the claimant, if that is dead.
func (c foreignClaim) suspects(item queue.Item) bool {
	return c.Names(item) || c.IsOfQueue() && item.Stamp.Compare(c.until) <= 0
}

// isSuspect is step 3.
func isSuspect(found []foreignClaim, item queue.Item) bool {
	return slices.ContainsFunc(found, func(c foreignClaim) bool { return c.life != mailbox.Alive && c.suspects(item) })
}

// evidence is what is known of a suspect.
type evidence struct {
	head   backend.Versionstamp
	count  int // attempts that failed and were counted
	max    int
	claims []foreignClaim
}

// judge is the steps 4 to 6: how the turn goes on, and under which claim.
func (e evidence) judge() (care, tenant.Claim) {
	died, open, lastDied := e.count, 0, false
	for _, c := range e.claims {
		switch {
		case c.Stamp != e.head:
		case c.life == mailbox.Dead:
			died++
			lastDied = lastDied || c.Last
		case c.life == mailbox.Unproven:
			open++
		}
	}
	switch {
	case died >= e.max && lastDied:
		return aside, tenant.Claim{}
	case died+open+1 < e.max:
		return alone, tenant.Claim{Stamp: e.head}
	case open > 0:
		return patient, tenant.Claim{}
	}
	return alone, tenant.Claim{Stamp: e.head, Last: true}
}

// disclaim gives up the claims of a consumer that ends in order: they are no reason to suspect anything.
func (c *consumer) disclaim(ctx context.Context) {
	var refs []tenant.Ref
	c.caution.claims.Range(func(ref, _ any) bool {
		refs = append(refs, ref.(tenant.Ref))
		return true
	})
	for page := range slices.Chunk(refs, tenant.MaxScan) {
		err := c.DB.Transact(ctx, func(tx backend.Tx) error {
			for _, ref := range page {
				tx.Clear(tenant.ReadyClaim(ref, c.Process.ID).Only())
			}
			return nil
		})
		if err != nil {
			if !isFatal(err) {
				c.log.Warn().Err(err).Msg("claims could not be given up; the next consumers will be careful")
			}
			return
		}
	}
}

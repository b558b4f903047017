package dserver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// A message that kills its process (a stack overflow, memory that runs out, os.Exit) leaves no time to count the
// attempt, and would meet one consumer after the other for ever. So where that may have happened, who begins something
// says so beforehand, in a claim: a row of its own process beside the server's ready mark. A claim keeps nobody away, and
// conflicts with nobody. It is evidence once its process is dead (witness.go):
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
	youth = 5 * consumerBeat // longer than a death takes to be proven

	// maxClaims is how many claims of a server are read: more say nothing more.
	maxClaims = 1000
)

// caution tells whether a consumer is careful, and for what.
type caution struct {
	name     string      // of the consumer, in owner records
	until    time.Time   // the end of its youth
	vanished atomic.Bool // a consumer is dead and not forgotten
	claims   sync.Map    // Ref -> *claimed: the servers that it has claimed, or is in doubt about
}

func (c *caution) isCareful() bool { return c.vanished.Load() || time.Now().Before(c.until) }

// claim is a claim as it is stored. Its field names are part of the stored format.
type claim struct {
	Stamp [12]byte `cbor:"stamp"`          // the one message that is begun; zero: any of the queue
	Last  bool     `cbor:"last,omitempty"` // it was begun when all claimants before were known to be dead or to live
}

// claimed is what a consumer remembers of its claim of a server. It belongs to the server's turn.
type claimed struct {
	row    claim
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
func (t *turn) careful() (care, error) {
	mine := t.claimed()
	if mine == nil {
		return asEver, nil
	}
	look, err := t.lookAtClaims(mine)
	if errors.Is(err, errNoRecord) {
		if err = t.c.process.beatAlways(t.c.base); err == nil {
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
func (t *turn) claimed() *claimed {
	if !t.marked || t.c.steps != nil || len(t.locals) > 0 && t.locals[0].released != nil {
		return nil
	}
	known, _ := t.c.caution.claims.Load(t.s.ref())
	mine, _ := known.(*claimed)
	switch {
	case mine == nil && !t.c.caution.isCareful():
		return nil
	case mine == nil:
		return new(claimed)
	case mine.isMade && !mine.doubts && mine.row == claim{}:
		return nil
	case !mine.doubts && !t.c.caution.isCareful():
		return nil
	}
	return mine
}

// claimLook is what one transaction found, and decided.
type claimLook struct {
	care
	row     claim
	writes  bool                            // the row
	nothing bool                            // nothing waits that could be handled
	records map[string][]byte               // of the claimants' processes
	until   map[string]backend.Versionstamp // as in claimed
	at      time.Time
	first   work
	counted counted // when it was set aside, or the server halts
}

// lookAtClaims reads the claims of the server, decides (steps 2 to 6), and writes what follows.
func (t *turn) lookAtClaims(mine *claimed) (l claimLook, err error) {
	err = t.c.db.Transact(t.c.base, func(tx backend.Tx) (err error) {
		t.mine = nil
		l, err = t.lookIn(tx, mine)
		return err
	})
	return l, err
}

func (t *turn) lookIn(tx backend.Tx, mine *claimed) (l claimLook, err error) {
	own := tx.Get(presenceOf(t.c.process.id).record())
	rows := tx.GetRange(readyClaims(t.s.ref()).Tree(), backend.RangeOptions{Limit: maxClaims, Snapshot: true})
	if err := readHead(tx, t.keys, &t.head, state{}, true); err != nil {
		return l, err
	}
	works := t.ready(maxBatch)
	if len(works) == 0 || !t.head.killed.IsZero() || !t.s.def.reads(t.head.meta.Schema) || t.s.isBlind(t.head.version) != nil {
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
func (t *turn) otherClaims(tx backend.Tx, l *claimLook, mine *claimed, pairs []backend.KeyValue) ([]foreignClaim, error) {
	var found []foreignClaim
	var records []backend.Future[[]backend.KeyValue]
	for _, pair := range pairs {
		c, ok := parseClaim(t.s.ref(), pair)
		if !ok || c.process == t.c.process.id {
			continue
		}
		found = append(found, c)
		records = append(records, tx.GetRange(presenceOf(c.process).record().Only(), backend.RangeOptions{Snapshot: true}))
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
		c.life = t.c.process.others.weigh(c.process, l.records[c.process], l.at)
		if c.isOfQueue() {
			c.until = t.untilOf(mine, c.process)
			l.until[c.process] = c.until
		}
	}
	return found, nil
}

// untilOf is up to where a claim of the queue makes suspects: what waited when it was first seen.
func (t *turn) untilOf(mine *claimed, process string) (until backend.Versionstamp) {
	if until, ok := mine.until[process]; ok {
		return until
	}
	for _, item := range t.head.items {
		if until.Compare(item.Stamp) < 0 {
			until = item.Stamp
		}
	}
	return until
}

// decide says how the turn goes on, and writes what that needs.
func (t *turn) decide(tx backend.Tx, l *claimLook, mine *claimed, found []foreignClaim, works []work) error {
	l.first = works[0]
	first := *l.first.item
	if slices.ContainsFunc(works, func(w work) bool { return isSuspect(found, *w.item) }) {
		e := evidence{head: first.Stamp, count: t.head.attempts[first.Lane].of(first), max: t.s.def.settings.maxAttempts, claims: found}
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
	if _, waits, err := t.keys.queue().Find(tx, first.Stamp); err != nil || !waits {
		return err
	}
	l.writes = true
	if err := t.removeVain(tx, found); err != nil {
		return err
	}
	tx.Set(readyClaim(t.s.ref(), t.c.process.id), encodeRecord(l.row))
	return nil
}

// removeVain removes the claims of the dead that make no suspects any more. A claimant that was not dead after all is a
// conflict.
func (t *turn) removeVain(tx backend.Tx, found []foreignClaim) error {
	for _, c := range found {
		says := slices.ContainsFunc(t.head.items, c.suspects)
		if c.life != dead || says {
			continue
		}
		key := readyClaim(t.s.ref(), c.process)
		if _, err := tx.Get(key).Get(); err != nil {
			return err
		}
		tx.Clear(key.Only())
	}
	return nil
}

// setAside is step 6.
func (t *turn) setAside(tx backend.Tx, l *claimLook, w work, found []foreignClaim) error {
	attempted, isThere, err := t.unchanged(tx, w)
	if err != nil || !isThere {
		l.care = patient // it is looked at again
		return err
	}
	count := attempted.of(*w.item)
	for _, c := range found {
		if !c.names(*w.item) || c.life != dead {
			continue
		}
		count++
		key := readyClaim(t.s.ref(), c.process)
		row, record := tx.Get(key), tx.Get(presenceOf(c.process).record())
		if _, err := row.Get(); err != nil {
			return err
		}
		if _, err := record.Get(); err != nil {
			return err
		}
		tx.Clear(key.Only())
	}
	l.counted, err = t.end(tx, w, errVanished, count)
	return err
}

// errVanished is what becomes of a message whose consumers vanished.
var errVanished = &fault{Text: "the consumer vanished in each attempt"}

// end sets a message aside for which there is nothing more to try, or halts its server.
func (t *turn) end(tx backend.Tx, w work, f *fault, count int) (counted, error) {
	n := counted{attempts: count, last: true, halts: t.s.def.settings.halt}
	if !n.halts {
		return n, t.giveUp(tx, w, f, count)
	}
	tx.Set(t.keys.attempts(w.item.Lane), encodeRecord(attempts{Stamp: w.item.Stamp, Count: count, Halts: true}))
	return n, nil
}

// unchanged reads the attempts of a message, so that a change of them, its disappearance or a kill is a conflict. It
// reports false when the message is not there, or was tried meanwhile.
func (t *turn) unchanged(tx backend.Tx, w work) (attempts, bool, error) {
	_, found, err := t.keys.queue().Find(tx, w.item.Stamp)
	if err != nil {
		return attempts{}, false, err
	}
	now, err := t.keys.readAttempts(tx, w.item.Lane)
	if err != nil {
		return attempts{}, false, err
	}
	killed, err := t.keys.killedAt(tx)
	return now, found && killed.IsZero() && now == t.head.attempts[w.item.Lane], err
}

// remember keeps what a look found, after its transaction.
func (l *claimLook) remember(t *turn, mine *claimed) {
	t.c.process.others.note(l.records, l.at)
	for _, d := range t.mine {
		t.c.process.deliver(d)
	}
	if l.nothing {
		return
	}
	mine.until, mine.doubts = l.until, l.care != asEver
	if l.writes {
		mine.row, mine.isMade = l.row, true
	}
	t.c.caution.claims.Store(t.s.ref(), mine)
	switch {
	case l.care == aside:
		t.tellCounted(l.first, l.counted, errVanished)
	case l.care == patient && !mine.warned:
		mine.warned = true
		t.about(t.c.log.Warn(), l.first.envelope.Name).
			Msg("the server waits: its next message may have killed consumers, and it is not known yet which of them live")
	}
}

// foreignClaim is the claim of another process, and what is known of that.
type foreignClaim struct {
	claim
	process string
	life    life
	until   backend.Versionstamp // of a claim of the queue
}

func (c claim) isOfQueue() bool { return c.Stamp == [12]byte{} }

func (c claim) names(item queue.Item) bool { return c.Stamp == item.Stamp }

// suspects reports whether a message may have killed the claimant, if that is dead.
func (c foreignClaim) suspects(item queue.Item) bool {
	return c.names(item) || c.isOfQueue() && item.Stamp.Compare(c.until) <= 0
}

// isSuspect is step 3.
func isSuspect(found []foreignClaim, item queue.Item) bool {
	return slices.ContainsFunc(found, func(c foreignClaim) bool { return c.life != alive && c.suspects(item) })
}

// evidence is what is known of a suspect.
type evidence struct {
	head   backend.Versionstamp
	count  int // attempts that failed and were counted
	max    int
	claims []foreignClaim
}

// judge is the steps 4 to 6: how the turn goes on, and under which claim.
func (e evidence) judge() (care, claim) {
	died, open, lastDied := e.count, 0, false
	for _, c := range e.claims {
		switch {
		case c.Stamp != e.head:
		case c.life == dead:
			died++
			lastDied = lastDied || c.Last
		case c.life == unproven:
			open++
		}
	}
	switch {
	case died >= e.max && lastDied:
		return aside, claim{}
	case died+open+1 < e.max:
		return alone, claim{Stamp: e.head}
	case open > 0:
		return patient, claim{}
	}
	return alone, claim{Stamp: e.head, Last: true}
}

// parseClaim reads a row. One of an older form names nobody who could be asked for.
func parseClaim(ref Ref, pair backend.KeyValue) (c foreignClaim, ok bool) {
	rest, _ := pair.Key.CutPrefix(readyClaims(ref))
	elements, err := rest.Elements()
	if err != nil || len(elements) != 1 {
		return c, false
	}
	c.process, ok = elements[0].(string)
	return c, ok && decodeRecord(pair.Value, &c.claim) == nil
}

// disclaim gives up the claims of a consumer that ends in order: they are no reason to suspect anything.
func (c *consumer) disclaim(ctx context.Context) {
	var refs []Ref
	c.caution.claims.Range(func(ref, _ any) bool {
		refs = append(refs, ref.(Ref))
		return true
	})
	for page := range slices.Chunk(refs, maxScan) {
		err := c.db.Transact(ctx, func(tx backend.Tx) error {
			for _, ref := range page {
				tx.Clear(readyClaim(ref, c.process.id).Only())
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

// dropClaims removes the claims of a process that is gone.
func (p *process) dropClaims(ctx context.Context, id string) error {
	all := backend.NewKey(keyReady)
	for rest := all.Below(); ; {
		var pairs []backend.KeyValue
		err := p.db.Read(ctx, func(tx backend.ReadTx) (err error) {
			pairs, err = tx.GetRange(rest, backend.RangeOptions{Limit: maxScan}).Get()
			return err
		})
		if err != nil {
			return err
		}
		var theirs []backend.Key
		for _, pair := range pairs {
			if _, claimant, ok := claimOf(pair.Key); ok && claimant == id {
				theirs = append(theirs, pair.Key)
			}
		}
		if err := p.clearClaims(ctx, theirs); err != nil {
			return err
		}
		if len(pairs) < maxScan {
			return nil
		}
		rest = rest.After(pairs[len(pairs)-1].Key)
	}
}

func (p *process) clearClaims(ctx context.Context, keys []backend.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return p.db.Transact(ctx, func(tx backend.Tx) error {
		for _, key := range keys {
			tx.Clear(key.Only())
		}
		return nil
	})
}

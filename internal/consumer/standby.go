package consumer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Standing by. A bell is heard by all consumers of a type. If each of them began a turn, one would commit, and the work of the
// others would be for nothing: eight consumers of one busy server had a fifth of the throughput of one. So:
//
//  1. The peers of a server have an order (mailbox/pulse.go). The first begins with it at once; the others stand by: they look
//     at the marks of the shard and at the pulses of their peers in short intervals, and at nothing else.
//  2. A process whose consumers are at work has a pulse. It is waited for while that changes, and for some intervals from when
//     the mark was seen. Then the next in the order takes its place, at once, until the pulse is seen again.
//  3. A consumer that ends removes its pulse first, so that its peers need not wait; then come its turns in hand. Where others
//     of its process work on, the pulse tells which types have ended. Who is next behind one peer has a watch on what that runs.
//  4. A process where more servers wait for a turn than can run says so in its pulse, and is not waited for: who has room helps.
//  5. No wait is longer than LookInterval: then a peer begins all the same. The first may have a reason to leave the server
//     alone that others have not.
//
// What joins a turn without the queue, and what this process has pushed itself, is not waited with. And nothing rests on any of
// this but time: it is no claim, and no claim's evidence (claim.go). A claim says which message may have killed a process; a
// pulse, who need not begin now. They are apart because the first must be written before each message that it can be of, and
// must survive its process, and the second must cost the same for one server as for a thousand.

// bystander is what a scanner of one shard remembers of what it stands by for. It belongs to the scanner's goroutine.
type bystander struct {
	c     *consumer
	shard int64
	now   time.Time        // of the look
	of    map[string]*crew // by type
	soon  time.Duration    // in which the next look is due; zero when it stands by for nothing
	next  ability          // of the one peer that it was next behind in the look before; zero when that was none or several
	ends  watched          // on the end of that
}

// watched is a watch on the end of what a peer runs, which stays from look to look.
type watched struct {
	backend.Watch // nil: none
	of            ability
	isNew         bool // it was set in this look, and is no watch if its transaction fails
}

// ability is a type that a peer runs.
type ability struct{ typ, peer string }

// crew is the peers of one type, and what it stands by for there.
type crew struct {
	typ    string
	peers  []string
	next   time.Time // when it finds out again who they are
	pulses map[string]*mailbox.Pulse
	first  map[string]time.Time // of each server that it stands by for: since when
	seen   map[string]time.Time // first, as it becomes in this look
	read   map[string]struct{}  // whose pulse was read in this look
	needed []string             // those of the look before
	behind map[string]struct{}  // the peers that it is next behind in the order of some server, in this look
}

// A scanner that finds marks keeps to the peers that it knows for peersFor, and for aloneFor where it knows none. Those that
// left are noticed by their pulse, and nobody waits for one that came.
const (
	peersFor = time.Second
	aloneFor = peersFor / 5
)

func newCrew(typ string) *crew {
	return &crew{
		typ: typ, seen: map[string]time.Time{}, read: map[string]struct{}{}, pulses: map[string]*mailbox.Pulse{},
		behind: map[string]struct{}{},
	}
}

// begin begins a look.
func (b *bystander) begin() {
	b.next, b.ends.isNew = b.onlyBehind(), false
	now := time.Now()
	for _, k := range b.of {
		if now.Sub(b.now) >= mailbox.LookInterval { // this process stood still, not its peers
			clear(k.first)
			for _, p := range k.pulses {
				p.Again(now)
			}
		}
		k.needed = slices.AppendSeq(k.needed[:0], maps.Keys(k.read))
		k.seen, k.read = map[string]time.Time{}, map[string]struct{}{}
	}
	b.now = now
}

// crewOf finds out who the peers of a type are, by what was read last, and has it read again for the next time: no mark waits
// for that, and a type without marks costs no reads.
func (b *bystander) crewOf(ctx context.Context, typ string) *crew {
	k := b.of[typ]
	if k == nil {
		if b.of == nil {
			b.of = map[string]*crew{}
		}
		k = newCrew(typ)
		b.of[typ] = k
	}
	if b.now.Before(k.next) {
		return k
	}
	k.peers = b.c.Process.Peers(typ, b.shard)
	k.next = b.now.Add(peersFor)
	if k.peers == nil {
		k.next = b.now.Add(aloneFor)
	}
	maps.DeleteFunc(k.pulses, func(id string, _ *mailbox.Pulse) bool { return !slices.Contains(k.peers, id) })
	b.c.wg.Go(func() { _, _ = b.c.Process.Crew(ctx, typ) })
	return k
}

// standsBy reports whether a marked server is left to a peer for now.
func (b *bystander) standsBy(ctx context.Context, ref tenant.Ref) (bool, error) {
	if b == nil {
		return false, nil
	}
	k := b.crewOf(ctx, ref.Type)
	if k.peers == nil || b.c.options.Rival {
		return false, nil
	}
	b.c.peered.Store(b.now.UnixNano())
	b.c.peers.Store(int64(len(k.peers)))
	select {
	case b.c.standing <- struct{}{}:
	default:
	}
	first, isKnown := k.first[ref.ID]
	if !isKnown {
		first = b.now
	}
	if b.now.Sub(first) >= mailbox.LookInterval {
		return false, nil
	}
	mailbox.Rank(k.peers, ref.ID)
	before := k.peers[:slices.Index(k.peers, b.c.Process.ID)]
	if err := b.meet(ctx, k, before); err != nil {
		return false, err
	}
	for i, peer := range before {
		if err := b.readPulse(ctx, k, peer); err != nil {
			return false, err
		}
		if k.pulses[peer].IsAwaited(first, b.now, len(k.peers)) {
			k.seen[ref.ID] = first
			if i == len(before)-1 {
				k.behind[peer] = struct{}{}
			}
			return true, nil
		}
	}
	return false, nil
}

// meet reads the pulses of peers that were never read, so that those of them that are dead are found to be silent all at once,
// and not one after the other when their turn in the order comes.
func (b *bystander) meet(ctx context.Context, k *crew, peers []string) error {
	var unknown []string
	for _, peer := range peers {
		if k.pulses[peer] == nil {
			unknown = append(unknown, peer)
		}
	}
	if unknown == nil {
		return nil
	}
	return b.c.DB.Read(ctx, func(tx backend.ReadTx) error { return b.readPulses(tx, k, unknown) })
}

// readNeeded looks at the peers that the look before has needed, in the transaction that reads the marks. Most servers are left
// to the first of their peers, so it is few.
func (b *bystander) readNeeded(tx backend.ReadTx) error {
	if b == nil {
		return nil
	}
	b.watchEnd(tx)
	for _, k := range b.of {
		if err := b.readPulses(tx, k, k.needed); err != nil {
			return err
		}
	}
	return nil
}

// watchEnd has a watch on the end of the peer that it is next behind.
func (b *bystander) watchEnd(tx backend.ReadTx) {
	if b.ends.Watch != nil && !b.ends.isNew && b.ends.of == b.next && !isDone(b.ends) {
		return
	}
	b.forget()
	if b.next != (ability{}) {
		b.ends = watched{tx.Watch(tenant.PresenceOf(b.next.peer).Ability(b.next.typ)), b.next, true}
	}
}

func isDone(w backend.Watch) bool {
	select {
	case <-w.Done():
		return true
	default:
		return false
	}
}

// onlyBehind is what the one peer runs that it was next behind in the look before; zero when that was none or several.
func (b *bystander) onlyBehind() (of ability) {
	count := 0
	for _, k := range b.of {
		count += len(k.behind)
		for id := range k.behind {
			of = ability{k.typ, id}
		}
		clear(k.behind)
	}
	if count != 1 {
		return ability{}
	}
	return of
}

// readPulse looks at one more.
func (b *bystander) readPulse(ctx context.Context, k *crew, peer string) error {
	if _, isRead := k.read[peer]; isRead {
		return nil
	}
	return b.c.DB.Read(ctx, func(tx backend.ReadTx) error { return b.readPulses(tx, k, []string{peer}) })
}

// Of a process that had a pulse at the last look the record is not read: the end of that pulse tells that it is gone.
func (b *bystander) readPulses(tx backend.ReadTx, k *crew, ids []string) error {
	pulses, records := make([]backend.Future[[]byte], len(ids)), make([]backend.Future[[]byte], len(ids))
	for i, id := range ids {
		keys := tenant.PresenceOf(id)
		pulses[i], records[i] = tx.Get(keys.Pulse()), backend.Ready([]byte{}, nil)
		if !k.pulses[id].IsThere() {
			records[i] = tx.Get(keys.Record())
		}
	}
	for i, id := range ids {
		isThere, err := tenant.IsThere(records[i])
		if err != nil {
			return err
		}
		value, err := pulses[i].Get()
		if err != nil {
			return err
		}
		k.read[id] = struct{}{}
		k.pulses[id] = k.pulses[id].Next(value, isThere, k.typ, b.now)
	}
	return nil
}

// nextShare and otherShare are what part of its time who is next, and who is not, spends with looks, if that is not too seldom: a
// look costs ten times as much on a store across a network, and its client's and server's processors are wanted by who is at
// work. With a watch on the end of its peer, looks of who is next are for a peer that is killed.
const (
	nextShare  = 10
	otherShare = 20
)

// end ends a look.
func (b *bystander) end() {
	took := time.Since(b.now)
	b.soon = 0
	for _, k := range b.of {
		k.first = k.seen
		if len(k.first) == 0 {
			continue
		}
		pulse := mailbox.PulseInterval(len(k.peers))
		interval := min(max(otherShare*took, 2*pulse), 3*pulse)
		if len(k.behind) > 0 {
			seldom := pulse / 2
			if b.ends.Watch != nil {
				seldom = pulse
			}
			interval = min(max(nextShare*took, pulse/3), seldom)
		}
		if b.soon == 0 || interval < b.soon {
			b.soon = interval
		}
	}
	if b.soon == 0 { // and the next look may be late
		b.forget()
	}
}

// forget gives back the watch.
func (b *bystander) forget() {
	if b.ends.Watch != nil {
		b.ends.Cancel()
	}
	b.ends = watched{}
}

// sleep waits until the next look is due, or the peer that it is next behind ends.
func (b *bystander) sleep(ctx context.Context) {
	if b.ends.Watch == nil {
		sleep(ctx, b.soon)
		return
	}
	timer := time.NewTimer(b.soon)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-b.ends.Done():
	}
}

// pulse keeps the pulse of this process while its consumer is at work and has peers, until ctx ends. Where no marks are found,
// and where others are at work, it waits without a timer.
func (c *consumer) pulse(ctx context.Context) {
	beats := false
	for ctx.Err() == nil {
		if time.Since(time.Unix(0, c.peered.Load())) >= 2*mailbox.LookInterval {
			select {
			case <-ctx.Done():
			case <-c.standing:
			}
			continue
		}
		sleep(ctx, mailbox.PulseInterval(int(c.peers.Load())))
		works, isBusy := c.works()
		switch {
		case ctx.Err() != nil:
		case works:
			beats = true
			_ = c.DB.Transact(c.Base, func(tx backend.Tx) error { // peers go on without it
				backend.CommitAsync(tx) // no power cut takes it and leaves us
				c.Process.Beat(tx, isBusy)
				return nil
			})
		default:
			select {
			case <-ctx.Done():
			case <-c.begins:
			}
		}
	}
	if beats || c.peered.Load() > 0 && c.Process.HasMembers() {
		c.stopPulse()
	}
}

// works reports whether anything is in hand or was since the last call, and whether more waits than can run. Where nothing is,
// begins has a token once there is.
func (c *consumer) works() (works, isBusy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	works = c.worked || c.workers > c.idle || c.runnable.len > 0
	c.worked, c.rests = false, !works
	return works, c.runnable.len > c.max
}

// stopPulse is step 3. It rings no bell: who leaves a server to a peer looks soon by itself, and who does not has begun with it.
func (c *consumer) stopPulse() {
	_ = c.Process.StopPulse(c.Base, c.Types()) // peers find out when it does not change
}

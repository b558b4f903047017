package mailbox

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Peers are the living processes that run a type exactly as this one does: the same messages, schema and labels. Which of them
// begins with a server is agreed on without a word: by rendezvous hashing, each server has an order of them, in which the
// first is the one with the largest hash of its name and the server's. So each has about its share, and when one comes or goes
// only that share moves. The idea is Thaler's and Ravishankar's ("A name-based mapping scheme for rendezvous", 1996).
//
// Nothing but time rests on it: of two that begin with one server the store lets one commit.

// maxPeers bounds those that share the servers of a shard. When there are more, each shard has its own, by the same hash.
const maxPeers = 64

// Peers is the names of the peers that share a shard, and of this process among them, as they were read last; nil when it is
// alone, when it is not among them, or when that is not known.
func (p *Process) Peers(typ string, shard int64) []string {
	p.mu.Lock()
	crew := p.crews[typ].peers
	p.mu.Unlock()
	own := slices.IndexFunc(crew, func(a tenant.Able) bool { return a.Process == p.ID })
	if own < 0 {
		return nil
	}
	var peers []string
	for _, a := range crew {
		if a.Equals(crew[own].Ability) {
			peers = append(peers, a.Process)
		}
	}
	if len(peers) > maxPeers {
		Rank(peers, fmt.Sprint(typ, " ", shard))
		if peers = peers[:maxPeers]; !slices.Contains(peers, p.ID) {
			return nil
		}
	}
	if len(peers) < 2 {
		return nil
	}
	return peers
}

// Rank puts peers into their order for a server.
func Rank(peers []string, server string) {
	type ranked struct {
		hash uint64
		peer string
	}
	order := make([]ranked, len(peers))
	for i, peer := range peers {
		order[i] = ranked{rendezvous(peer, server), peer}
	}
	slices.SortFunc(order, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.hash, a.hash), cmp.Compare(a.peer, b.peer))
	})
	for i := range order {
		peers[i] = order[i].peer
	}
}

// rendezvous is FNV-1a of two names, with a step of MurmurHash3's end: of names that differ in their ends alone, as numbered
// ones do, FNV's high bits hardly differ. All processes must come to the same, so it is no hash of hash/maphash.
func rendezvous(peer, server string) uint64 {
	const prime = 1099511628211
	x := uint64(14695981039346656037)
	for i := range len(peer) {
		x = (x ^ uint64(peer[i])) * prime
	}
	x *= prime // for the zero byte between them
	for i := range len(server) {
		x = (x ^ uint64(server[i])) * prime
	}
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// The pulse of a process is a key that changes while its consumers are at work and peers stand by, and that is removed when
// they stop. It says how much waits for a turn there, too, and which types the process has ceased to run while it runs others:
// of those nobody waits for it, before the peers have read its record again.
const (
	pulseInterval = 30 * time.Millisecond // among up to pulsePeers; in larger crews slower, so that all together stay as few
	pulsePeers    = 8
	pulseBytes    = 8 // of its number; then a byte, 1 when more waits than can run, and typeBytes for each type that has ended
	typeBytes     = 4
	pulseBeats    = 4 // so many intervals without a change, and the process is not waited for
	pulsePatience = 2 // and so many times what its changes took of late, where the store has much to do, and commits wait
	pulseForgets  = 8 // of what they took, a part as large is forgotten with each change
)

// PulseInterval is how often a process's pulse changes among so many peers.
func PulseInterval(peers int) time.Duration {
	return pulseInterval * time.Duration(max(1, peers/pulsePeers))
}

// SilentAfter is when a pulse that does not change says that the process is not at work.
func SilentAfter(peers int) time.Duration { return pulseBeats * PulseInterval(peers) }

// Beat is a pulse as it is stored: a number that differs from the last one, and whether more waits than can run.
func (p *Process) Beat(tx backend.Tx, isBusy bool) {
	value := binary.BigEndian.AppendUint64(nil, p.pulses.Add(1))
	ended := p.endedTypes()
	switch {
	case isBusy:
		value = append(value, 1)
	case len(ended) > 0:
		value = append(value, 0)
	}
	tx.Set(tenant.PresenceOf(p.ID).Pulse(), append(value, ended...))
}

// endedFor is for how long a pulse tells that a type has ended: peers wait no longer than LookInterval for anybody.
const endedFor = 2 * LookInterval

// end lets the next pulses tell that these types have ended, where no other consumer of the process runs them.
func (p *Process) end(types iter.Seq[string]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		p.ended = map[string]time.Time{}
	}
	for typ := range types {
		p.ended[typ] = time.Now()
	}
}

// endedTypes is the types that have ended, as a pulse has them.
func (p *Process) endedTypes() (ended []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for typ, at := range p.ended {
		if time.Since(at) > endedFor || len(p.MembersOf(typ)) > 0 {
			delete(p.ended, typ)
			continue
		}
		ended = append(ended, typeMark(typ)...)
	}
	return ended
}

// typeMark is a type as it stands in a pulse. Of two that have the same, one is not waited for in vain.
func typeMark(typ string) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(rendezvous(typ, "")))
}

// Pulse is what a peer has seen of a pulse, as it stands by for servers of a type; nil is nothing yet.
type Pulse struct {
	value  []byte
	since  time.Time     // when it changed last, as far as was seen
	silent bool          // it was waited for, and did not change; or it has stopped, or ended the type; or it has too much to do
	waited time.Duration // for how long it was waited for since then, and needed
	slow   time.Duration // for how long it was waited for before it changed, of late
}

// IsThere reports whether it was there at the last look.
func (s *Pulse) IsThere() bool { return s != nil && s.value != nil }

// Next is the pulse after one more look. A process that has no record is gone.
func (s *Pulse) Next(value []byte, isThere bool, typ string, now time.Time) *Pulse {
	switch {
	case !isThere, s != nil && value == nil && s.value != nil:
		return &Pulse{value: value, since: now, silent: true}
	case s == nil:
		return &Pulse{value: value, since: now, silent: !mayAwait(value, typ)}
	case !bytes.Equal(value, s.value):
		return &Pulse{value: value, since: now, silent: !mayAwait(value, typ), slow: max(s.waited, s.slow-s.slow/pulseForgets)}
	}
	return s
}

// mayAwait reports whether a pulse is of a process that has room, and runs a type as far as it says.
func mayAwait(value []byte, typ string) bool {
	if len(value) <= pulseBytes {
		return true
	}
	if value[pulseBytes] != 0 {
		return false
	}
	mark := typeMark(typ)
	for ended := range slices.Chunk(value[pulseBytes+1:], typeBytes) {
		if bytes.Equal(ended, mark) {
			return false
		}
	}
	return true
}

// Again begins anew after a time in which nobody looked.
func (s *Pulse) Again(now time.Time) { s.since, s.waited = now, 0 }

// IsAwaited reports whether its process may be waited for with a server that has had a mark since a moment. One that does not
// show itself in time is not waited for again, until it does. Its time is longer where its pulse was seen to change more slowly:
// a pulse is a commit, and where all commits wait, each peer that begins makes them wait longer.
func (s *Pulse) IsAwaited(marked, now time.Time, peers int) bool {
	since := marked
	if s.since.After(since) {
		since = s.since
	}
	limit := max(SilentAfter(peers), min(pulsePatience*s.slow, LookInterval))
	s.waited = min(max(s.waited, now.Sub(since)), limit) // one that stood still is not slow
	s.silent = s.silent || s.waited == limit
	return !s.silent
}

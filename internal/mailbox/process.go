package mailbox

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"iter"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/stacks"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// Process is this process as a user of one database: the consumers that run in it, which handles find for their local
// arrivals, and a mailbox for the answers to its queued calls.
type Process struct {
	db backend.Database
	ID string

	members atomic.Pointer[map[string][]Member] // the consumers by type; replaced, never changed
	since   atomic.Int64                        // when there was none before the first of them, in Unix milliseconds
	lead    chan struct{}                       // has room for one: who reads the mailbox
	tells   chan struct{}                       // has room for one: who tells what this process runs
	bell    backend.Watch                       // the leader's; nil when the mailbox has to be read
	Acts    Acts
	Stacks  stacks.Stacks
	Steady  atomic.Bool // nothing is left to chance that a test can see

	// Guarded by registry.mu.
	users int
	idle  time.Time   // since when it has no users
	tidy  *time.Timer // runs unwatch a while after that

	pulses atomic.Uint64 // as they were numbered

	mu      sync.Mutex
	called  uint64
	pending map[uint64]*PendingCall // by secret
	last    queue.Item              // the last answer that was read
	stale   int                     // how many were read and not removed yet
	cleans  bool                    // a push is removing them
	beaten  time.Time               // when the record was written
	beats   bool                    // a push is writing it

	seen map[string]time.Time // other processes' records, when they were there

	roster roster

	crews  map[string]crew      // by type
	ended  map[string]time.Time // types that were run here, and are no more, for the pulse
	Others Witness
	clocks clocks
}

// PendingCall waits for an answer. answer is set before done is closed.
type PendingCall struct {
	to     tenant.Ref
	since  time.Time
	number uint64 // in the order of calls
	Secret uint64 // names it in its address, so that nobody answers whom the address was not given to
	done   chan struct{}
	answer tenant.Delivery
}

const (
	beatInterval = time.Minute       // how often the record of a process that waits changes
	sweepAfter   = 10 * beatInterval // a record that did not change for so long belongs to nobody
	minRemoved   = 32                // answers that were read, before a push removes them
)

// registry is the processes by database. Handles are values without a life of their own, so what they share in a
// process has to be found by the database that they were made with.
var registry struct {
	sync.Map // backend.Database -> *Process
	mu       sync.Mutex
}

// Of finds the process of a database that is in use, nil when there is none.
func Of(db backend.Database) *Process {
	if p, ok := registry.Load(db); ok {
		return p.(*Process)
	}
	return nil
}

// Acquire finds or makes the process of a database, which stays until release and a while after.
func Acquire(db backend.Database) (p *Process, release func()) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if p = Of(db); p == nil {
		forgetIdle()
		p = &Process{
			db: db, ID: tenant.NewProcessID(),
			lead:    make(chan struct{}, 1),
			tells:   make(chan struct{}, 1),
			pending: map[uint64]*PendingCall{},
		}
		p.members.Store(&map[string][]Member{})
		p.tidy = time.AfterFunc(watchLinger, p.unwatch)
		registry.Store(db, p)
	}
	p.users++
	return p, p.release
}

func (p *Process) release() {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	p.idle = time.Now()
	if p.users--; p.users == 0 {
		p.tidy.Reset(watchLinger)
	}
}

// forgetIdle drops the processes that nobody used for a while, with the closed databases among theirs. Those of tests
// with virtual time are dropped when the next test's time begins.
func forgetIdle() {
	registry.Range(func(db, value any) bool {
		p := value.(*Process)
		if idle := time.Since(p.idle); p.users == 0 && p.Acts.isIdle() && (idle > beatInterval || idle < 0) {
			registry.Delete(db)
		}
		return true
	})
}

// Member is a consumer of this process.
type Member interface {
	// Types is the types that it runs, and Ability what it can handle of one of them.
	Types() iter.Seq[string]
	Ability(typ string) tenant.Ability

	// Wake tells it that a server has a new message.
	Wake(ref tenant.Ref)

	// InHand is what it does at this moment.
	InHand() tenant.InHand
	// Handled is how many messages of a type it has handled.
	Handled(typ string) int64

	// Load is that and more, for metrics; its Types are left out.
	Load() Load

	// Log is where the process logs as well.
	Log() zerolog.Logger
}

// Join makes a consumer known to the handles of this process.
func (p *Process) Join(m Member) {
	p.change(m, func(l []Member) []Member { return append(l, m) })
}

// Leave makes it unknown.
func (p *Process) Leave(m Member) {
	p.change(m, func(l []Member) []Member {
		return slices.DeleteFunc(l, func(other Member) bool { return other == m })
	})
	p.end(m.Types())
}

// HasMembers reports whether any consumer of the process runs.
func (p *Process) HasMembers() bool { return len(*p.members.Load()) > 0 }

func (p *Process) change(m Member, with func([]Member) []Member) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	changed := map[string][]Member{}
	for typ, list := range *p.members.Load() {
		changed[typ] = slices.Clone(list)
	}
	for typ := range m.Types() {
		if changed[typ] = with(changed[typ]); len(changed[typ]) == 0 {
			delete(changed, typ)
		}
	}
	if len(*p.members.Load()) == 0 {
		p.since.Store(time.Now().UnixMilli())
	}
	p.members.Store(&changed)
}

// MembersOf is the consumers of this process that run a type.
func (p *Process) MembersOf(typ string) []Member {
	if p == nil {
		return nil
	}
	return (*p.members.Load())[typ]
}

// Logger is that of a consumer of this process; one that only sends warns as a consumer without a Logger does.
func (p *Process) Logger() zerolog.Logger {
	for _, list := range *p.members.Load() {
		return list[0].Log()
	}
	return logs.Default()
}

// Wake tells the consumers of this process that a server has a new message, so that they need no bell.
func (p *Process) Wake(ref tenant.Ref) {
	for _, m := range p.MembersOf(ref.Type) {
		m.Wake(ref)
	}
}

// newSecret is a number that nobody can guess.
func newSecret() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.NativeEndian.Uint64(b[:])
}

// Expect makes room for the answer of a server.
func (p *Process) Expect(to tenant.Ref) *PendingCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.called++
	call := &PendingCall{to: to, since: time.Now(), number: p.called, Secret: newSecret(), done: make(chan struct{})}
	for p.pending[call.Secret] != nil {
		call.Secret = newSecret()
	}
	p.pending[call.Secret] = call
	return call
}

// Calls reports whether a call to a server waits that was sent since a moment.
func (p *Process) Calls(to tenant.Ref, since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, call := range p.pending {
		if call.to == to && !call.since.Before(since) {
			return true
		}
	}
	return false
}

// Forget ends the wait of a call.
func (p *Process) Forget(call *PendingCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, call.Secret)
}

// Deliver answers a call. An answer that nobody waits for is dropped.
func (p *Process) Deliver(d tenant.Delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	call := p.pending[d.Call]
	if call == nil {
		return
	}
	delete(p.pending, d.Call)
	call.answer = d
	close(call.done)
}

// Announcement is what a call's push writes for its process: the record without which nobody answers, when it is new or
// its beat is due; and the removal of answers that were read.
type Announcement struct {
	process *Process
	call    *PendingCall
	beats   bool
	known   bool // there was a record before
	absent  bool // there is none
	drops   int
	last    queue.Item
}

// Announce prepares what the push of a call writes for this process.
func (p *Process) Announce(call *PendingCall) *Announcement {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &Announcement{process: p, call: call, beats: p.isDue() && !p.beats, known: p.isKnown()}
	p.beats = p.beats || a.beats && a.known // a new record is written by each push until it is known to be there
	if !p.cleans && p.stale >= minRemoved {
		p.cleans = true
		a.drops, a.last = p.stale, p.last
	}
	return a
}

func (a *Announcement) Write(tx backend.Tx) (err error) {
	if a.beats {
		if a.absent, err = a.process.renew(tx, a.known); err != nil {
			return err
		}
	}
	if a.drops > 0 {
		tenant.PresenceOf(a.process.ID).Mail().Drop(tx, a.last, a.drops)
	}
	return nil
}

// Ended is called once, when the transaction has.
func (a *Announcement) Ended(err error) {
	p := a.process
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.drops > 0 {
		p.cleans = false
	}
	if a.beats {
		p.beats = false
	}
	if err != nil {
		return
	}
	p.stale = max(0, p.stale-a.drops)
	if a.beats {
		p.renewed(a.known && a.absent, a.call.number)
	}
}

func (p *Process) newRecord() []byte {
	host, _ := os.Hostname() // a name for people; it may be missing
	r := tenant.ProcessRecord{Host: host, PID: os.Getpid(), Beat: time.Now().UnixMilli()}
	if members := p.all(); len(members) > 0 {
		r.Consumes, r.Since, r.Version = true, p.since.Load(), programVersion()
		r.Types, r.Labels = p.typesRun()
		for m := range members {
			r.Add(m.InHand())
			for typ := range m.Types() {
				if r.Types == nil {
					break // they are too many
				}
				if r.Handled == nil {
					r.Handled = map[string]int64{}
				}
				r.Handled[typ] += m.Handled(typ)
			}
		}
	}
	return tenant.EncodeRecord(r)
}

// all is the consumers of this process.
func (p *Process) all() map[Member]struct{} {
	all := map[Member]struct{}{}
	for _, list := range *p.members.Load() {
		for _, m := range list {
			all[m] = struct{}{}
		}
	}
	return all
}

// beat keeps the record of a process whose calls wait for long.
func (p *Process) beat(ctx context.Context) error {
	p.mu.Lock()
	due := p.isDue()
	p.mu.Unlock()
	if !due {
		return nil
	}
	return p.BeatAlways(ctx)
}

// BeatAlways is beat for a process that runs a consumer, or that has just stopped to.
func (p *Process) BeatAlways(ctx context.Context) error { return p.tell(ctx, false) }

// tell beats, and tells what this process runs when that has changed.
func (p *Process) tell(ctx context.Context, changed bool) error {
	p.mu.Lock()
	known, absent := p.isKnown(), false
	p.mu.Unlock()
	err := p.db.Transact(ctx, func(tx backend.Tx) (err error) {
		backend.CommitAsync(tx) // no power cut takes it and leaves us
		if absent, err = p.renew(tx, known); err == nil && changed && !absent {
			err = p.writeAbilities(tx)
		}
		return err
	})
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.renewed(known && absent, math.MaxUint64)
	}
	return err
}

// isDue reports whether the record is new or has to change. The mutex is held.
func (p *Process) isDue() bool { return time.Since(p.beaten) > beatInterval }

// isKnown reports whether the record was written before. The mutex is held.
func (p *Process) isKnown() bool { return !p.beaten.IsZero() }

// IsRecorded reports whether the record was written.
func (p *Process) IsRecorded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isKnown()
}

// renew writes the record, and reports whether one that is known is not there. A new one is written blindly: many calls
// that begin at once would conflict over it.
func (p *Process) renew(tx backend.Tx, known bool) (absent bool, err error) {
	key := tenant.PresenceOf(p.ID).Record()
	if known {
		old, err := tx.Get(key).Get()
		if err != nil {
			return false, err
		}
		absent = old == nil
	}
	tx.Set(key, p.newRecord())
	if absent { // removed, with what stood beside it
		err = p.writeAbilities(tx)
	}
	return absent, err
}

// renewed makes a beat known. When others had removed this process, taking it for dead, the answers to the calls before
// number are gone, and who waits for them is told. The mutex is held.
func (p *Process) renewed(removed bool, number uint64) {
	p.beaten = time.Now()
	if !removed {
		return
	}
	p.stale = 0
	for secret, call := range p.pending {
		if call.number < number {
			delete(p.pending, secret)
			call.answer = tenant.Delivery{Call: secret, Err: tenant.ErrReplyLost}
			close(call.done)
		}
	}
}

// jittered is d, or up to a quarter more unless a test runs each turn by hand.
func (p *Process) jittered(d time.Duration) time.Duration {
	if p.Steady.Load() {
		return d
	}
	return Jittered(d)
}

package dserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"math"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// process is this process as a user of one database: the consumers that run in it, which handles find for their local
// arrivals, and a mailbox for the answers to its queued calls.
type process struct {
	db backend.Database
	id string

	consumers atomic.Pointer[map[string][]*consumer] // by type; replaced, never changed
	lead      chan struct{}                          // has room for one: who reads the mailbox
	bell      backend.Watch                          // the leader's; nil when the mailbox has to be read
	acts      acts
	stacks    stacks
	steady    atomic.Bool // nothing is left to chance that a test can see

	// Guarded by registry.mu.
	users int
	idle  time.Time   // since when it has no users
	tidy  *time.Timer // runs unwatch a while after that

	mu      sync.Mutex
	called  uint64
	pending map[uint64]*pendingCall // by secret
	last    queue.Item              // the last answer that was read
	stale   int                     // how many were read and not removed yet
	cleans  bool                    // a push is removing them
	beaten  time.Time               // when the record was written
	beats   bool                    // a push is writing it

	seen map[string]time.Time // other processes' records, when they were there

	roster roster

	crews  map[string]crew // by type
	others witness
}

// pendingCall waits for an answer. answer is set before done is closed.
type pendingCall struct {
	to     Ref
	since  time.Time
	number uint64 // in the order of calls
	secret uint64 // names it in its address, so that nobody answers whom the address was not given to
	done   chan struct{}
	answer delivery
}

const (
	beatInterval = time.Minute       // how often the record of a process that waits changes
	sweepAfter   = 10 * beatInterval // a record that did not change for so long belongs to nobody
	minRemoved   = 32                // answers that were read, before a push removes them
)

// registry is the processes by database. Handles are values without a life of their own, so what they share in a
// process has to be found by the database that they were made with.
var registry struct {
	sync.Map // backend.Database -> *process
	mu       sync.Mutex
}

// processOf finds the process of a database that is in use, nil when there is none.
func processOf(db backend.Database) *process {
	if p, ok := registry.Load(db); ok {
		return p.(*process)
	}
	return nil
}

// acquireProcess finds or makes the process of a database, which stays until release and a while after.
func acquireProcess(db backend.Database) (p *process, release func()) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if p = processOf(db); p == nil {
		forgetIdle()
		p = &process{
			db: db, id: rand.Text(),
			lead:    make(chan struct{}, 1),
			pending: map[uint64]*pendingCall{},
		}
		p.consumers.Store(&map[string][]*consumer{})
		p.tidy = time.AfterFunc(watchLinger, p.unwatch)
		registry.Store(db, p)
	}
	p.users++
	return p, p.release
}

func (p *process) release() {
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
		p := value.(*process)
		if idle := time.Since(p.idle); p.users == 0 && p.acts.isIdle() && (idle > beatInterval || idle < 0) {
			registry.Delete(db)
		}
		return true
	})
}

// join makes a consumer known to the handles of this process.
func (p *process) join(c *consumer) {
	p.change(c, func(l []*consumer) []*consumer { return append(l, c) })
}

// leave makes it unknown.
func (p *process) leave(c *consumer) {
	p.change(c, func(l []*consumer) []*consumer {
		return slices.DeleteFunc(l, func(other *consumer) bool { return other == c })
	})
}

func (p *process) change(c *consumer, with func([]*consumer) []*consumer) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	changed := map[string][]*consumer{}
	for typ, list := range *p.consumers.Load() {
		changed[typ] = slices.Clone(list)
	}
	for typ := range c.types {
		if changed[typ] = with(changed[typ]); len(changed[typ]) == 0 {
			delete(changed, typ)
		}
	}
	p.consumers.Store(&changed)
}

// consumerOf is a consumer of this process that runs a type, or nil.
func (p *process) consumerOf(typ string) *consumer {
	if p == nil {
		return nil
	}
	if list := (*p.consumers.Load())[typ]; len(list) > 0 {
		return list[0]
	}
	return nil
}

// logger is that of a consumer of this process; one that only sends warns as a consumer without a Logger does.
func (p *process) logger() zerolog.Logger {
	for _, list := range *p.consumers.Load() {
		return list[0].log
	}
	return loggerOf(zerolog.Logger{})
}

// wake tells the consumers of this process that a server has a new message, so that they need no bell.
func (p *process) wake(ref Ref) {
	if p == nil {
		return
	}
	for _, c := range (*p.consumers.Load())[ref.Type] {
		c.wake(ref)
	}
}

// newSecret is a number that nobody can guess.
func newSecret() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.NativeEndian.Uint64(b[:])
}

// expect makes room for the answer of a server.
func (p *process) expect(to Ref) *pendingCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.called++
	call := &pendingCall{to: to, since: time.Now(), number: p.called, secret: newSecret(), done: make(chan struct{})}
	for p.pending[call.secret] != nil {
		call.secret = newSecret()
	}
	p.pending[call.secret] = call
	return call
}

// calls reports whether a call to a server waits that was sent since a moment.
func (p *process) calls(to Ref, since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, call := range p.pending {
		if call.to == to && !call.since.Before(since) {
			return true
		}
	}
	return false
}

func (p *process) forget(call *pendingCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, call.secret)
}

// deliver answers a call. An answer that nobody waits for is dropped.
func (p *process) deliver(d delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	call := p.pending[d.call]
	if call == nil {
		return
	}
	delete(p.pending, d.call)
	call.answer = d
	close(call.done)
}

// announcement is what a call's push writes for its process: the record without which nobody answers, when it is new or
// its beat is due; and the removal of answers that were read.
type announcement struct {
	process *process
	call    *pendingCall
	beats   bool
	known   bool // there was a record before
	absent  bool // there is none
	drops   int
	last    queue.Item
}

func (p *process) announce(call *pendingCall) *announcement {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &announcement{process: p, call: call, beats: p.isDue() && !p.beats, known: p.isKnown()}
	p.beats = p.beats || a.beats && a.known // a new record is written by each push until it is known to be there
	if !p.cleans && p.stale >= minRemoved {
		p.cleans = true
		a.drops, a.last = p.stale, p.last
	}
	return a
}

func (a *announcement) write(tx backend.Tx) (err error) {
	if a.beats {
		if a.absent, err = a.process.renew(tx, a.known); err != nil {
			return err
		}
	}
	if a.drops > 0 {
		presenceOf(a.process.id).mail().Drop(tx, a.last, a.drops)
	}
	return nil
}

// ended is called once, when the transaction has.
func (a *announcement) ended(err error) {
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

// record is who a process is, for operators, and a beat. Its field names are part of the stored format.
type record struct {
	Host string `cbor:"host"`
	PID  int    `cbor:"pid"`
	Beat int64  `cbor:"beat"` // Unix milliseconds by its clock

	Consumes bool     `cbor:"consumes,omitempty"` // it runs consumers
	Types    []string `cbor:"types,omitempty"`    // of these types; none are told when they are too many
}

func (p *process) newRecord() []byte {
	host, _ := os.Hostname() // a name for people; it may be missing
	return encodeRecord(record{
		Host: host, PID: os.Getpid(), Beat: time.Now().UnixMilli(),
		Consumes: len(*p.consumers.Load()) > 0, Types: p.typesRun(),
	})
}

// beat keeps the record of a process whose calls wait for long.
func (p *process) beat(ctx context.Context) error {
	p.mu.Lock()
	due := p.isDue()
	p.mu.Unlock()
	if !due {
		return nil
	}
	return p.beatAlways(ctx)
}

// beatAlways is beat for a process that runs a consumer, or that has just stopped to.
func (p *process) beatAlways(ctx context.Context) error { return p.tell(ctx, false) }

// tell beats, and tells what this process runs when that has changed.
func (p *process) tell(ctx context.Context, changed bool) error {
	p.mu.Lock()
	known, absent := p.isKnown(), false
	p.mu.Unlock()
	err := p.db.Transact(ctx, func(tx backend.Tx) (err error) {
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
func (p *process) isDue() bool { return time.Since(p.beaten) > beatInterval }

// isKnown reports whether the record was written before. The mutex is held.
func (p *process) isKnown() bool { return !p.beaten.IsZero() }

// isRecorded reports whether the record was written.
func (p *process) isRecorded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isKnown()
}

// renew writes the record, and reports whether one that is known is not there. A new one is written blindly: many calls
// that begin at once would conflict over it.
func (p *process) renew(tx backend.Tx, known bool) (absent bool, err error) {
	key := presenceOf(p.id).record()
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
func (p *process) renewed(removed bool, number uint64) {
	p.beaten = time.Now()
	if !removed {
		return
	}
	p.stale = 0
	for secret, call := range p.pending {
		if call.number < number {
			delete(p.pending, secret)
			call.answer = delivery{call: secret, err: ErrReplyLost}
			close(call.done)
		}
	}
}

// jittered is d, or up to a quarter more unless a test runs each turn by hand.
func (p *process) jittered(d time.Duration) time.Duration {
	if p.steady.Load() {
		return d
	}
	return jittered(d)
}

// jittered is d and up to a quarter more.
func jittered(d time.Duration) time.Duration { return d + mathrand.N(d/4) }

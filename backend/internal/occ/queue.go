package occ

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Queue is group commit. Whoever has a transaction to commit puts it into the queue. If nobody leads, it leads:
//
//  1. The leader takes the write lock of the store. While it waits for another process, transactions whose ctx ends
//     leave the queue.
//  2. It takes the whole queue: from here on their outcome is awaited.
//  3. It commits them as one, and tells them their outcome.
//  4. If others have queued up meanwhile, it hands the lead to the queue's own goroutine, which keeps it until the
//     queue stays empty.
//  5. Those whose commit is done are likely to be back at once with the next. The queue's goroutine gives them a
//     quarter of the time of a group before it begins one. Else callers fall into two halves, each of which waits for
//     the commit of the other.
//
// So a group is as large as the last commit was long; a caller alone switches no goroutine, and with many callers the
// store never waits for one of them to be scheduled.
//
// Where the store is remote no caller leads, as its ctx could not let it go, and whoever has been picked waits for its
// outcome no longer than grace after its ctx has ended.
type Queue struct {
	lead  func(ctx context.Context, own *Tx) (served int)
	clock func() int64
	grace time.Duration // of a remote store; 0 where outcomes are always known soon

	mu      sync.Mutex
	queue   []*Tx
	spare   []*Tx // the queue before, to be used again
	leading bool
	served  int   // by the last group
	began   int64 // when a group was picked last
	ended   error // why nothing is queued any more

	more chan struct{} // hands the lead to Run
	quit chan struct{} // ends Run, when no caller is left
}

// What gather spends: a share of a group's time, so little in all, and not where a group is large anyway.
const (
	gatherShare  = 4
	gatherMax    = int64(100 * time.Microsecond)
	gatherEnough = 64
	regatherMax  = int64(500 * time.Microsecond)

	regatherWithin = int64(20 * time.Millisecond) // later, nobody is expected back
)

// restTick is how often Rest looks.
const restTick = time.Millisecond

// place is a transaction's place in the queue. Picked is guarded by Queue.mu.
type place struct {
	wake   chan struct{} // made when it has to wait; the outcome is known
	picked bool
}

// NewQueue returns a queue of which lead commits the transactions: it takes the store's lock, calls Pick, sets their
// Results and calls Serve. Own is the transaction of the caller that leads, if any: when ctx ends before the lock is
// taken, lead withdraws it. Clock counts nanoseconds.
func NewQueue(lead func(ctx context.Context, own *Tx) (served int), clock func() int64) *Queue {
	return &Queue{lead: lead, clock: clock, more: make(chan struct{}, 1), quit: make(chan struct{})}
}

// NewRemoteQueue is a NewQueue of a store across a network.
func NewRemoteQueue(lead func(ctx context.Context, own *Tx) (served int), clock func() int64, grace time.Duration) *Queue {
	q := NewQueue(lead, clock)
	q.grace = grace
	return q
}

// Submit commits t. It returns ErrLost when fn has to run again; what it lost to is visible by then.
func (q *Queue) Submit(t *Tx) error {
	if err := t.ctx.Err(); err != nil {
		return err // once it is in the queue a leader may be quicker than the end of ctx
	}
	q.mu.Lock()
	if q.ended != nil {
		defer q.mu.Unlock()
		return q.ended
	}
	q.queue = append(q.queue, t)
	leads := !q.leading
	q.leading = true
	if !leads || q.grace > 0 {
		t.place.wake = make(chan struct{}, 1)
	}
	q.mu.Unlock()
	switch {
	case !leads:
		return q.await(t)
	case q.grace > 0:
		q.more <- struct{}{}
		return q.await(t)
	}
	q.lead(t.ctx, t)
	if q.isLed() {
		q.more <- struct{}{}
	}
	return t.Result
}

// await waits for a leader to commit t.
func (q *Queue) await(t *Tx) error {
	select {
	case <-t.place.wake:
		return t.Result
	case <-t.ctx.Done():
	}
	if q.Withdraw(t) {
		return t.ctx.Err()
	}
	if q.grace == 0 {
		<-t.place.wake
		return t.Result
	}
	limit := time.NewTimer(q.grace)
	defer limit.Stop()
	select {
	case <-t.place.wake:
		return t.Result
	case <-limit.C:
		return fmt.Errorf("%w: %w", backend.ErrCommitUnknown, t.ctx.Err())
	}
}

// Withdraw takes t off the queue. It is too late once a leader has picked it.
func (q *Queue) Withdraw(t *Tx) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !t.place.picked {
		i := slices.Index(q.queue, t)
		q.queue = slices.Delete(q.queue, i, i+1)
	}
	return !t.place.picked
}

// isLed reports whether there is more to commit, and gives up the lead if not.
func (q *Queue) isLed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leading = len(q.queue) > 0
	return q.leading
}

// Run leads while more than one caller commits, until Quit.
func (q *Queue) Run() {
	for {
		select {
		case <-q.quit:
			return
		case <-q.more:
		}
		for q.isLed() {
			began := q.clock()
			served := q.lead(context.Background(), nil)
			now := q.clock()
			q.gather(served, now+min((now-began)/gatherShare, gatherMax))
		}
	}
}

// Quit ends Run. It is called after Rest.
func (q *Queue) Quit() { close(q.quit) }

// gather waits until as many have come back as were served, beside those who wait already, but not beyond limit.
// It yields instead of sleeping: the shortest sleep of an idle process is a millisecond.
func (q *Queue) gather(served int, limit int64) {
	q.until(min(q.Waiting()+served, gatherEnough), limit)
}

func (q *Queue) until(expected int, limit int64) {
	for q.Waiting() < expected && q.clock() < limit {
		runtime.Gosched()
	}
}

// Regather waits until as many have come as were served last, for a share of the time since that began. A store that others
// write to as well is asked to do so before a group: the answers from another process make many callers come back at once,
// and who is a group of one waits for that process before it can be the next.
func (q *Queue) Regather() {
	q.mu.Lock()
	now, expected := q.clock(), min(q.served, gatherEnough)
	since := now - q.began
	q.mu.Unlock()
	if since < regatherWithin {
		q.until(expected, now+min(since/gatherShare, regatherMax))
	}
}

// Pick takes the whole queue.
func (q *Queue) Pick() []*Tx {
	q.mu.Lock()
	defer q.mu.Unlock()
	members := q.queue
	q.queue, q.spare = q.spare[:0], nil
	q.pick(members)
	return members
}

// PickAsync takes those whose commits may reach the disk with later ones. The others stay.
func (q *Queue) PickAsync() []*Tx {
	q.mu.Lock()
	defer q.mu.Unlock()
	members := q.spare[:0]
	q.spare = nil
	q.queue = slices.DeleteFunc(q.queue, func(t *Tx) bool {
		if t.isAsync {
			members = append(members, t)
		}
		return t.isAsync
	})
	q.pick(members)
	return members
}

func (q *Queue) pick(members []*Tx) {
	q.began = q.clock()
	for _, m := range members {
		m.place.picked = true
	}
}

// Serve tells the members of a pick that their Results are known.
func (q *Queue) Serve(members []*Tx, own *Tx) {
	for _, m := range members {
		if m != own {
			m.place.wake <- struct{}{}
		}
	}
	clear(members)
	q.mu.Lock()
	q.spare, q.served = members[:0], len(members)
	q.mu.Unlock()
}

// Waiting is how many transactions wait to be picked.
func (q *Queue) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue)
}

// IsAsync reports whether the commits of all who wait may reach the disk with later ones.
func (q *Queue) IsAsync() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !slices.ContainsFunc(q.queue, func(t *Tx) bool { return !t.isAsync })
}

// Refuse gives all members the same error.
func Refuse(members []*Tx, err error) {
	for _, m := range members {
		m.Result = err
	}
}

// Stop makes later Submits fail with cause. The first cause stays.
func (q *Queue) Stop(cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended == nil {
		q.ended = cause
	}
}

// Rest waits after Stop until nobody commits. From then on nobody will.
func (q *Queue) Rest() {
	tick := time.NewTicker(restTick)
	defer tick.Stop()
	for q.IsLeading() {
		<-tick.C
	}
}

// Hold makes all who come wait, until release hands the lead to Run. Tests use it.
func (q *Queue) Hold() (release func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leading = true
	return func() { q.more <- struct{}{} }
}

// IsLeading reports whether somebody commits.
func (q *Queue) IsLeading() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.leading
}

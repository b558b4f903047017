package dserver

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A handler may not return, and it may end its goroutine (runtime.Goexit, as testing.T.FailNow does). The turn cannot
// wait for the one, and does not come back from the other. So another goroutine takes the turn and the worker's place:
//
//  1. It makes the batch its own (batch.phase). From then on the old goroutine touches nothing: when the handler returns
//     after all, its transaction is rolled back, and it ends.
//  2. The handler's Context and the loader of its state refuse. The cached state is dropped, as the handler has it.
//  3. Messages that were handled before are handled again and committed; then the one in hand, being the first, counts
//     as a fault. A handler that ends this goroutine, too, is treated likewise.
//
// An Upgrade that ends its goroutine is no message's fault: the turn failed, as by an error of the store, and is tried
// again.

// guard ends the time of the batches that one goroutine runs, one after the other. It has one timer for all of them: a
// timer made for each batch would have to be put into the runtime's order of timers each time, which may wake a processor.
type guard struct {
	timer *time.Timer
	of    atomic.Pointer[guarded]
}

// guarded is a batch that runs, and whose it is.
type guarded struct {
	turn  *turn
	batch *batch
}

// watch begins the time of a batch; rest ends it before it is up.
func (g *guard) watch(t *turn, b *batch) {
	g.of.Store(&guarded{t, b})
	if g.timer == nil {
		g.timer = time.AfterFunc(handlerLimit, g.fire)
	} else {
		g.timer.Reset(handlerLimit)
	}
}

func (g *guard) rest() {
	g.timer.Stop()
	g.of.Store(nil)
}

// fire is called when the time is up. It may come late, and find the next batch, whose time has only begun.
func (g *guard) fire() {
	if w := g.of.Load(); w != nil && time.Since(w.batch.started) >= handlerLimit {
		w.turn.overrun(w.batch)
	}
}

// overrun is called when the time for a batch is up.
func (t *turn) overrun(b *batch) {
	t.handover.Lock() // cameBack waits for it, so that Run's end waits for the new goroutine
	defer t.handover.Unlock()
	if !b.abandon() {
		return
	}
	t.loader.close()
	t.left = t.c.lose(t.s.ref(), t.inHand(b), t.goroutine)
	own, started := t.c.process.stacks.where(t.goroutine, b.started)
	f := &fault{Text: b.overrunText(), Stack: own, hangs: true}
	if t.waitsForItself(b, append(started, own)) {
		f.Text += fmt.Sprintf(": it waits for a call of %v, which is itself: %s", t.s.ref(), insteadOfCalling)
	}
	t.c.takeTurn(t, b, f)
}

// inHand says what the batch runs.
func (t *turn) inHand(b *batch) string {
	if n := int(b.handled.Load()); n < len(t.messages) {
		return "the handler of " + t.messages[n].envelope.Name
	}
	return "a handler"
}

// cameBack is called when the goroutine that was left behind returns.
func (t *turn) cameBack() {
	t.handover.Lock()
	defer t.handover.Unlock()
	t.c.find(t.left)
}

// ended is called when a worker's goroutine ends in the middle of a turn.
func (t *turn) ended() {
	switch b := t.batch; {
	case b == nil: // before any handler: an Upgrade, or a type of the state that reads itself
		t.c.replace(t, 0, func(t *turn) nextTurn {
			return t.failed(errors.New("the goroutine was ended while the state was read"))
		})
	case b.end():
		t.loader.close()
		t.c.takeTurn(t, b, &fault{Text: "the handler ended its goroutine"})
	default:
		t.cameBack()
	}
}

// takeTurn is step 3.
func (c *consumer) takeTurn(old *turn, b *batch, f *fault) {
	c.replace(old, int(b.handled.Load()), func(t *turn) nextTurn {
		if t.limit > 0 {
			return t.run()
		}
		return t.faulted(f)
	})
}

// replace goes on with a turn on a new goroutine, which may have to be replaced as well.
func (c *consumer) replace(old *turn, limit int, run func(t *turn) nextTurn) {
	t := &turn{c: c, s: old.s, keys: old.keys, locals: old.locals, info: old.info, head: old.head, messages: old.messages}
	t.limit, t.joined, t.took = limit, old.joined, handlerLimit
	t.kept, t.booked, old.booked = old.kept, old.booked, false
	t.s.state = state{}
	t.s.handling.Store(0)
	c.wg.Go(func() {
		t.goroutine = goroutineID()
		if c.conclude(t, func() nextTurn { return run(t) }) && t.info == nil {
			c.work()
		}
	})
}

package consumer

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/internal/stacks"
	"github.com/dserver-go/dserver/internal/turn"
)

// A handler may not return, and it may end its goroutine (runtime.Goexit, as testing.T.FailNow does). The turn cannot
// wait for the one, and does not come back from the other. So another goroutine takes the turn and the worker's place:
//
//  1. It makes the batch its own (Batch.Abandon). From then on the old goroutine touches nothing: when the handler returns
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
	turn  *visit
	batch *turn.Batch
}

// watch begins the time of a batch; rest ends it before it is up.
func (g *guard) watch(t *visit, b *turn.Batch) {
	g.of.Store(&guarded{t, b})
	limit := t.Def.Settings.HandlerLimit
	if g.timer == nil {
		g.timer = time.AfterFunc(limit, g.fire)
	} else {
		g.timer.Reset(limit)
	}
}

func (g *guard) rest() {
	g.timer.Stop()
	g.of.Store(nil)
}

// Begin is part of Host.
func (t *visit) Begin(b *turn.Batch) {
	t.s.handling.Store(b.Started.UnixNano())
	if t.guard == nil {
		t.guard = &guard{}
	}
	t.guard.watch(t, b)
}

// End is part of Host.
func (t *visit) End(b *turn.Batch) bool {
	t.guard.rest()
	if !b.End() {
		return false
	}
	t.s.handling.Store(0)
	return true
}

// fire is called when the time is up. It may come late, and find the next batch, whose time has only begun.
func (g *guard) fire() {
	if w := g.of.Load(); w != nil && time.Since(w.batch.Started) >= w.turn.Def.Settings.HandlerLimit {
		w.turn.overrun(w.batch)
	}
}

// overrun is called when the time for a batch is up.
func (t *visit) overrun(b *turn.Batch) {
	t.handover.Lock() // cameBack waits for it, so that Run's end waits for the new goroutine
	defer t.handover.Unlock()
	if !b.Abandon() {
		return
	}
	t.Loader.Close()
	t.left = t.c.noteStray(t.Ref, t.inHand(b), t.goroutine)
	own, started := t.c.Process.Stacks.Where(t.goroutine, b.Started)
	f := &turn.Fault{Text: b.OverrunText(), Stack: own, Hangs: true}
	if t.waitsForItself(b, append(started, own)) {
		f.Text += fmt.Sprintf(": it waits for a call of %v, which is itself: %s", t.Ref, insteadOfCalling)
	}
	t.c.takeTurn(t, b, f)
}

// inHand says what the batch runs.
func (t *visit) inHand(b *turn.Batch) string {
	if n := int(b.Handled.Load()); n < len(t.Messages) {
		return "the handler of " + t.Messages[n].Envelope.Name
	}
	return "a handler"
}

// cameBack is called when the goroutine that was left behind returns.
func (t *visit) cameBack() {
	t.handover.Lock()
	defer t.handover.Unlock()
	t.c.forgetStray(t.left)
}

// ended is called when a worker's goroutine ends in the middle of a turn.
func (t *visit) ended() {
	switch b := t.Batch; {
	case b == nil: // before any handler: an Upgrade, or a type of the state that reads itself
		t.c.replace(t, 0, func(t *visit) nextTurn {
			return t.failed(errors.New("the goroutine was ended while the state was read"))
		})
	case b.End():
		t.Loader.Close()
		t.c.takeTurn(t, b, &turn.Fault{Text: "the handler ended its goroutine"})
	default:
		t.cameBack()
	}
}

// takeTurn is step 3.
func (c *consumer) takeTurn(old *visit, b *turn.Batch, f *turn.Fault) {
	c.replace(old, int(b.Handled.Load()), func(t *visit) nextTurn {
		if t.Limit > 0 {
			return t.run()
		}
		return t.faulted(f)
	})
}

// replace goes on with a turn on a new goroutine, which may have to be replaced as well.
func (c *consumer) replace(old *visit, limit int, run func(t *visit) nextTurn) {
	t := c.visit(old.s, limit)
	t.locals, t.Info, t.Head, t.Messages = old.locals, old.Info, old.Head, old.Messages
	t.Joined, t.Took, t.Began = old.Joined, old.Def.Settings.HandlerLimit, old.Began
	t.kept, t.booked, old.booked = old.kept, old.booked, false
	t.s.State = turn.State{}
	t.s.handling.Store(0)
	c.wg.Go(func() {
		t.goroutine = stacks.Goroutine()
		if c.conclude(t, func() nextTurn { return run(t) }) && t.Info == nil {
			c.work()
		}
	})
}

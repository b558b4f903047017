package dserver

import "fmt"

// A handler may not return, and it may end its goroutine (runtime.Goexit, as testing.T.FailNow does). The turn cannot
// wait for the one, and does not come back from the other. So another goroutine takes the turn and the worker's place:
//
//  1. It makes the batch its own (batch.phase). From then on the old goroutine touches nothing: when the handler returns
//     after all, its transaction is rolled back, and it ends.
//  2. The handler's Context and the loader of its state refuse. The cached state is dropped, as the handler has it.
//  3. Messages that were handled before are handled again and committed; then the one in hand, being the first, counts
//     as a fault.

// overrun is called when the time for a batch is up.
func (t *turn) overrun(b *batch) {
	t.handover.Lock() // run waits for it, so that Run's end waits for the new goroutine
	defer t.handover.Unlock()
	if !b.abandon() {
		return
	}
	t.loader.close()
	t.c.replace(t, b, &fault{Text: fmt.Sprintf("the handler did not return within %v", handlerLimit)})
}

// ended is called when a worker's goroutine ends in the middle of a turn.
func (t *turn) ended() {
	if b := t.batch; b != nil && b.end() {
		t.loader.close()
		t.c.replace(t, b, &fault{Text: "the handler ended its goroutine"})
	}
}

// replace goes on with a turn on a new goroutine.
func (c *consumer) replace(old *turn, b *batch, f *fault) {
	t := &turn{c: c, s: old.s, keys: old.keys, locals: old.locals, info: old.info, head: old.head, messages: old.messages}
	t.limit, t.joined, t.took = int(b.handled.Load()), old.joined, handlerLimit
	t.s.state = state{}
	t.s.handling.Store(0)
	c.wg.Go(func() {
		var next nextTurn
		if t.limit > 0 {
			next = t.run()
		} else {
			next = t.faulted(f)
		}
		if t.info == nil && !next.gone {
			c.settle(t.s, next)
			c.work()
		}
	})
}

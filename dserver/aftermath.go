package dserver

import "time"

// remember keeps what was committed, under the version that was committed.
func (t *turn) remember() error {
	b := t.batch
	st := b.state
	st.quiet.proved = st.quiet.proved && t.head.isQuiet() // a turn that only answered leaves it so
	switch {
	case b.resets:
		st = state{}
	case t.stamped:
		version, err := t.version.Get()
		if err != nil {
			t.s.state = state{}
			return err
		}
		st.version, st.meta, st.quiet = version, t.head.meta, t.proved()
		if b.state.meta.Schema != st.meta.Schema && t.s.def.schema.Tracks() {
			st = state{} // the rows of an older version have the entries that tracked collections load
			break
		}
		st.rows.Apply(b.edits)
	}
	t.s.state = st
	return nil
}

// hold starts the work of the lock that was taken.
func (t *turn) hold() {
	r := t.batch.results[len(t.batch.results)-1]
	fence, err := t.version.Get()
	if err != nil {
		return // others take over after a lease
	}
	h := &holder{
		ref: t.s.ref(), def: t.s.def, handler: t.s.def.locked[r.envelope.Name],
		item: *r.item, env: r.envelope,
		lock: lock{record: lockRecord{Name: r.envelope.Name, Stamp: r.item.Stamp, Key: t.key, Attempt: 1}, fence: fence},
	}
	t.c.hold(h)
}

func (r result) outcome() outcome {
	switch {
	case r.declined:
		return outcome{declined: true}
	case r.err != nil && !r.arrival.call:
		return outcome{} // it is a dead letter now: sent, and taken care of
	case r.err != nil:
		return outcome{err: r.err}
	}
	return outcome{reply: r.reply}
}

// acts is the AfterCommit functions of a server that run or wait. Those of one turn run after those of the turn before.
type acts struct {
	turns int           // whose functions have not ended
	last  chan struct{} // closed when those of the last turn have
}

// maxActs is how many turns' functions may wait for one that takes long. Those of a further turn are dropped.
const maxActs = 1000

// act runs what AfterCommit was given, after what earlier turns of the server were given, and waits for the end: for
// patience, and as much longer as there are turns that wait before this one. Then the server goes on. It must, as a
// function may itself wait for the server's next turn, which calls it; and nobody else can be told that it does.
func (t *turn) act(actions []func()) {
	before, done, ahead := t.c.queueActs(t.s.ref())
	if done == nil {
		t.c.log.Error().Stringer(logServer, t.s.ref()).Msg("an AfterCommit function does not return; those of later turns are dropped")
		return
	}
	t.c.wg.Go(func() {
		if before != nil {
			<-before
		}
		t.actAll(actions, done)
	})
	isClosedWithin(done, patience*time.Duration(1+min(ahead, maxActs/10)))
}

// queueActs makes room for the functions of a turn: they run when before is closed, if it is not nil, and close done.
func (c *consumer) queueActs(ref Ref) (before, done chan struct{}, ahead int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.acting[ref]
	if a == nil {
		a = new(acts)
		c.acting[ref] = a
	}
	if a.turns == maxActs {
		return nil, nil, a.turns
	}
	before, done, ahead = a.last, make(chan struct{}), a.turns
	a.last = done
	a.turns++
	return before, done, ahead
}

func (c *consumer) endActs(ref Ref, done chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(done)
	if a := c.acting[ref]; a.turns > 1 {
		a.turns--
	} else {
		delete(c.acting, ref)
	}
}

// actAll runs functions in order. One that ends its goroutine does not take those after it along.
func (t *turn) actAll(actions []func(), done chan struct{}) {
	defer func() {
		if len(actions) > 0 {
			t.c.wg.Go(func() { t.actAll(actions, done) })
			return
		}
		t.c.endActs(t.s.ref(), done)
	}()
	for len(actions) > 0 {
		action := actions[0]
		actions = actions[1:]
		t.actOnce(action)
	}
}

// actOnce runs a function. A panic there cannot undo anything: it is logged.
func (t *turn) actOnce(action func()) {
	defer func() {
		if p := recover(); p != nil {
			t.c.log.Error().Interface(logPanic, p).Stringer(logServer, t.s.ref()).Msg("an AfterCommit function panicked")
		}
	}()
	action()
}

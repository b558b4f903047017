package consumer

import (
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/turn"
)

// act runs what AfterCommit was given, after what earlier turns of the server were given, and waits for the end: for
// patience. Then the server goes on. It must, as a function may itself wait for the server's next turn, which calls it;
// and nobody else can be told that it does. Where functions come to their ends, though more slowly than turns, the turns
// wait longer before any would be dropped.
func (t *visit) act(actions []func()) {
	ref, queue := t.Ref, &t.c.Process.Acts
	before, done, wait := queue.Join(ref)
	if done == nil {
		t.c.log.Error().Stringer(logs.Server, ref).Msg("an AfterCommit function does not return; those of later turns are dropped")
		return
	}
	t.c.wg.Go(func() {
		if before != nil {
			<-before
			queue.Begin(ref)
		}
		t.actAll(actions, done)
	})
	isClosedWithin(done, wait)
}

// actAll runs functions in order. One that ends its goroutine does not take those after it along.
func (t *visit) actAll(actions []func(), done chan struct{}) {
	defer func() {
		if len(actions) > 0 {
			t.c.wg.Go(func() { t.actAll(actions, done) })
			return
		}
		t.c.Process.Acts.End(t.Ref, done)
	}()
	for len(actions) > 0 {
		action := actions[0]
		actions = actions[1:]
		t.actOnce(action)
	}
}

// actOnce runs a function. A panic there cannot undo anything: it is logged.
func (t *visit) actOnce(action func()) {
	defer func() {
		if p := recover(); p != nil {
			f := turn.Panicked(p)
			t.c.log.Error().Str(logs.Panic, f.Text).Str(logs.Stack, f.Stack).Stringer(logs.Server, t.Ref).
				Msg("an AfterCommit function panicked")
		}
	}()
	action()
}

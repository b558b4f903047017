package dserver

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/backend"
)

// Info runs m's HandleInfo in a turn of its own, at once and in this process: it waits neither for the queue nor for a
// lock, and needs no consumer. When it returns nil, the change is durable. When this process dies before that commit,
// the message never was (at most once). An error of the handler comes back as *Error, and its changes are rolled back,
// unless it is an error of Keep. The handle's definition must have the handler (ErrNoHandler).
func (s *DServer[S]) Info(ctx context.Context, m any) error {
	message, err := s.encode(ctx, "Info", m)
	if err != nil {
		return err
	}
	if s.def.infos[message.Name] == nil {
		return because(ErrNoHandler, "this definition of %q has no HandleInfo for %s: use the one that has", s.def.name, message.Name)
	}
	p, release := acquireProcess(s.db)
	defer release()
	c := newConsumer(Consumer{Logger: p.logger()}, s.db, nil)
	c.process = p
	c.base, c.abort = context.WithCancelCause(ctx)
	defer c.abort(nil)
	c.turns = context.WithValue(c.base, turnKey{}, &misuses{log: c.log})

	for {
		a := newArrival(message, true)
		a.info = true
		t := &turn{c: c, s: &server{id: s.id, def: s.def}, keys: tenantOf(s.Ref()), limit: 1, info: a, locals: []*arrival{a}}
		out, next := t.inform(ctx)
		switch {
		case out.declined && next.now:
			continue // the server was killed, and is buried now
		case out.declined && t.batch == nil:
			return fmt.Errorf("dserver: the state of %v was written by a newer version of the program", s.Ref())
		case out.declined:
			return fmt.Errorf("dserver: the HandleInfo of %s asked for what needs a stored message: Lock or ReplyLater", message.Name)
		default:
			return out.err
		}
	}
}

// inform runs the turn on a goroutine of its own, and says how it ended. A handler that does not return, or that ends its
// goroutine, has nobody's but that.
func (t *turn) inform(ctx context.Context) (out outcome, next nextTurn) {
	ended := make(chan nextTurn, 1)
	t.c.wg.Go(func() {
		t.goroutine = goroutineID()
		t.c.conclude(t, func() nextTurn {
			next := t.run()
			ended <- next
			return next
		})
	})
	select {
	case out = <-t.info.done:
	case <-ctx.Done():
		why := fmt.Errorf("dserver: info %s: %w: %w", t.info.message.Name, backend.ErrCommitUnknown, ctx.Err())
		return outcome{err: why}, nextTurn{}
	}
	if out.err != nil {
		return out, nextTurn{} // another goroutine may have ended the turn
	}
	select { // its AfterCommit functions have had their time
	case next = <-ended:
	case <-ctx.Done():
	}
	return out, next
}

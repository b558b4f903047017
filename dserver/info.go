package dserver

import (
	"context"
	"fmt"
)

// Info runs m's HandleInfo in a turn of its own, here and now: past the queue and the lock, in this process, without a
// consumer. When it returns nil the change is durable; when this process dies before, there was no message. An error
// of the handler comes back as *Error, and nothing of it is kept, but for Keep. The handle's definition must have the
// handler (ErrNoHandler).
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
		next := t.run()
		switch out := <-a.done; {
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

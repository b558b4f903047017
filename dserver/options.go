package dserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
)

// Option is how a message is sent.
type Option func(*sending)

// sending is what options say.
type sending struct {
	how tenant.How
	err error
}

// Once gives the message an idempotency key: the server takes one message per key, however often it is sent. A key is
// kept for a day, and for as long as its message waits. A call with a key that was used gets the answer of the first
// one, and waits for it when it must. A key belongs to a server: two servers may use the same one. A key has at most
// 1 KiB. A message that ended as a dead letter was taken as well: sent again with the key, it does not run.
//
// A send that is refused, as the queue is full, does not use its key up; and a key that was used is answered whether or not
// the queue is full.
//
// A key is bound to its message: the name and all that is in it, but not After, Priority and headers. With another message it is
// ErrKeyReused and nothing is sent. So a message that is sent again must be the same: it must not hold the time of its
// sending, for example. In a handler, a key that is used for another message is an error of the handler.
func Once(key string) Option {
	return func(s *sending) {
		if key == "" || len(key) > tenant.MaxNameBytes {
			s.err = fmt.Errorf("dserver: Once needs a key of 1 to %d bytes, not %d", tenant.MaxNameBytes, len(key))
		}
		s.how.Once = key
	}
}

// After delays the message (delayed delivery): when d has passed, by the clock of a consumer, it is put at the end of the
// queue. So it is handled after d and after all that is queued by then. When one process sends several messages to a
// server, one after the other, and they are due in the same millisecond, they keep the order in which they were sent.
// Until the message is queued, Delayed shows it, and WithdrawDelayed takes it back. It needs no room on a queue that is full
// (Settings.MaxQueued), now or when it is due: so a producer that sends all with After is not slowed down.
func After(d time.Duration) Option { return func(s *sending) { s.how.After = d } }

// Priority sends the message ahead of all that wait without it, and the server handles it while it is locked, too.
// Messages with Priority keep their order among themselves. They do not starve the others: however many of them wait, a
// message without Priority runs after 255 of them, or after 200 ms of their handlers. After one whose handler takes
// longer than that by itself, a message without Priority is next. They need no room on a queue that is full
// (Settings.MaxQueued), as one of them may be what ends the lock for which the others wait: a producer that sends all
// with Priority is not slowed down.
func Priority() Option { return func(s *sending) { s.how.Priority = true } }

func options(opts []Option) (tenant.How, error) {
	if len(opts) == 0 {
		return tenant.How{}, nil
	}
	var s sending
	for _, o := range opts {
		if o == nil {
			return s.how, errors.New("dserver: a nil option")
		}
		o(&s)
	}
	return s.how, s.err
}

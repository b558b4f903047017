package operate

import (
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// Failing is a message, or locked work, whose last attempt failed, and which is tried again or has halted its server.
type Failing struct {
	Stamp       backend.Versionstamp // names the message
	Message     string               // its name; "" when it cannot be read
	Priority    bool                 // it is the head of the priority lane
	Locked      bool                 // it is under the lock, and not on the queue
	Attempts    int                  // that failed and were counted
	MaxAttempts int                  // of who counted the last one; 0 when that is not known
	Error       string               // of the last attempt
	Stack       string               // of its panic, or where it did not return
	Since       time.Time            // when the last attempt failed, by the clock of the consumer
	Next        time.Time            // when the next one is due, by that clock; zero when the server has halted
}

// fill says why, of a failure that is this message's.
func (f *Failing) fill(why tenant.Failure, wait time.Duration, halts bool) {
	if why.Stamp != [12]byte(f.Stamp) {
		return
	}
	f.MaxAttempts, f.Error, f.Stack, f.Since = why.Of, why.Text, why.Stack, time.UnixMilli(why.At)
	if !halts {
		f.Next = f.Since.Add(wait)
	}
}

// failingOf is what fails of a server, as its head and what stands beside that say.
func failingOf(tx backend.Reader, keys tenant.Keys, h *tenant.Head) (all []Failing, err error) {
	for _, lane := range []queue.Lane{queue.Priority, queue.Normal} {
		a := h.Attempts[lane]
		if a.Count == 0 && !a.Halts {
			continue
		}
		f := Failing{Stamp: a.Stamp, Priority: lane == queue.Priority, Attempts: a.Count}
		why, err := keys.ReadFailure(tx, lane).Get()
		if err != nil {
			return nil, err
		}
		f.fill(why, a.Wait, a.Halts)
		item, found, err := keys.Queue().Find(tx, a.Stamp)
		if err != nil {
			return nil, err
		}
		if found {
			m, _ := tenant.Readable(item.Body)
			f.Message = m.Name
		}
		all = append(all, f)
	}
	r := h.Lock.Record
	if !h.Lock.IsHeld() || r.Attempt <= 1 && !r.Halted {
		return all, nil
	}
	f := Failing{Stamp: r.Stamp, Message: r.Name, Locked: true, Attempts: r.Attempt}
	if !r.Halted {
		f.Attempts-- // that one runs, or is due
	}
	why, err := keys.ReadLockFailure(tx).Get()
	f.fill(why, r.Wait, r.Halted)
	return append(all, f), err
}

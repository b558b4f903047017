package tenant

import (
	"crypto/rand"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Timers. The record of a timer, below its server, is the truth: when it is due, what it sends, and a random word that
// names this setting of it. The row in the index of what is due, and the message that the row becomes on the queue, are
// hints that carry the word: a turn that meets the message drops it when the record is gone or has another word, and
// else removes the record in the commit that handles the message. So a timer fires once, and one that was cancelled or
// moved never does, even when its message was queued already.

// TimerRecord is a timer that is set. Its field names are part of the stored format.
type TimerRecord struct {
	At       int64  `cbor:"at"`  // Unix milliseconds
	Set      string `cbor:"set"` // names this setting
	Item     []byte `cbor:"item"`
	Priority bool   `cbor:"priority,omitempty"` // its lane; older versions of the program fire all on the normal one
}

func (r TimerRecord) lane() queue.Lane { return How{Priority: r.Priority}.Lane() }

// TimerOp is what a turn does with a timer: set it, or stop it when the record has no item.
type TimerOp struct{ TimerRecord }

func (o TimerOp) stops() bool { return o.Item == nil }

// NewTimer is a timer of the server itself that is due when d has passed.
func NewTimer(name string, d time.Duration, m Message, how How) TimerOp {
	e := NewEnvelope(m, "")
	e.Timer, e.Set, e.Head = name, rand.Text(), how.Headers
	return TimerOp{TimerRecord{At: dueIn(d), Set: e.Set, Item: e.Encode(), Priority: how.Priority}}
}

// TimerReads is the records that a turn has to know: of the timers whose messages it takes, and those it changes.
type TimerReads map[string]LargeRead

// Start begins to read the record of a timer.
func (t *TimerReads) Start(tx backend.Reader, keys Keys, name string) {
	if *t == nil {
		*t = TimerReads{}
	}
	if _, ok := (*t)[name]; !ok {
		(*t)[name] = ReadLarge(tx, keys.timer(name))
	}
}

// Get is the record of a timer whose read was started; its Set is "" when the timer is not set.
func (t TimerReads) Get(name string) (TimerRecord, error) {
	var r TimerRecord
	value, err := t[name].Get()
	if err != nil || value == nil {
		return r, err
	}
	return r, DecodeRecord(value, &r)
}

// Timers is where the timers of the server are.
func (t Keys) Timers() backend.Key { return t.Key.Str(KeyTimer) }

// ReadTimer starts to read the record of a timer.
func (t Keys) ReadTimer(tx backend.Reader, name string) LargeRead {
	return ReadLarge(tx, t.timer(name))
}

// WriteTimers stores what the turn does with timers. The record that was there tells which row of the index goes.
func (t Keys) WriteTimers(tx backend.Tx, ref Ref, reads TimerReads, ops map[string]TimerOp) error {
	for name, op := range ops {
		old, err := reads.Get(name)
		if err != nil {
			return err
		}
		if old.Set != "" {
			ClearDue(tx, ref, Due{At: old.At, Kind: dueTimer, Name: name, Set: old.Set})
		}
		if op.stops() {
			tx.Clear(t.timer(name).Tree())
			continue
		}
		if err := SetLarge(tx, t.timer(name), EncodeRecord(op.TimerRecord)); err != nil {
			return err
		}
		SetDue(tx, ref, Due{At: op.At, Kind: dueTimer, Name: name, Set: op.Set})
	}
	return nil
}

// StopTimer ends the timer that sent a message, which is removed unhandled, unless it was set anew meanwhile.
func (t Keys) StopTimer(tx backend.Tx, env Envelope) error {
	if env.Timer == "" {
		return nil
	}
	reads := TimerReads{}
	reads.Start(tx, t, env.Timer)
	r, err := reads.Get(env.Timer)
	if err == nil && r.Set == env.Set {
		tx.Clear(t.timer(env.Timer).Tree())
	}
	return err
}

// fire queues the message of a timer that is due, if it is still set so.
func (d Due) fire(tx backend.Tx, ref Ref, record []byte) error {
	if record == nil {
		return nil
	}
	var r TimerRecord
	if err := DecodeRecord(record, &r); err != nil {
		return err
	}
	if r.Set != d.Set {
		return nil
	}
	return pushReady(tx, ref, r.lane(), r.Item)
}

// pushReady puts items on a queue and makes consumers look.
func pushReady(tx backend.Tx, ref Ref, lane queue.Lane, items ...[]byte) error {
	if err := KeysOf(ref).Queue().Push(tx, lane, items...); err != nil {
		return err
	}
	SetReady(tx, ref)
	return nil
}

package dserver

import (
	"crypto/rand"
	"errors"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Timers. The record of a timer, below its server, is the truth: when it is due, what it sends, and a random word that
// names this setting of it. The row in the index of what is due, and the message that the row becomes on the queue, are
// hints that carry the word: a turn that meets the message drops it when the record is gone or has another word, and
// else removes the record in the commit that handles the message. So a timer fires once, and one that was cancelled or
// moved never does, even when its message was queued already.

// timerRecord is a timer that is set. Its field names are part of the stored format.
type timerRecord struct {
	At       int64  `cbor:"at"`  // Unix milliseconds
	Set      string `cbor:"set"` // names this setting
	Item     []byte `cbor:"item"`
	Priority bool   `cbor:"priority,omitempty"` // its lane; older versions of the program fire all on the normal one
}

func (r timerRecord) lane() queue.Lane { return sending{priority: r.Priority}.lane() }

// timerOp is what a turn does with a timer: set it, or stop it when the record has no item.
type timerOp struct{ timerRecord }

func (o timerOp) stops() bool { return o.Item == nil }

// SetTimer sends m to this server when d has passed. It replaces the timer of that name. A name has at most 1 KiB.
//
// With Priority the message goes ahead of the queue, and is handled while the server is locked. That is for what must
// come in time although locked work is under way, as "the payment takes too long" (Unlock). The other options are
// refused: instead of After a timer has d, and instead of Once its name, under which it fires once each time it is set.
func (c *Context) SetTimer(name string, d time.Duration, m any, opts ...Option) {
	if !c.usable() {
		return
	}
	how, err := timerOptions(opts)
	if err == nil {
		err = checkTimerName(name)
	}
	var message Message
	if err == nil {
		message, err = encodeMessage(m)
	}
	if err != nil {
		c.fail(err)
		return
	}
	e := newEnvelope(message, "")
	e.Timer, e.Set = name, rand.Text()
	c.setTimer(name, timerOp{timerRecord{At: dueIn(d), Set: e.Set, Item: e.encode(), Priority: how.priority}})
}

// timerOptions is options without those that a timer has no use for. A key would have to be taken when the timer is set,
// and would be used up by one that is cancelled.
func timerOptions(opts []Option) (sending, error) {
	how, err := options(opts)
	switch {
	case err != nil:
	case how.after != 0:
		err = errors.New("dserver: SetTimer with After: give SetTimer the time, all of it")
	case how.once != "":
		err = errors.New("dserver: SetTimer with Once: a timer fires once each time it is set, and setting it again " +
			"replaces it; for a key, Cast with After and Once")
	}
	return how, err
}

// CancelTimer stops a timer: its message will not be handled, even if it is queued already.
func (c *Context) CancelTimer(name string) {
	if c.usable() {
		c.setTimer(name, timerOp{})
	}
}

func checkTimerName(name string) error {
	return Ref{Type: "timer", ID: name}.check()
}

// timerReads is the records that a turn has to know: of the timers whose messages it takes, and those it changes.
type timerReads map[string]largeRead

func (t *timerReads) start(tx backend.Reader, keys tenant, name string) {
	if *t == nil {
		*t = timerReads{}
	}
	if _, ok := (*t)[name]; !ok {
		(*t)[name] = readLarge(tx, keys.timer(name))
	}
}

func (t timerReads) get(name string) (timerRecord, error) {
	var r timerRecord
	value, err := t[name].get()
	if err != nil || value == nil {
		return r, err
	}
	return r, decodeRecord(value, &r)
}

// writeTimers stores what the turn does with timers. The record that was there tells which row of the index goes.
func (t tenant) writeTimers(tx backend.Tx, ref Ref, reads timerReads, ops map[string]timerOp) error {
	for name, op := range ops {
		old, err := reads.get(name)
		if err != nil {
			return err
		}
		if old.Set != "" {
			clearDue(tx, ref, due{At: old.At, Kind: dueTimer, Name: name, Set: old.Set})
		}
		if op.stops() {
			tx.Clear(t.timer(name).Tree())
			continue
		}
		if err := setLarge(tx, t.timer(name), encodeRecord(op.timerRecord)); err != nil {
			return err
		}
		setDue(tx, ref, due{At: op.At, Kind: dueTimer, Name: name, Set: op.Set})
	}
	return nil
}

// stopTimer ends the timer that sent a message, which is removed unhandled, unless it was set anew meanwhile.
func (t tenant) stopTimer(tx backend.Tx, env envelope) error {
	if env.Timer == "" {
		return nil
	}
	reads := timerReads{}
	reads.start(tx, t, env.Timer)
	r, err := reads.get(env.Timer)
	if err == nil && r.Set == env.Set {
		tx.Clear(t.timer(env.Timer).Tree())
	}
	return err
}

// fire queues the message of a timer that is due, if it is still set so.
func (d due) fire(tx backend.Tx, ref Ref, record []byte) error {
	if record == nil {
		return nil
	}
	var r timerRecord
	if err := decodeRecord(record, &r); err != nil {
		return err
	}
	if r.Set != d.Set {
		return nil
	}
	return pushReady(tx, ref, r.lane(), r.Item)
}

// pushReady puts items on a queue and makes consumers look.
func pushReady(tx backend.Tx, ref Ref, lane queue.Lane, items ...[]byte) error {
	if err := tenantOf(ref).queue().Push(tx, lane, items...); err != nil {
		return err
	}
	setReady(tx, ref)
	return nil
}

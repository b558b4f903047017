package tenant

import (
	"strings"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// LockRecord is a lock, beside its fence and its beat. The message is kept apart, as it may be large. Its field names
// are part of the stored format.
type LockRecord struct {
	Name    string        `cbor:"name"`            // of the message
	Stamp   [12]byte      `cbor:"stamp"`           // of the message on the queue
	Key     string        `cbor:"key"`             // the idempotency key
	Since   int64         `cbor:"since"`           // Unix milliseconds
	Limit   time.Duration `cbor:"limit,omitempty"` // of an attempt, nanoseconds; 0 in locks of older versions
	Attempt int           `cbor:"attempt"`
	Wait    time.Duration `cbor:"wait,omitempty"` // before the attempt, nanoseconds
	Halted  bool          `cbor:"halted,omitempty"`
}

// Lock is what a turn reads of a lock.
type Lock struct {
	Record LockRecord
	Fence  backend.Versionstamp // of the transaction that took it
	Beat   string               // changes while its holder lives; Vacant when the holder gave it up
}

// IsHeld reports whether the server is locked.
func (l Lock) IsHeld() bool { return !l.Fence.IsZero() }

const Vacant = ""

// ReadLock reads a lock whole; a change before the commit is a conflict.
func ReadLock(tx backend.Reader, keys Keys) (l Lock, err error) {
	record, fence, beat := tx.Get(keys.Lock()), tx.Get(keys.Fence()), tx.Get(keys.Beat())
	value, err := record.Get()
	if err != nil || value == nil {
		return l, err
	}
	if err := DecodeRecord(value, &l.Record); err != nil {
		return l, err
	}
	if value, err = fence.Get(); err != nil {
		return l, err
	}
	if l.Fence, err = backend.StampOf(value); err != nil {
		return l, err
	}
	value, err = beat.Get()
	l.Beat = string(value)
	return l, err
}

// Take writes a lock and who holds it. Its fence will be the stamp of this commit.
func (t Keys) Take(tx backend.Tx, r LockRecord, holder string) {
	t.SetLock(tx, r)
	tx.Set(t.Beat(), []byte(holder))
	tx.Stamp(t.Fence())
}

// SetLock writes the record of a lock, whose holder and fence stay.
func (t Keys) SetLock(tx backend.Tx, r LockRecord) {
	tx.Set(t.Lock(), EncodeRecord(r))
	if r.Halted {
		t.setTrouble(tx)
	}
}

// Vacate gives a lock up: any consumer may take it over at once.
func (t Keys) Vacate(tx backend.Tx) { tx.Set(t.Beat(), []byte(Vacant)) }

// ClearLock removes a lock with its message.
func (t Keys) ClearLock(tx backend.Tx) {
	tx.Clear(t.Lock().Only())
	tx.Clear(t.Beat().Only())
	tx.Clear(t.Fence().Only())
	tx.Clear(t.LockedMessage().Tree())
	t.ClearLockFailure(tx)
}

// LockedItems is the message that the lock was taken for, if there is one; a change is a conflict.
func (t Keys) LockedItems(tx backend.Reader) ([]queue.Item, error) {
	body, err := ReadLarge(tx, t.LockedMessage()).Get()
	if err != nil || body == nil {
		return nil, err
	}
	return []queue.Item{{Body: body}}, nil
}

// lookLocked is LockedItems, with who has to be told that the lock ends.
func (t Keys) lookLocked(tx backend.Reader) ([]queue.Item, Notice, error) {
	items, err := t.LockedItems(tx)
	if err != nil || len(items) == 0 {
		return nil, Notice{}, err
	}
	held, err := ReadLock(tx, t)
	if err != nil {
		return nil, Notice{}, err
	}
	told, err := NoticeTo(tx, held.Beat)
	return items, told, err
}

// HolderMark begins the name of a holder in a lock. Versions that beat each lock had a random word there, without it.
const HolderMark = "@"

// parseHolder is whose name stands in a lock; ok is false of a lock without a holder's name.
func parseHolder(name string) (p Presence, consumer string, ok bool) {
	process, consumer, ok := strings.Cut(strings.TrimPrefix(name, HolderMark), "/")
	if !ok || !strings.HasPrefix(name, HolderMark) {
		return p, "", false
	}
	return PresenceOf(process), consumer, true
}

// Holder is the process and the consumer whose name stands in a lock; "" of one that nobody holds, or whose holder has no name.
func (l Lock) Holder() (process, consumer string) {
	if _, _, ok := parseHolder(l.Beat); !ok {
		return "", ""
	}
	process, consumer, _ = strings.Cut(strings.TrimPrefix(l.Beat, HolderMark), "/")
	return process, consumer
}

// HolderKeys is where a holder beats and where it is rung for.
func HolderKeys(name string) (beat, bell backend.Key, ok bool) {
	p, consumer, ok := parseHolder(name)
	if !ok {
		return nil, nil, false
	}
	return p.Key.Str(keyHolds, consumer), p.Key.Str(keyEnded, consumer), true
}

// Notice tells the holder of a lock that it was ended.
type Notice struct{ bell backend.Key }

// NoticeTo looks whether there is a holder that can be told: its process has a record, with which the bell will go. One
// without has not beaten yet, or is gone; its first beat looks at all its locks. Neither the record nor a beat may be a
// conflict: they change while the process lives, and a slow handler that ends its work would lose each race against them.
// A bell that is rung as its process is swept has no record, and goes with the next sweep.
func NoticeTo(tx backend.Reader, name string) (n Notice, err error) {
	p, _, ok := parseHolder(name)
	if !ok {
		return n, nil
	}
	record, err := Peek(tx, p.Record())
	if record != nil {
		_, n.bell, _ = HolderKeys(name)
	}
	return n, err
}

func (n Notice) Write(tx backend.Tx) {
	if n.bell != nil {
		tx.Add(n.bell, 1)
	}
}

// Peek reads a key whose change is no conflict.
func Peek(tx backend.Reader, key backend.Key) (value []byte, err error) {
	pairs, err := tx.GetRange(key.Only(), backend.RangeOptions{Snapshot: true}).Get()
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	return pairs[0].Value, nil
}

package dserver

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Option is how a message is sent.
type Option func(*sending)

// sending is what options say.
type sending struct {
	once     string
	after    time.Duration
	priority bool
	err      error
}

// Once gives the message an idempotency key: the server takes one message per key, however often it is sent. A key is
// kept for a day, and for as long as its message waits. A call with a key that was used gets the answer of the first
// one, and waits for it when it must. A key belongs to a server: two servers may use the same one. A key has at most
// 1 KiB. A message that ended as a dead letter was taken as well: sent again with the key, it does not run.
//
// A key is bound to its message: the name and all that is in it, but not After and Priority. With another message it is
// ErrKeyReused and nothing is sent. So a message that is sent again must be the same: it must not hold the time of its
// sending, for example. In a handler, a key that is used for another message is an error of the handler.
func Once(key string) Option {
	return func(s *sending) {
		if key == "" || len(key) > maxNameBytes {
			s.err = fmt.Errorf("dserver: Once needs a key of 1 to %d bytes, not %d", maxNameBytes, len(key))
		}
		s.once = key
	}
}

// After delays the message (delayed delivery): when d has passed, by the clock of a consumer, it is put at the end of the
// queue. So it is handled after d and after all that is queued by then. When one process sends several messages to a
// server, one after the other, and they are due in the same millisecond, they keep the order in which they were sent.
// Until the message is queued, Delayed shows it, and WithdrawDelayed takes it back.
func After(d time.Duration) Option { return func(s *sending) { s.after = d } }

// Priority sends the message ahead of all that wait without it, and the server handles it while it is locked, too.
// Messages with Priority keep their order among themselves. They do not starve the others: however many of them wait, a
// message without Priority runs after 255 of them, or after 200 ms of their handlers. After one whose handler takes
// longer than that by itself, a message without Priority is next.
func Priority() Option { return func(s *sending) { s.priority = true } }

func options(opts []Option) (sending, error) {
	if len(opts) == 0 {
		return sending{}, nil
	}
	var s sending
	for _, o := range opts {
		if o == nil {
			return s, errors.New("dserver: a nil option")
		}
		o(&s)
	}
	return s, s.err
}

// isPlain reports whether a message may join a turn of this process: what options ask for is the queue's work.
func (s sending) isPlain() bool { return s == sending{} }

func (s sending) lane() queue.Lane {
	if s.priority {
		return queue.Priority
	}
	return queue.Normal
}

// parcel is messages on their way to one server, in somebody's transaction: a sender's own, or a turn's.
type parcel struct {
	to        Ref
	envelopes []envelope
	how       sending
	items     [][]byte

	// With an idempotency key.
	word     string
	sum      []byte
	first    largeRead
	recorded bool // first was started
	known    *onceRecord
}

func newParcel(to Ref, how sending, envelopes ...envelope) *parcel {
	p := &parcel{to: to, how: how, envelopes: envelopes}
	if how.once != "" {
		p.word, p.sum = rand.Text(), sumOf(envelopes)
	}
	for i := range envelopes {
		if i == len(envelopes)-1 {
			envelopes[i].Once, envelopes[i].Word = how.once, p.word // the last one's outcome is the batch's
		}
		p.items = append(p.items, envelopes[i].encode())
	}
	return p
}

// look starts what has to be read before anything of the transaction is written.
func (p *parcel) look(tx backend.Reader) {
	p.known = nil
	if p.recorded = p.how.once != ""; p.recorded {
		p.first = readLarge(tx, tenantOf(p.to).once(p.how.once))
	}
}

// write puts the messages on the queue, or where they wait until they are due, in one commit with all that makes them
// found. When their idempotency key was seen before, it writes nothing and known is set; when it was another message's,
// it is ErrKeyReused.
func (p *parcel) write(tx backend.Tx) error {
	keys := tenantOf(p.to)
	if p.recorded {
		value, err := p.first.get()
		if err != nil {
			return err
		}
		if value != nil {
			p.known = new(onceRecord)
			if err := decodeRecord(value, p.known); err != nil { // a turn that sends it would fail at it for ever
				return because(ErrKeyReused, "the record of %q of %v cannot be read: %v", p.how.once, p.to, err)
			}
			return p.checkKey(p.known.Sum)
		}
		if err := keys.keepOnce(tx, p.to, p.how.once, onceRecord{Word: p.word, Sum: p.sum}, max(0, p.how.after)); err != nil {
			return err
		}
	}
	if p.how.after > 0 {
		return p.writeLater(tx, keys)
	}
	if err := keys.queue().Push(tx, p.how.lane(), p.items...); err != nil {
		return err
	}
	setReady(tx, p.to)
	return nil
}

// checkKey refuses a key that is bound to another message. Records of older versions are bound to none.
func (p *parcel) checkKey(sum []byte) error {
	if sum == nil || bytes.Equal(sum, p.sum) {
		return nil
	}
	return because(ErrKeyReused, "%q was sent to %v with another message", p.how.once, p.to)
}

// writeParcels writes what one turn sends. Of two with one key to one server the first is sent: neither could read the
// other's record.
func writeParcels(tx backend.Tx, parcels []*parcel) error {
	type sent struct {
		to  Ref
		key string
	}
	once := map[sent]*parcel{}
	for _, p := range parcels {
		if s := (sent{p.to, p.how.once}); p.recorded {
			if first := once[s]; first != nil {
				if err := p.checkKey(first.sum); err != nil {
					return err
				}
				continue
			}
			once[s] = p
		}
		if err := p.write(tx); err != nil {
			return err
		}
	}
	return nil
}

// writeLater keeps the messages by the server, with a row in the index of what is due.
func (p *parcel) writeLater(tx backend.Tx, keys tenant) error {
	name := nextName()
	at := dueIn(p.how.after)
	record := encodeRecord(delayed{Items: p.items, Lane: int(p.how.lane()), At: at})
	if len(record) > queue.MaxItemBytes {
		return fmt.Errorf("%w: messages of %d bytes with After; at most %d", backend.ErrTooLarge, len(record), queue.MaxItemBytes)
	}
	if err := setLarge(tx, keys.delayed(name), record); err != nil {
		return err
	}
	tx.Stamp(keys.sent(name))
	setDue(tx, p.to, due{At: at, Kind: dueMessage, Name: name})
	return nil
}

// namesMade counts what nextName has returned.
var namesMade atomic.Uint64

// inOrder has the letters of rand.Text in the order of their bytes.
const inOrder = "234567ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// nextName is a word that nobody else has, in order behind those that this process has made before.
func nextName() string {
	word := []byte(rand.Text())
	n := namesMade.Add(1)
	for i := nameOrder - 1; i >= 0; i-- {
		word[i] = inOrder[n%32]
		n /= 32
	}
	return string(word)
}

// nameOrder is how many letters of a name count: a process that makes a million a second begins anew after a year.
const nameOrder = 9

package tenant

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// How is how a message is sent.
type How struct {
	Once     string        // its idempotency key; "": none
	After    time.Duration // for which it is delayed
	Priority bool
	Headers  Headers
}

// IsPlain reports whether a message may join a turn of this process: what else is asked for is the queue's work. Headers travel
// either way.
func (h How) IsPlain() bool { return h.Once == "" && h.After == 0 && !h.Priority }

// With is the same with other headers.
func (h How) With(head Headers) How {
	h.Headers = head
	return h
}

// Lane is the lane of the queue on which a message goes.
func (h How) Lane() queue.Lane {
	if h.Priority {
		return queue.Priority
	}
	return queue.Normal
}

// Parcel is messages on their way to one server, in somebody's transaction: a sender's own, or a turn's.
type Parcel struct {
	To        Ref
	MaxQueued int // how many messages may wait before it is refused; 0: any number, as of a turn's
	envelopes []Envelope
	how       How
	items     [][]byte
	queued    backend.Future[int64] // how many wait, where it has a bound

	// With an idempotency key.
	word     string
	sum      []byte
	first    LargeRead
	recorded bool // first was started
	Known    *OnceRecord
}

// NewParcel makes a parcel of messages that are sent together. A key is of the last one, the headers are of each.
func NewParcel(to Ref, how How, envelopes ...Envelope) *Parcel {
	p := &Parcel{To: to, how: how, envelopes: envelopes}
	if how.Once != "" {
		p.word, p.sum = rand.Text(), sumOf(envelopes)
	}
	for i := range envelopes {
		envelopes[i].Head = how.Headers
		if i == len(envelopes)-1 {
			envelopes[i].Once, envelopes[i].Word = how.Once, p.word // the last one's outcome is the batch's
		}
		p.items = append(p.items, envelopes[i].Encode())
	}
	return p
}

// Look starts what has to be read before anything of the transaction is written.
func (p *Parcel) Look(tx backend.Reader) {
	p.Known = nil
	if p.recorded = p.how.Once != ""; p.recorded {
		p.first = ReadLarge(tx, KeysOf(p.To).Once(p.how.Once))
	}
	if p.isBounded() {
		p.queued = KeysOf(p.To).Queue().Len(tx)
	}
}

// isBounded reports whether the parcel is refused when the queue is full. What is delayed is not queued now, and when it is
// due, it was acknowledged long ago. What has priority may be what ends a lock, without which no queue gets shorter.
func (p *Parcel) isBounded() bool { return p.MaxQueued > 0 && p.how.After <= 0 && !p.how.Priority }

// checkRoom refuses a parcel when the queue is full. However many messages it holds, it needs one free place: one that
// needed several would wait for ever beside senders of single ones, or where it is larger than the bound.
func (p *Parcel) checkRoom() error {
	if !p.isBounded() {
		return nil
	}
	n, err := p.queued.Get()
	if err != nil || n < int64(p.MaxQueued) {
		return err
	}
	return Because(ErrQueueFull, "%d messages wait, and MaxQueued is %d", n, p.MaxQueued)
}

// Write puts the messages on the queue, or where they wait until they are due, in one commit with all that makes them
// found. When their idempotency key was seen before, it writes nothing and known is set; when it was another message's,
// it is ErrKeyReused. When the key is new and the queue is full, it is ErrQueueFull.
func (p *Parcel) Write(tx backend.Tx) error {
	keys := KeysOf(p.To)
	if err := p.checkOnce(); err != nil || p.Known != nil {
		return err
	}
	if err := p.checkRoom(); err != nil { // after the key: one that was used has its outcome, and needs no room
		return err
	}
	if p.recorded {
		if err := keys.keepOnce(tx, p.To, p.how.Once, OnceRecord{Word: p.word, Sum: p.sum}, max(0, p.how.After)); err != nil {
			return err
		}
	}
	if p.how.After > 0 {
		return p.writeLater(tx, keys)
	}
	if err := keys.Queue().Push(tx, p.how.Lane(), p.items...); err != nil {
		return err
	}
	SetReady(tx, p.To)
	return nil
}

// checkOnce finds what is known of the key.
func (p *Parcel) checkOnce() error {
	if !p.recorded {
		return nil
	}
	value, err := p.first.Get()
	if err != nil || value == nil {
		return err
	}
	p.Known = new(OnceRecord)
	if err := DecodeRecord(value, p.Known); err != nil { // a turn that sends it would fail at it for ever
		return Because(ErrKeyReused, "the record of %q of %v cannot be read: %v", p.how.Once, p.To, err)
	}
	return p.checkKey(p.Known.Sum)
}

// checkKey refuses a key that is bound to another message. Records of older versions are bound to none.
func (p *Parcel) checkKey(sum []byte) error {
	if sum == nil || bytes.Equal(sum, p.sum) {
		return nil
	}
	return Because(ErrKeyReused, "%q was sent to %v with another message", p.how.Once, p.To)
}

// WriteParcels writes what one turn sends. Of two with one key to one server the first is sent: neither could read the
// other's record.
func WriteParcels(tx backend.Tx, parcels []*Parcel) error {
	type sent struct {
		to  Ref
		key string
	}
	once := map[sent]*Parcel{}
	for _, p := range parcels {
		if s := (sent{p.To, p.how.Once}); p.recorded {
			if first := once[s]; first != nil {
				if err := p.checkKey(first.sum); err != nil {
					return err
				}
				continue
			}
			once[s] = p
		}
		if err := p.Write(tx); err != nil {
			return err
		}
	}
	return nil
}

// writeLater keeps the messages by the server, with a row in the index of what is due.
func (p *Parcel) writeLater(tx backend.Tx, keys Keys) error {
	name := nextName()
	at := dueIn(p.how.After)
	record := EncodeRecord(Delayed{Items: p.items, Lane: int(p.how.Lane()), At: at})
	if len(record) > queue.MaxItemBytes {
		return fmt.Errorf("%w: messages of %d bytes with After; at most %d", backend.ErrTooLarge, len(record), queue.MaxItemBytes)
	}
	if err := SetLarge(tx, keys.Delayed(name), record); err != nil {
		return err
	}
	tx.Stamp(keys.Sent(name))
	SetDue(tx, p.To, Due{At: at, Kind: DueMessage, Name: name})
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

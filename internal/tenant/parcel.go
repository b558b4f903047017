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
}

// IsPlain reports whether a message may join a turn of this process: what else is asked for is the queue's work.
func (h How) IsPlain() bool { return h == How{} }

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
	envelopes []Envelope
	how       How
	items     [][]byte

	// With an idempotency key.
	word     string
	sum      []byte
	first    LargeRead
	recorded bool // first was started
	Known    *OnceRecord
}

// NewParcel makes a parcel of messages that are sent together. A key is of the last one.
func NewParcel(to Ref, how How, envelopes ...Envelope) *Parcel {
	p := &Parcel{To: to, how: how, envelopes: envelopes}
	if how.Once != "" {
		p.word, p.sum = rand.Text(), sumOf(envelopes)
	}
	for i := range envelopes {
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
}

// Write puts the messages on the queue, or where they wait until they are due, in one commit with all that makes them
// found. When their idempotency key was seen before, it writes nothing and known is set; when it was another message's,
// it is ErrKeyReused.
func (p *Parcel) Write(tx backend.Tx) error {
	keys := KeysOf(p.To)
	if p.recorded {
		value, err := p.first.Get()
		if err != nil {
			return err
		}
		if value != nil {
			p.Known = new(OnceRecord)
			if err := DecodeRecord(value, p.Known); err != nil { // a turn that sends it would fail at it for ever
				return Because(ErrKeyReused, "the record of %q of %v cannot be read: %v", p.how.Once, p.To, err)
			}
			return p.checkKey(p.Known.Sum)
		}
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
	tx.Stamp(keys.sent(name))
	setDue(tx, p.To, Due{At: at, Kind: DueMessage, Name: name})
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

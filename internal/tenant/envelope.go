package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/internal/wire"
)

// Envelope is a message on the queue. Its field names are part of the stored format.
type Envelope struct {
	Edit string          `cbor:"edit,omitempty"` // a random word, of the edit that changed it last; first, so that each edit changes the first row
	Name string          `cbor:"name"`
	Body cbor.RawMessage `cbor:"body"`
	From string          `cbor:"from,omitempty"` // address of the caller that waits
	Sent int64           `cbor:"sent"`           // Unix milliseconds by the sender's clock, for people

	Once  string `cbor:"once,omitempty"`  // idempotency key, under which the outcome is kept
	Word  string `cbor:"word,omitempty"`  // of the key's record, which is this message's
	Timer string `cbor:"timer,omitempty"` // the timer that sent it; dropped when that is not set to Set any more
	Set   string `cbor:"set,omitempty"`

	Head Headers `cbor:"head,omitempty"` // no part of what an idempotency key is bound to
}

// NewEnvelope is around a message that is sent now. Its answer goes to from; "" is nobody.
func NewEnvelope(m Message, from string) Envelope {
	return Envelope{Name: m.Name, Body: m.Body, From: from, Sent: time.Now().UnixMilli()}
}

func (e Envelope) message() Message { return Message{e.Name, e.Body} }

// Encode writes the envelope around the body as it is, which was looked at when it was sent. It cannot fail.
func (e Envelope) Encode() []byte {
	b := wire.AppendMap(make([]byte, 0, len(e.Name)+len(e.Body)+len(e.From)+64),
		3+count(e.Edit != "", e.From != "", e.Once != "", e.Word != "", e.Timer != "", e.Set != "", len(e.Head) > 0))
	b = appendText(b, "edit", e.Edit)
	b = wire.AppendText(wire.AppendText(b, "name"), e.Name)
	b = wire.AppendValue(wire.AppendText(b, "body"), e.Body)
	b = appendText(b, "from", e.From)
	b = wire.AppendInt(wire.AppendText(b, "sent"), e.Sent)
	b = appendText(b, "once", e.Once)
	b = appendText(b, "word", e.Word)
	b = appendText(b, "timer", e.Timer)
	b = appendText(b, "set", e.Set)
	return appendHeaders(b, "head", e.Head)
}

// DecodeEnvelope reads an item of the queue. Its error says why nobody can handle it.
func DecodeEnvelope(b []byte) (Envelope, error) {
	var e Envelope
	if err := wire.DecodeRecord(b, &e); err != nil {
		return e, fmt.Errorf("dserver: decode a message: %w", err)
	}
	if e.Name == "" { // it would wait for somebody who handles messages of no name
		return e, errors.New("dserver: decode a message: it has no name")
	}
	return e, nil
}

// Readable is an item of the queue as operators see it. One that cannot be read is a message without a name, whose body
// is the item.
func Readable(item []byte) (Message, Envelope) {
	env, err := DecodeEnvelope(item)
	if err != nil || env.Name == "" {
		return Message{Body: bytes.Clone(item)}, Envelope{}
	}
	return env.message(), env
}

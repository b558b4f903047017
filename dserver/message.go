package dserver

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/backend"
)

// Returns is embedded, first, in a message that is answered with an R. It adds no bytes, in memory or on the wire.
//
// A message is any named non-pointer type that CBOR can carry. Its name on the wire is its Go name, without package,
// or what its method MessageName() string returns: give it one before you rename the type. Fields are matched by name;
// unknown ones are ignored and missing ones are zero.
type Returns[R any] struct{}

func (Returns[R]) returns(R) {}
func (Returns[R]) answered() {}

// Request is a message that embeds Returns[R].
type Request[R any] interface{ returns(R) }

// answered is what all requests have in common, whatever they return.
type answered interface{ answered() }

// Message is a message by its wire name and CBOR: what tools send, and what dead letters hold. Cast and Call take it.
type Message struct {
	Name string
	Body []byte
}

// named is a message that chooses its wire name.
type named interface{ MessageName() string }

// encodeMessage turns what a user gave to Cast or Call into its wire form.
func encodeMessage(m any) (Message, error) {
	switch m := m.(type) {
	case nil:
		return Message{}, errors.New("dserver: a nil message")
	case Message:
		return m, checkRaw(m)
	}
	t := reflect.TypeOf(m)
	if t.Kind() == reflect.Pointer {
		v := reflect.ValueOf(m)
		if v.IsNil() {
			return Message{}, fmt.Errorf("dserver: a nil %v as a message", t)
		}
		return encodeMessage(v.Elem().Interface())
	}
	name, err := messageName(t, m)
	if err != nil {
		return Message{}, err
	}
	body, err := encoder.Marshal(m)
	if err != nil {
		return Message{}, fmt.Errorf("dserver: encode %s: %w", name, err)
	}
	return Message{name, body}, checkSize(name, body)
}

func checkRaw(m Message) error {
	if m.Name == "" {
		return errors.New("dserver: a Message without a Name")
	}
	if err := decoder.Wellformed(m.Body); err != nil {
		return fmt.Errorf("dserver: the body of %s is not CBOR: %w", m.Name, err)
	}
	return checkSize(m.Name, m.Body)
}

// maxBodyBytes is the largest message or reply as it is encoded. An item of the queue has room for its envelope too.
const maxBodyBytes = 4 << 20

func checkSize(name string, body []byte) error {
	if len(name) > maxNameBytes {
		return fmt.Errorf("dserver: a message's name of %d bytes; at most %d", len(name), maxNameBytes)
	}
	if len(body) > maxBodyBytes {
		return fmt.Errorf("dserver: %s: %w: %d bytes; a message has at most %d", name, backend.ErrTooLarge, len(body), maxBodyBytes)
	}
	return nil
}

// messageName is the wire name of messages of type t; m is one of them.
func messageName(t reflect.Type, m any) (string, error) {
	if n, ok := m.(named); ok {
		if name := n.MessageName(); name != "" {
			return name, nil
		}
		return "", fmt.Errorf("dserver: the MessageName of %v is empty", t)
	}
	name := t.Name()
	switch {
	case name == "" || t.PkgPath() == "":
		return "", fmt.Errorf("dserver: a %v is no message: declare a type for it", t)
	case strings.Contains(name, "["):
		return "", fmt.Errorf("dserver: the generic message %v needs a method MessageName() string", t)
	}
	return name, nil
}

// envelope is a message on the queue. Its field names are part of the stored format.
type envelope struct {
	Name string          `cbor:"name"`
	Body cbor.RawMessage `cbor:"body"`
	From string          `cbor:"from,omitempty"` // address of the caller that waits
	Sent int64           `cbor:"sent"`           // Unix milliseconds by the sender's clock, for people

	Once  string `cbor:"once,omitempty"`  // idempotency key, under which the outcome is kept
	Word  string `cbor:"word,omitempty"`  // of the key's record, which is this message's
	Timer string `cbor:"timer,omitempty"` // the timer that sent it; dropped when that is not set to Set any more
	Set   string `cbor:"set,omitempty"`
}

func newEnvelope(m Message, from string) envelope {
	return envelope{Name: m.Name, Body: m.Body, From: from, Sent: time.Now().UnixMilli()}
}

func (e envelope) message() Message { return Message{e.Name, e.Body} }

func (e envelope) encode() ([]byte, error) {
	b, err := encoder.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("dserver: encode %s: %w", e.Name, err)
	}
	return b, nil
}

func decodeEnvelope(b []byte) (envelope, error) {
	var e envelope
	if err := decoder.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("dserver: decode a message: %w", err)
	}
	return e, nil
}

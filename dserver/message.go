package dserver

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/wire"
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

// encodeMessage turns what a user gave to Cast or Call into its wire form, which shares no memory with it. What could
// not be handled, as nobody could read it, is refused here.
func encodeMessage(m any) (tenant.Message, error) {
	switch m := m.(type) {
	case nil:
		return tenant.Message{}, errors.New("dserver: a nil message")
	case Message:
		return copyRaw(m)
	}
	t := reflect.TypeOf(m)
	if t.Kind() == reflect.Pointer {
		v := reflect.ValueOf(m)
		if v.IsNil() {
			return tenant.Message{}, fmt.Errorf("dserver: a nil %v as a message", t)
		}
		if raw, ok := m.(*Message); ok {
			return copyRaw(*raw)
		}
		t = t.Elem()
	}
	k := kindOf(t)
	name, err := k.nameOf(m)
	if err != nil {
		return tenant.Message{}, err
	}
	body, err := encodeValue(k.wire, name, m)
	if err != nil {
		return tenant.Message{}, err
	}
	return tenant.Message{Name: name, Body: body}, nil
}

// encodeValue encodes what a user gave, and looks whether it will be read.
func encodeValue(t *wire.Type, name string, v any) ([]byte, error) {
	if err := t.Err(); err != nil {
		return nil, fmt.Errorf("dserver: %s cannot be sent: %w", name, err)
	}
	b, err := t.Encode(v)
	if err == nil {
		err = checkSize(name, b)
	}
	if err == nil {
		err = t.Verify(b)
	}
	if errors.Is(err, backend.ErrTooLarge) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("dserver: encode %s: %w", name, err)
	}
	return b, nil
}

func copyRaw(m Message) (tenant.Message, error) {
	if m.Name == "" {
		return tenant.Message{}, errors.New("dserver: a Message without a Name")
	}
	if err := checkSize(m.Name, m.Body); err != nil {
		return tenant.Message{}, err
	}
	body, err := wire.Copy(m.Body)
	if err != nil {
		return tenant.Message{}, fmt.Errorf("dserver: the body of %s is not CBOR that can be read: %w", m.Name, err)
	}
	return tenant.Message{Name: m.Name, Body: body}, nil
}

// maxBodyBytes is the largest message or reply as it is encoded. An item of the queue has room for its envelope too.
const maxBodyBytes = 4 << 20

func checkSize(name string, body []byte) error {
	if len(name) > tenant.MaxNameBytes {
		return fmt.Errorf("dserver: a message's name of %d bytes; at most %d", len(name), tenant.MaxNameBytes)
	}
	if len(body) > maxBodyBytes {
		return fmt.Errorf("dserver: %s: %w: %d bytes; a message has at most %d", name, backend.ErrTooLarge, len(body), maxBodyBytes)
	}
	return nil
}

// kind is what is known of a message's Go type.
type kind struct {
	typ   reflect.Type
	wire  *wire.Type
	names bool // its MessageName says how it is called
	name  string
	err   error // it has no name
}

var kinds sync.Map // reflect.Type -> *kind

func kindOf(t reflect.Type) *kind {
	if known, ok := kinds.Load(t); ok {
		return known.(*kind)
	}
	k := &kind{typ: t, wire: wire.Of(t), name: t.Name()}
	switch {
	case reflect.PointerTo(t).Implements(reflect.TypeFor[named]()):
		k.names = true
	case k.name == "" || t.PkgPath() == "":
		k.err = fmt.Errorf("dserver: a %v is no message: declare a type for it", t)
	case strings.Contains(k.name, "["):
		k.err = fmt.Errorf("dserver: the generic message %v needs a method MessageName() string", t)
	}
	known, _ := kinds.LoadOrStore(t, k)
	return known.(*kind)
}

// nameOf is the wire name of m, which is of this type or a pointer to it.
func (k *kind) nameOf(m any) (name string, err error) {
	if !k.names {
		return k.name, k.err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("dserver: the MessageName of %v panicked: %v", k.typ, p)
		}
	}()
	n, ok := m.(named)
	if !ok { // the method has a pointer receiver
		p := reflect.New(k.typ)
		p.Elem().Set(reflect.ValueOf(m))
		n = p.Interface().(named)
	}
	if name = n.MessageName(); name == "" {
		return "", fmt.Errorf("dserver: the MessageName of %v is empty", k.typ)
	}
	return name, nil
}

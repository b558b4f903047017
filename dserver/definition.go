package dserver

import (
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// Definition is a type of server: its name, the Go type of its state, and what handles its messages.
// It is immutable and safe for concurrent use. A definition without handlers is an address: it sends and reads state.
type Definition[S any] struct{ core *definition }

// definition is a Definition without its type parameter.
type definition struct {
	name     string
	place    string            // where Define was called
	schema   *statediff.Schema // nil of a bare Ref
	handlers map[string]*handler
	infos    map[string]*handler
	locked   map[string]*lockedHandler
	upgrades map[int]upgrade
	version  int // of the schema
	init     *handler
	settings settings
}

// Type is any Definition, whatever its state.
type Type interface {
	Name() string
	sealed() *definition
}

// Part is what Define is given: a handler, Init, Upgrade or Settings.
type Part[S any] interface{ addTo(d *Definition[S]) }

// part is every Part: what it does to a definition that is being made.
type part[S any] func(d *definition)

func (p part[S]) addTo(d *Definition[S]) { p(d.core) }

// Settings are what a type may have other than the defaults; a field's zero value is its default.
type Settings[S any] struct {
	MaxAttempts int           // attempts of a message that faults before it becomes a dead letter; 5
	WorkLimit   time.Duration // how long one attempt of locked work may take; a minute

	// NoHandlerWait is how long a message waits for a consumer that has a handler for it, before it becomes a dead
	// letter, or with Halt stops its server; 2 minutes, and when it is negative, for ever. Each consumer without the
	// handler counts from when it first sees the message. While a living consumer has the handler, nothing is counted.
	NoHandlerWait time.Duration

	Halt bool // a message with no attempts left stops the server until an operator acts, and becomes no dead letter
}

type settings struct {
	maxAttempts int
	workLimit   time.Duration
	halt        bool

	noHandlerWait time.Duration
}

const defaultMaxAttempts = 5

func (s Settings[S]) addTo(d *Definition[S]) {
	if s.MaxAttempts < 0 || s.WorkLimit < 0 {
		panic(fmt.Sprintf("dserver: the settings of %q (Define at %s) are negative: %+v", d.core.name, d.core.place, s))
	}
	if s.MaxAttempts > 0 {
		d.core.settings.maxAttempts = s.MaxAttempts
	}
	if s.WorkLimit > 0 {
		d.core.settings.workLimit = s.WorkLimit
	}
	if s.NoHandlerWait != 0 {
		d.core.settings.noHandlerWait = s.NoHandlerWait
	}
	d.core.settings.halt = d.core.settings.halt || s.Halt
}

// Define names a type of server. It panics, naming the places, when a state, message or reply cannot be stored (an
// interface, channel, function or unexported field without the tag `dserver:"-"`), when a message has two handlers or
// two messages have one name, when a message is a pointer, an interface, nameless or generic without MessageName, or
// when one with Returns is given to a handler that returns nothing. There is no global registry: two definitions of
// one name may exist (in tests they do), and only a consumer that is given both refuses.
func Define[S any](name string, parts ...Part[S]) *Definition[S] {
	place := caller()
	if err := checkTypeName(name); err != nil {
		panic(fmt.Sprintf("%v (Define at %s)", err, place))
	}
	schema, err := statediff.For(reflect.TypeFor[S]())
	if err != nil {
		panic(fmt.Sprintf("dserver: the state of %q cannot be stored: %v (Define at %s)", name, err, place))
	}
	core := &definition{
		name: name, place: place, schema: schema, version: 1,
		handlers: map[string]*handler{},
		infos:    map[string]*handler{},
		locked:   map[string]*lockedHandler{},
		upgrades: map[int]upgrade{},
		settings: settings{maxAttempts: defaultMaxAttempts, workLimit: defaultWorkLimit, noHandlerWait: defaultNoHandlerWait},
	}
	return (&Definition[S]{core}).add(parts)
}

// With returns a definition that has these parts as well. It is how handlers get what they depend on (closures, method
// values), how a worker adds handlers to an address that it shares with producers, and how servers that send to each
// other avoid Go's "initialization cycle". It panics as Define does.
func (d *Definition[S]) With(parts ...Part[S]) *Definition[S] {
	core := *d.core
	core.handlers, core.infos = maps.Clone(core.handlers), maps.Clone(core.infos)
	core.locked, core.upgrades = maps.Clone(core.locked), maps.Clone(core.upgrades)
	return (&Definition[S]{&core}).add(parts)
}

func (d *Definition[S]) add(parts []Part[S]) *Definition[S] {
	for _, p := range parts {
		if p == nil {
			panic(fmt.Sprintf("dserver: %q (Define at %s) is given a nil part", d.core.name, d.core.place))
		}
		p.addTo(d)
	}
	return d
}

// At returns a handle to one server. It does no I/O and cannot fail: a bad id is reported by the handle's first use.
func (d *Definition[S]) At(db backend.Database, id string) *DServer[S] {
	return &DServer[S]{handle{db: db, def: d.core, id: id}}
}

// Ref returns the name of one server, for sends from handlers and for keeping in states and messages.
func (d *Definition[S]) Ref(id string) Ref { return Ref{d.core.name, id} }

// Name is the name given to Define.
func (d *Definition[S]) Name() string { return d.core.name }

func (d *Definition[S]) sealed() *definition { return d.core }

// Init prepares the state of a server that has none, in the turn of its first message: what it changes and sends is
// committed with that message, and not if the message fails. Its error fails the message.
func Init[S any](fn func(ctx *Context, s *S) error) Part[S] {
	place := caller()
	return part[S](func(d *definition) {
		if d.init != nil {
			panic(fmt.Sprintf("dserver: %q has two Init, at %s and at %s", d.name, d.init.place, place))
		}
		d.init = &handler{place: place, run: func(ctx *Context, state any, _ []byte) ([]byte, error) {
			return nil, fn(ctx, state.(*S))
		}}
	})
}

// accepts checks a message before it is sent. An address sends whatever it is given.
func (d *definition) accepts(name string) error {
	if !d.hasHandlers() || d.handlers[name] != nil || d.locked[name] != nil {
		return nil
	}
	return because(ErrNoHandler, "%q has none for %s", d.name, name)
}

// hasNoReply reports whether a message is known to have none. An address does not know.
func (d *definition) hasNoReply(name string) bool {
	h := d.handlers[name]
	return h != nil && !h.call && d.locked[name] == nil
}

func (d *definition) hasHandlers() bool { return len(d.handlers)+len(d.locked) > 0 }

// caller is the place in the user's program that called the function that asks, for panics that name it.
func caller() string {
	_, file, line, ok := runtime.Caller(2)
	if !ok {
		return "an unknown place"
	}
	return fmt.Sprintf("%s:%d", file, line)
}

// What bounds a turn. The store's own limits are above all of them, so that a commit has room.
const (
	maxBatch      = 256                    // messages
	maxBatchBytes = 1 << 20                // of messages as they are stored
	maxBatchTime  = 100 * time.Millisecond // after which no further message is begun
	handlerLimit  = 4 * time.Second        // after which a turn's handlers are abandoned
)

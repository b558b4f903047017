package dserver

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver/internal/kit"
	"github.com/dserver-go/dserver/internal/consumer"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/statediff"
)

// Definition is a type of server: its name, the Go type of its state, and what handles its messages.
// It is immutable and safe for concurrent use. A definition without handlers is an address: it sends and reads state.
type Definition[S any] struct{ core *turn.Definition }

// Type is any Definition, whatever its state.
type Type interface {
	Name() string
	sealed() *turn.Definition
}

// Part is what Define is given: a handler, Init, Upgrade or Settings.
type Part[S any] interface{ addTo(d *Definition[S]) }

// part is every Part: what it does to a definition that is being made.
type part[S any] func(d *turn.Definition)

func (p part[S]) addTo(d *Definition[S]) { p(d.core) }

// Settings are what a type may have other than the defaults; a field's zero value is its default.
type Settings[S any] struct {
	MaxAttempts int           // attempts of a message that faults before it becomes a dead letter; 5
	WorkLimit   time.Duration // how long one attempt of locked work may take; a minute

	// HandlerLimit is how long the handlers of a turn may take together, and by that any of them; then the turn is given up,
	// and the message in hand has failed an attempt. It is 4 seconds, and no more: the store's transactions end after 5. With
	// a shorter one a handler that hangs keeps its server, and a worker, for a shorter time. Leave room for pauses of the
	// machine: a handler that is stopped in them overruns as well. It is not that of locked work, which is WorkLimit.
	HandlerLimit time.Duration

	// BackOff is how long a message waits after the first attempt that faulted; 100 ms. After each other attempt it is four
	// times as long, up to MaxBackOff, which is 30 seconds and at most an hour; and always up to a quarter less, so that
	// consumers do not come all at once. The messages behind it on its server wait as well. Locked work that failed
	// waits likewise, under its lock.
	//
	// A wait is stored with the attempts, and consumers with other settings keep to it. Each counts it from when it first
	// sees the message, so a consumer that comes anew waits anew: a wait should be shorter than consumers live.
	BackOff    time.Duration
	MaxBackOff time.Duration

	// Turns is how many servers of the type a consumer handles at a time, so that a type whose handlers are slow leaves
	// workers to the others; 0 is as many as there are workers (Consumer.Turns). A server that is one too many waits
	// without a worker, first come first served among its type, and servers of other types pass it. The end of locked work
	// is a turn, and counts; the work itself does not (Consumer.Work), nor do Info, Query and AfterCommit functions. Each
	// consumer counts for itself.
	Turns int

	// NoHandlerWait is how long a message waits for a consumer that has a handler for it, before it becomes a dead
	// letter, or with Halt stops its server; 2 minutes, and when it is negative, for ever. Each consumer without the
	// handler counts from when it first sees the message. While a living consumer has the handler, nothing is counted.
	NoHandlerWait time.Duration

	// MaxQueued is how many messages may wait for a server (backpressure): while that many do, Cast, CastAll and Call of a
	// handle are ErrQueueFull, and the sender slows down. 0 is any number. A batch of CastAll is sent whole where there is
	// one free place, and refused whole where there is none.
	//
	// The bound is soft. It is read and not reserved, so that senders are in nobody's way: of N senders at once, each may see
	// the last place, and all of them send. And what must not be refused goes over it: what handlers send, so that two servers
	// with full queues can go on that send to each other; timers, messages with After, and what operators retry; messages with
	// Priority, which may be what ends a lock. On the queue they count like all others. What waits under After or a lock does
	// not count, nor what joins a turn of its sender's process: there the sender waits for the turn.
	//
	// The bound is that of the sender's definition, and is not stored. So give it to the address that senders use. A handle
	// that is made from a Ref has none.
	MaxQueued int

	// Label is where servers of the type begin: a server that gets a state, and was not pinned before, is pinned there then. "" is
	// not to pin them. Servers that have a state stay where they are when this changes; Pin moves them. Every consumer of the
	// type must be given the same, also those that do not list the label.
	Label string

	// DeadLetterAge is how long a dead letter is kept, and DeadLetterCount how many a server keeps; 0, the default, is for ever, and
	// all. What is beyond is removed, the oldest first, and nobody can retry it any more: that is data that is lost, so keep both
	// off where somebody looks at dead letters. Consumers look when they start and every ten minutes, and log what they remove at
	// level info; until then there may be more. A letter is removed when those that were pushed before it are, so it may be kept
	// for longer than its age, and never for a shorter time.
	DeadLetterAge   time.Duration
	DeadLetterCount int

	Halt bool // a message with no attempts left stops the server until an operator acts, and becomes no dead letter
}

func (s Settings[S]) addTo(d *Definition[S]) {
	s.check(d.core)
	to := &d.core.Settings
	to.MaxAttempts = cmp.Or(s.MaxAttempts, to.MaxAttempts)
	to.WorkLimit = cmp.Or(s.WorkLimit, to.WorkLimit)
	to.HandlerLimit = cmp.Or(s.HandlerLimit, to.HandlerLimit)
	to.BackOff = cmp.Or(s.BackOff, to.BackOff)
	to.MaxBackOff = cmp.Or(s.MaxBackOff, to.MaxBackOff)
	to.Turns = cmp.Or(s.Turns, to.Turns)
	to.NoHandlerWait = cmp.Or(s.NoHandlerWait, to.NoHandlerWait)
	to.MaxQueued = cmp.Or(s.MaxQueued, to.MaxQueued)
	to.Label = cmp.Or(s.Label, to.Label)
	to.Letters.Age = cmp.Or(s.DeadLetterAge, to.Letters.Age)
	to.Letters.Count = cmp.Or(s.DeadLetterCount, to.Letters.Count)
	to.Halt = to.Halt || s.Halt
}

// check panics when a setting has a value that it cannot have.
func (s Settings[S]) check(d *turn.Definition) {
	if min(s.MaxAttempts, s.MaxQueued, s.Turns, s.DeadLetterCount) < 0 || min(s.WorkLimit, s.HandlerLimit, s.BackOff, s.MaxBackOff, s.DeadLetterAge) < 0 {
		panic(fmt.Sprintf("dserver: the settings of %q (Define at %s) are negative: %+v", d.Name, d.Place, s))
	}
	for _, l := range []struct {
		field     string
		is, limit time.Duration
	}{
		{"HandlerLimit", s.HandlerLimit, turn.DefaultHandlerLimit},
		{"MaxBackOff", s.MaxBackOff, turn.LongestBackOff},
	} {
		if l.is > l.limit {
			panic(fmt.Sprintf("dserver: the settings of %q (Define at %s) have a %s of %v, which may be %v at most", d.Name, d.Place, l.field, l.is, l.limit))
		}
	}
	if err := tenant.CheckLabel(s.Label); err != nil {
		panic(fmt.Sprintf("%v (the settings of %q, Define at %s)", err, d.Name, d.Place))
	}
}

// Define names a type of server. It panics, naming the places, when a state, message or reply cannot be stored (an
// interface, channel, function or unexported field without the tag `dserver:"-"`), when a message has two handlers or
// two messages have one name, when a message is a pointer, an interface, nameless or generic without MessageName, or
// when one with Returns is given to a handler that returns nothing. There is no global registry: two definitions of
// one name may exist (in tests they do), and only a consumer that is given both refuses.
func Define[S any](name string, parts ...Part[S]) *Definition[S] {
	return defined(newDefinition(name, caller(), reflect.TypeFor[S]()), parts)
}

// With returns a definition that has these parts as well. It is how handlers get what they depend on (closures, method
// values), how a worker adds handlers to an address that it shares with producers, and how servers that send to each
// other avoid Go's "initialization cycle". It panics as Define does.
func (d *Definition[S]) With(parts ...Part[S]) *Definition[S] {
	return defined(copyDefinition(d.core), parts)
}

func defined[S any](core *turn.Definition, parts []Part[S]) *Definition[S] {
	d := &Definition[S]{core}
	for _, p := range parts {
		if p == nil {
			panic(fmt.Sprintf("dserver: %q (Define at %s) is given a nil part", core.Name, core.Place))
		}
		p.addTo(d)
	}
	if s := core.Settings; s.BackOff > s.MaxBackOff {
		panic(fmt.Sprintf("dserver: %q (Define at %s) has a BackOff of %v, which is longer than its MaxBackOff of %v", core.Name, core.Place, s.BackOff, s.MaxBackOff))
	}
	return d
}

func newDefinition(name, place string, state reflect.Type) *turn.Definition {
	if err := tenant.CheckTypeName(name); err != nil {
		panic(fmt.Sprintf("%v (Define at %s)", err, place))
	}
	schema, err := statediff.For(state)
	if err != nil {
		panic(fmt.Sprintf("dserver: the state of %q cannot be stored: %v (Define at %s)", name, err, place))
	}
	return &turn.Definition{
		Name: name, Place: place, Form: schemaForm{schema}, Version: 1,
		Handlers: map[string]*turn.Handler{},
		Infos:    map[string]*turn.Handler{},
		Locked:   map[string]*turn.Locked{},
		Upgrades: map[int]turn.Upgrade{},
		Settings: turn.DefaultSettings(),
	}
}

func copyDefinition(d *turn.Definition) *turn.Definition {
	core := *d
	core.Handlers, core.Infos = maps.Clone(core.Handlers), maps.Clone(core.Infos)
	core.Locked, core.Upgrades = maps.Clone(core.Locked), maps.Clone(core.Upgrades)
	return &core
}

// At returns a handle to one server. It does no I/O and cannot fail: a bad id is reported by the handle's first use.
func (d *Definition[S]) At(db backend.Database, id string) *DServer[S] {
	db, h := inside(db)
	return &DServer[S]{handle{consumer.Handle{DB: db, Def: d.core, Ref: tenant.Ref{Type: d.core.Name, ID: id}, Hooks: h.asHooks()}}}
}

// Ref returns the name of one server, for sends from handlers and for keeping in states and messages.
func (d *Definition[S]) Ref(id string) Ref { return Ref{d.core.Name, id} }

// Name is the name given to Define.
func (d *Definition[S]) Name() string { return d.core.Name }

func (d *Definition[S]) sealed() *turn.Definition { return d.core }

// The test kit runs types as it likes.
func init() {
	kit.Definitions = func(types any) []*turn.Definition { return definitions(types.([]Type)) }
	kit.Inside = func(db backend.Database) (backend.Database, turn.Hooks) {
		inner, h := inside(db)
		return inner, h.asHooks()
	}
}

func definitions(types []Type) []*turn.Definition {
	defs := make([]*turn.Definition, len(types))
	for i, t := range types {
		defs[i] = t.sealed()
	}
	return defs
}

// schemaForm is the form of a Go type.
type schemaForm struct{ *statediff.Schema }

// New returns a pointer to an empty state.
func (f schemaForm) New() any { return f.Schema.New().Interface() }

// Rewrite is statediff.Schema's, of two forms of Go types.
func (f schemaForm) Rewrite(rows *statediff.Rows, older turn.Form, value any) ([]statediff.Edit, error) {
	return f.Schema.Rewrite(rows, older.(schemaForm).Schema, value)
}

// Init prepares the state of a server that has none, in the turn of its first message: what it changes and sends is
// committed with that message, and not if the message fails. Its error fails the message.
func Init[S any](fn func(ctx *Context, s *S) error) Part[S] {
	place := caller()
	return part[S](func(d *turn.Definition) {
		if d.Init != nil {
			panic(fmt.Sprintf("dserver: %q has two Init, at %s and at %s", d.Name, d.Init.Place, place))
		}
		d.Init = &turn.Handler{Place: place, Run: func(s *turn.Scope, state any, _ []byte) ([]byte, error) {
			return nil, inert(fn(&Context{s}, state.(*S)))
		}}
	})
}

// caller is the place in the user's program that called the function that asks, for panics that name it.
func caller() string {
	_, file, line, ok := runtime.Caller(2)
	if !ok {
		return "an unknown place"
	}
	return fmt.Sprintf("%s:%d", file, line)
}

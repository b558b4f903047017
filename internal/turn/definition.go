package turn

import (
	"maps"
	"slices"
	"time"

	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/statediff"
)

// Definition is a type of server as it is run: what Define makes of Go types and functions. It is immutable.
//
// A state is any value whose form it knows, and a handler is a function of such a state and of the bytes of a message. So
// what handles messages may come from elsewhere than from Go functions.
type Definition struct {
	Name     string
	Place    string // where it was defined, for errors
	Form     Form   // of the state; nil of a bare Ref
	Handlers map[string]*Handler
	Infos    map[string]*Handler
	Locked   map[string]*Locked
	Upgrades map[int]Upgrade
	Version  int // of the state's schema
	Init     *Handler
	Settings Settings
}

// Form is how values of a state become rows, and rows values. Package statediff says what its methods promise.
type Form interface {
	New() any
	Decode(rows *statediff.Rows, value any) error
	Diff(rows *statediff.Rows, value any) ([]statediff.Edit, error)
	Rewrite(rows *statediff.Rows, older Form, value any) ([]statediff.Edit, error)
	Fill(value any) error
	Bind(value any, l statediff.Loader) error
	Tracks() bool
	Ranges() []statediff.Range
}

// Settings are what a type has other than the defaults.
type Settings struct {
	MaxAttempts   int
	WorkLimit     time.Duration
	HandlerLimit  time.Duration // of a turn; at most DefaultHandlerLimit
	BackOff       time.Duration // after the first attempt; at most MaxBackOff
	MaxBackOff    time.Duration // at most LongestBackOff
	Turns         int           // servers that a consumer handles at a time; 0: as many as it has workers
	Halt          bool
	NoHandlerWait time.Duration // negative: for ever
	MaxQueued     int           // of those who send through a handle; 0: any number
	Label         string        // under which servers begin
	Letters       tenant.Retention
}

// What a type has unless its settings say otherwise.
const (
	DefaultMaxAttempts   = 5
	DefaultWorkLimit     = time.Minute
	DefaultNoHandlerWait = 2 * time.Minute
	DefaultHandlerLimit  = 4 * time.Second // and no more: the store's transactions end after backend.MaxDuration
	DefaultBackOff       = 100 * time.Millisecond
	DefaultMaxBackOff    = 30 * time.Second
)

// LongestBackOff is how long MaxBackOff may be. A wait is counted from when a consumer first sees it, so one that is longer
// than consumers live would never end.
const LongestBackOff = time.Hour

// DefaultSettings is what a type has unless its settings say otherwise.
func DefaultSettings() Settings {
	return Settings{
		MaxAttempts: DefaultMaxAttempts, WorkLimit: DefaultWorkLimit, NoHandlerWait: DefaultNoHandlerWait,
		HandlerLimit: DefaultHandlerLimit, BackOff: DefaultBackOff, MaxBackOff: DefaultMaxBackOff,
	}
}

// Handler is what a definition has for a message.
type Handler struct {
	Name    string
	Place   string // where it was defined, for errors
	GoType  any    // what tells the message's type from others, for who defines it
	Replies bool

	// Run handles a message. Its error is a *Fault, which is tried again, a *Kept, of which the changes are committed all
	// the same, or a decision. It may panic.
	Run func(s *Scope, state any, body []byte) (reply []byte, err error)
}

// Locked is work outside of transactions under a lock, and what is done with what it found.
type Locked struct {
	Place  string
	GoType any

	// Work gets a copy of the state. Its error is a *tenant.Error, which is a decision, or is tried again.
	Work  func(a *WorkAttempt, state any, body []byte) (found any, err error)
	Apply func(s *Scope, state any, body []byte, found any) (reply []byte, err error)
}

// Upgrade reads a state of an older schema version.
type Upgrade struct {
	Place string
	Form  Form
	Into  func(old, state any) error
}

// Accepts checks a message before it is sent. A definition without handlers is an address: it sends whatever it is given.
func (d *Definition) Accepts(name string) error {
	if !d.HasHandlers() || d.Handles(name) {
		return nil
	}
	return tenant.Because(tenant.ErrNoHandler, "%q has none for %s", d.Name, name)
}

// HasNoReply reports whether a message is known to have none. An address does not know.
func (d *Definition) HasNoReply(name string) bool {
	h := d.Handlers[name]
	return h != nil && !h.Replies && d.Locked[name] == nil
}

// HasHandlers reports whether it is more than an address.
func (d *Definition) HasHandlers() bool { return len(d.Handlers)+len(d.Locked) > 0 }

// Handles reports whether there is a handler for a message of the queue.
func (d *Definition) Handles(name string) bool {
	return d.Handlers[name] != nil || d.Locked[name] != nil
}

// Reads reports whether a state of this schema version can be read; 0 is that of a server without one.
func (d *Definition) Reads(schema int) bool {
	_, upgrades := d.Upgrades[schema]
	return schema == 0 || schema == d.Version || schema < d.Version && upgrades
}

// Ability is what consumers of this definition can handle.
func (d *Definition) Ability() tenant.Ability {
	names := slices.AppendSeq(slices.Collect(maps.Keys(d.Handlers)), maps.Keys(d.Locked))
	return tenant.Ability{Schema: d.Version, Messages: names, Begins: d.Settings.Label}
}

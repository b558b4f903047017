package tenant

import (
	"slices"

	"github.com/dserver-go/dserver/backend"
)

// ProcessRecord is who a process is, for operators, and a beat. Its field names are part of the stored format.
type ProcessRecord struct {
	Host string `cbor:"host"`
	PID  int    `cbor:"pid"`
	Beat int64  `cbor:"beat"` // Unix milliseconds by its clock

	Consumes bool     `cbor:"consumes,omitempty"` // it runs consumers
	Types    []string `cbor:"types,omitempty"`    // of these types; none are told when they are too many
	Labels   []string `cbor:"labels,omitempty"`   // that they list; none when that is "" alone, or they are too many
	Since    int64    `cbor:"since,omitempty"`    // Unix milliseconds by its clock; records of older versions lack it and what follows
	Version  string   `cbor:"version,omitempty"`  // of its program
	InHand

	Handled map[string]int64 `cbor:"handled,omitempty"` // messages since Since, by type; none are told when the types are not
}

// InHand is what the consumers of a process were doing when it beat.
type InHand struct {
	Turns   int `cbor:"turns,omitempty"`   // that ran
	Waiting int `cbor:"waiting,omitempty"` // servers that waited for a turn
	Work    int `cbor:"work,omitempty"`    // locks that were held for work
}

// Add adds what another consumer has in hand.
func (h *InHand) Add(other InHand) {
	h.Turns += other.Turns
	h.Waiting += other.Waiting
	h.Work += other.Work
}

// IsConsumer reports whether a record says that its process runs consumers.
func IsConsumer(value []byte) bool {
	var r ProcessRecord
	return DecodeRecord(value, &r) == nil && r.Consumes
}

// Ability is what the consumers of a process run of one type: beside its record, so that others know who can handle a
// message that they cannot. Its field names are part of the stored format.
type Ability struct {
	Schema   int      `cbor:"schema"`   // the newest version of the state that they read
	Messages []string `cbor:"messages"` // those that have a handler, in order

	Labels []string `cbor:"labels,omitempty"` // that they list; none is "", of servers that are not pinned
	Begins string   `cbor:"begins,omitempty"` // the label under which new servers of the type begin
}

// Equals reports whether two processes run a type in the same way.
func (a Ability) Equals(b Ability) bool {
	return a.Schema == b.Schema && a.Begins == b.Begins && slices.Equal(a.Messages, b.Messages) && slices.Equal(a.Labels, b.Labels)
}

// Lists reports whether servers of a label are run.
func (a Ability) Lists(label string) bool {
	return len(a.Labels) == 0 && label == "" || slices.Contains(a.Labels, label)
}

// handles reports whether a message to a server whose state has this schema version can be handled.
func (a Ability) handles(name string, schema int) bool {
	_, ok := slices.BinarySearch(a.Messages, name)
	return ok && schema <= a.Schema
}

// Able is what one process runs of a type.
type Able struct {
	Process string
	Record  []byte // nil when it has none
	Ability
}

// AblesOf reads what all processes run of a type, as a snapshot.
func AblesOf(tx backend.Reader, typ string) (found []Able, err error) {
	err = Children(tx, backend.NewKey(KeyProcess), func(id string) error {
		keys := PresenceOf(id)
		row := LargeRead{keys.Ability(typ), tx.GetRange(keys.Ability(typ).Tree(), backend.RangeOptions{Snapshot: true})}
		record := tx.GetRange(keys.Record().Only(), backend.RangeOptions{Snapshot: true})
		value, err := row.Get()
		if err != nil || value == nil {
			return err
		}
		pairs, err := record.Get()
		if err != nil {
			return err
		}
		a := Able{Process: id}
		if len(pairs) > 0 {
			a.Record = pairs[0].Value
		}
		found = append(found, a)
		return DecodeRecord(value, &found[len(found)-1].Ability)
	})
	return found, err
}

// IsHandledBy reports whether any of some processes has a handler for a message.
func IsHandledBy(all []Able, name string, schema int) bool {
	return slices.ContainsFunc(all, func(a Able) bool { return a.handles(name, schema) })
}

// Listing is those of some processes that run servers of a label.
func Listing(all []Able, label string) (listing []Able) {
	for _, a := range all {
		if a.Lists(label) {
			listing = append(listing, a)
		}
	}
	return listing
}

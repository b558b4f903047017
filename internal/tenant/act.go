package tenant

import (
	"time"

	"github.com/dserver-go/dserver/backend"
)

// What operators do is kept, when they say who they are: an act is a row in the order of commits, written in the commit that
// does what it tells. Acts are removed by later ones, when they are old. Appends conflict with nobody, so that those who act
// at once do not wait for each other.

// Act is what an operator did. Its field names are part of the stored format.
type Act struct {
	At     int64    `cbor:"at"`   // Unix milliseconds
	By     string   `cbor:"by"`   // who
	Verb   string   `cbor:"verb"` // the call
	Ref    Ref      `cbor:"ref"`
	Stamp  [12]byte `cbor:"stamp,omitzero"`   // of the message
	Detail string   `cbor:"detail,omitempty"` // a label, a path in the state, an id
	Before *Kept    `cbor:"before,omitempty"`
	After  *Kept    `cbor:"after,omitempty"`
}

// Kept is a message, or a value of a state, as it was or is. Its field names are part of the stored format.
type Kept struct {
	Name  string `cbor:"name,omitempty"` // of the message
	Body  []byte `cbor:"body,omitempty"` // nothing when it is too large to be kept
	Bytes int    `cbor:"bytes"`          // how large it is
}

// What is kept of acts.
const (
	maxKept      = 16 << 10 // bytes of a message, or of a value
	maxActAge    = 90 * 24 * time.Hour
	actsRemoved  = 16 // by each act, if they are old: so their number has a bound
	maxActDetail = 4 << 10
)

// KeepMessage is a message for an act.
func KeepMessage(m Message) *Kept { return KeepValue(m.Name, m.Body) }

// KeepValue is a value for an act.
func KeepValue(name string, body []byte) *Kept {
	k := &Kept{Name: name, Bytes: len(body)}
	if len(body) <= maxKept {
		k.Body = append([]byte{}, body...)
	}
	return k
}

// Acts is where they stand.
func Acts() backend.Key { return backend.NewKey(KeyActs) }

// WriteAct keeps an act, and removes old ones. It reads before it writes, and nothing may be read of acts after it.
func WriteAct(tx backend.Tx, a Act) error {
	oldest, err := tx.GetRange(Acts().Below(), backend.RangeOptions{Limit: actsRemoved, Snapshot: true}).Get()
	if err != nil {
		return err
	}
	for _, pair := range oldest {
		var old Act
		if DecodeRecord(pair.Value, &old) != nil || time.UnixMilli(a.At).Sub(time.UnixMilli(old.At)) <= maxActAge {
			break
		}
		tx.Clear(pair.Key.Only())
	}
	a.Detail = Truncate(a.Detail, maxActDetail)
	tx.Append(Acts(), EncodeRecord(a))
	return nil
}

package tenant

import (
	"fmt"
	"unicode/utf8"

	"github.com/dserver-go/dserver/backend"
)

// A server has a label, and is run by the consumers that list it; that of a server that is not pinned is "". Which one it is
// stands in a record of the head, so that each turn knows it. To pin a server is one commit:
//
//  1. The record and the lock are read, so of two pins at once the second finds what the first has written.
//  2. The record is written.
//     Each turn that writes has it as a conflict, and so has what is counted of a message that failed: what runs on a host
//     that may not run the server any more is not committed, and looks again.
//  3. Locked work loses its lock: it is vacant, under another fence, and its holder is told. The next consumer runs the work
//     again, with the same idempotency key, and counts no attempt.
//  4. The server's row in the index of its label is moved, or made, and the bell of the label rings: so the consumers that
//     list it look at once. Its ready mark, if there is one, stays; whoever confirms that there is nothing to do removes both.
//
// Pushes know no label: they set the ready mark, which all consumers of the type read. One that may not run a server leaves
// it alone, and parks it under its label when nobody takes it.
//
// | dies | what is left |
// |---|---|
// | before the commit | the server is where it was |
// | after it | it is pinned; what ran elsewhere cannot commit; a row leads the consumers of its label to it |
// | outcome unknown | called again, it is done, or finds that it was |

// Pin is the record of where a server was pinned; zero when it never was.
type Pin struct {
	IsSet bool
	Label string
}

// LabelOf is the label of a server, of a type whose servers begin under another one.
func (h *Head) LabelOf(begins string) string {
	if h.Pin.IsSet || h.Meta.Created != 0 {
		return h.Pin.Label
	}
	return begins
}

// ReadPin reads the record; a change before the commit is a conflict.
func (t Keys) ReadPin(tx backend.Reader) (Pin, error) {
	value, err := tx.Get(t.Pin()).Get()
	return Pin{value != nil, string(value)}, err
}

// SetPin writes the record.
func (t Keys) SetPin(tx backend.Tx, label string) { tx.Set(t.Pin(), []byte(label)) }

// PinTo is the steps 1 to 4. Where the server is pinned already it writes nothing.
func (t Keys) PinTo(tx backend.Tx, ref Ref, label string) error {
	old, err := t.ReadPin(tx)
	if err != nil {
		return err
	}
	held, err := ReadLock(tx, t)
	if err != nil {
		return err
	}
	if old.IsSet && old.Label == label {
		return nil
	}
	told, err := NoticeTo(tx, held.Beat)
	if err != nil {
		return err
	}
	t.SetPin(tx, label)
	if held.IsHeld() {
		tx.Stamp(t.Fence())
		t.Vacate(tx)
		told.Write(tx)
	}
	tx.Clear(ParkedRow(ref, old.Label).Only())
	tx.Clear(LabelRow(old.Label, ref).Only()) // of "" that is another one, and there when it was pinned to that
	SetCalled(tx, ref, label)
	return nil
}

// SetCalled makes the consumers that list a label look at a server, whatever they remember of it.
func SetCalled(tx backend.Tx, ref Ref, label string) {
	tx.Set(LabelRow(label, ref), nil)
	tx.Add(LabelBell(label), 1)
}

// MaxLabel bounds a label, in bytes.
const MaxLabel = 128

// CheckLabel checks a label that a server is pinned to, or that a consumer lists.
func CheckLabel(label string) error {
	if len(label) > MaxLabel || !utf8.ValidString(label) {
		return fmt.Errorf("dserver: a label is UTF-8 of at most %d bytes, and this is not: %q", MaxLabel, Truncate(label, MaxLabel))
	}
	return nil
}

// ParseLabelRow finds the server of a row below a label's bell. Its error is backend.ErrCorrupt.
func ParseLabelRow(bell, key backend.Key) (Ref, error) {
	ref, rest, ok := parseRow(bell, key)
	if !ok || len(rest) > 0 {
		return ref, fmt.Errorf("%w: the row %v in the index of a label", backend.ErrCorrupt, key)
	}
	return ref, nil
}

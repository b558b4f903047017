package tenant

import (
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/chunk"
	"github.com/dserver-go/dserver/queue"
)

// Letter is a dead letter as it is stored: below the tenant's key, by the stamp that the message had on the queue. A
// message that was never on the queue gets the stamp of the commit that set it aside. Its field names are part of the
// stored format.
//
// An item that makes the letter larger than a row stands in rows of its own below it. So whatever fits on the queue can
// be set aside, with all that is added here.
type Letter struct {
	Item     []byte `cbor:"item,omitzero"` // the message as it was on the queue, readable or not; nil: in rows below
	Err      Error  `cbor:"error"`
	Stack    string `cbor:"stack,omitempty"`
	Attempts int    `cbor:"attempts"`
	Since    int64  `cbor:"since"` // Unix milliseconds
}

// NewLetter makes a letter of an item, as it was on the queue.
func NewLetter(item []byte, why *Error, stack string, attempts int) Letter {
	return Letter{
		Item: append([]byte{}, item...), // one of no bytes is not one in rows below
		Err:  *why, Stack: Truncate(stack, maxStack), Attempts: attempts, Since: time.Now().UnixMilli(),
	}
}

// WriteLetter stores a letter and counts it.
func (t Keys) WriteLetter(tx backend.Tx, item *queue.Item, l Letter) error {
	tx.Add(t.Dead(), 1)
	t.setTrouble(tx)
	row := EncodeRecord(l)
	if item == nil { // a local arrival is small: one row
		tx.Append(t.Dead(), row)
		return nil
	}
	key := t.Dead().Stamp(item.Stamp)
	if len(row) > chunk.Bytes {
		rows, err := chunk.Split(l.Item)
		if err != nil {
			return err
		}
		for i, part := range rows {
			tx.Set(key.Int(int64(i)), part)
		}
		l.Item = nil
		row = EncodeRecord(l)
	}
	tx.Set(key, row)
	return nil
}

// LetterOf reads a letter whose first row is value.
func (t Keys) LetterOf(tx backend.Reader, stamp backend.Versionstamp, value []byte) (Letter, error) {
	var l Letter
	if err := DecodeRecord(value, &l); err != nil {
		return l, fmt.Errorf("the dead letter %v: %w", stamp, err)
	}
	if l.Item != nil {
		return l, nil
	}
	pairs, err := tx.GetRange(t.Dead().Stamp(stamp).Below(), backend.RangeOptions{Snapshot: true}).Get()
	if err != nil {
		return l, err
	}
	rows := make([][]byte, len(pairs))
	for i, pair := range pairs {
		rows[i] = pair.Value
	}
	if l.Item, err = chunk.Join(rows); err != nil {
		return l, fmt.Errorf("%w: the dead letter %v: %w", backend.ErrCorrupt, stamp, err)
	}
	return l, nil
}

// FindLetter reads a letter. In a transaction its disappearance is a conflict.
func (t Keys) FindLetter(tx backend.Reader, stamp backend.Versionstamp) (Letter, error) {
	value, err := tx.Get(t.Dead().Stamp(stamp)).Get()
	if err != nil {
		return Letter{}, err
	}
	if value == nil {
		return Letter{}, NoLetter(stamp)
	}
	return t.LetterOf(tx, stamp, value)
}

// NoLetter is the error of a dead letter that is gone.
func NoLetter(stamp backend.Versionstamp) error {
	return Because(ErrNotFound, "there is no dead letter %v", stamp)
}

// RemoveLetter clears a letter that was found in the same transaction.
func (t Keys) RemoveLetter(tx backend.Tx, stamp backend.Versionstamp) {
	tx.Clear(t.Dead().Stamp(stamp).Tree())
	tx.Add(t.Dead(), -1)
}

// maxStack bounds the stack of a panic in a dead letter.
const maxStack = 16 << 10

// MendLetter mends a letter whose record is gone while the rows of its item are there: it gets another record, which says so.
// An item that is not whole is removed. It reports false when the letter is not so.
func (t Keys) MendLetter(tx backend.Tx, stamp backend.Versionstamp) (bool, error) {
	key := t.Dead().Stamp(stamp)
	if there, err := IsThere(tx.Get(key)); err != nil || there {
		return false, err
	}
	lost := NewLetter(nil, Because(ErrFault, "why it was set aside is lost"), "", 0)
	lost.Item = nil
	switch _, err := t.LetterOf(tx, stamp, EncodeRecord(lost)); {
	case errors.Is(err, backend.ErrCorrupt):
		tx.Clear(key.Tree())
	case err != nil:
		return false, err
	default:
		tx.Set(key, EncodeRecord(lost))
		t.setTrouble(tx)
	}
	return true, nil
}

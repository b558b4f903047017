package tenant

import (
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Servers with a dead letter, and those that halt or are paused, are in an index, so that who looks for the one among a million reads one row
// and not all servers. A row is written, blindly, in the commit that makes the trouble. It is removed by whoever reads it and
// finds that there is none any more, in a transaction that has all that would make some as a conflict; so what ends a trouble
// need not know of the index. Other trouble shows among what is looked at anyway: ready marks and what is parked.
//
// | dies | what is left |
// |---|---|
// | before the commit that makes the trouble | neither the trouble nor the row |
// | after the trouble's end | a row that the next reader removes |

// TroubleRow is the row of a server in the index.
func TroubleRow(r Ref) backend.Key { return backend.Key(nil).Str(KeyTrouble, r.Type, r.ID) }

// TroubleType is where the rows of a type's servers are.
func TroubleType(typ string) backend.Key { return backend.Key(nil).Str(KeyTrouble, typ) }

// setTrouble writes the row of the server whose keys these are.
func (t Keys) setTrouble(tx backend.Tx) {
	if rest, ok := t.Key.CutPrefix(backend.NewKey(KeyServer)); ok {
		tx.Set(backend.NewKey(KeyTrouble).Join(rest), nil)
	}
}

// ParseTrouble finds the server of a row. Its error is backend.ErrCorrupt.
func ParseTrouble(key backend.Key) (r Ref, err error) {
	elements, err := key.Elements()
	if err != nil {
		return r, err
	}
	if len(elements) == 3 {
		typ, isType := elements[1].(string)
		id, isID := elements[2].(string)
		if isType && isID {
			return Ref{typ, id}, nil
		}
	}
	return r, fmt.Errorf("%w: the row %v in the index of trouble", backend.ErrCorrupt, key)
}

// ClearTrouble removes the row of a server that has no trouble of its kinds.
func ClearTrouble(tx backend.Tx, r Ref) error {
	keys := KeysOf(r)
	value, err := tx.Get(keys.Dead()).Get()
	if err != nil {
		return err
	}
	letters, err := backend.Counter(value)
	if err != nil || letters != 0 {
		return err
	}
	for _, lane := range []queue.Lane{queue.Priority, queue.Normal} {
		if a, err := keys.ReadAttempts(tx, lane); err != nil || a.Halts {
			return err
		}
	}
	if l, err := ReadLock(tx, keys); err != nil || l.Record.Halted {
		return err
	}
	if p, err := keys.ReadPaused(tx); err != nil || p.Is() {
		return err
	}
	tx.Clear(TroubleRow(r).Only())
	return nil
}

package turn

import (
	"errors"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/statediff"
)

// WriteState writes a state as a turn would that nobody sent a message for: what changed from the committed rows to those that
// change asks for, under a new version, if the state still is of the version that was seen; zero is that there is none. Else it
// is tenant.ErrChanged. It conflicts with each turn that writes the state: turns have the version as a conflict, and those that
// recall (recall.go) the owner record, which it clears. A lock is no hindrance: what apply gets is the state of then.
//
// def is nil where the type is not known. It reports whether there was anything to write.
func WriteState(
	tx backend.Tx, ref tenant.Ref, def *Definition, seen backend.Versionstamp, change func(State) ([]statediff.Edit, error),
) (written bool, err error) {
	keys := tenant.KeysOf(ref)
	owner, pin, unreadable := tx.Get(keys.Owner()), tx.Get(keys.Pin()), tx.Get(keys.Unreadable())
	killed, err := keys.KilledAt(tx)
	if err != nil {
		return false, err
	}
	st, err := ReadWhole(tx, keys)
	switch {
	case err != nil:
		return false, err
	case !killed.IsZero():
		return false, tenant.Because(tenant.ErrChanged, "%v was killed, and is not buried yet", ref)
	case st.Version != seen:
		return false, tenant.Because(tenant.ErrChanged, "the state of %v is of version %v, and not of %v, which was seen", ref, st.Version, seen)
	case def != nil && st.Meta.Schema > def.Version:
		return false, tenant.Because(tenant.ErrState, "it was written by a newer version of the program, %d; this one is %d", st.Meta.Schema, def.Version)
	}
	edits, err := change(st)
	if err != nil || len(edits) == 0 && !st.Version.IsZero() {
		return false, err
	}
	isOwned, err := tenant.IsThere(owner)
	if err != nil {
		return false, err
	}
	pinned, err := pin.Get()
	if err != nil {
		return false, err
	}
	isUnreadable, err := tenant.IsThere(unreadable)
	if err != nil {
		return false, err
	}
	writeEdits(tx, keys.State(), edits)
	tx.Stamp(keys.Version())
	if isOwned {
		tx.Clear(keys.Owner().Only())
	}
	if isUnreadable {
		tx.Clear(keys.Unreadable().Only())
	}
	writeMeta(tx, keys, def, st.Meta, pinned != nil)
	tenant.SetReady(tx, ref) // a consumer that could not read the state looks again, and another one forgets the mark
	return true, nil
}

// writeMeta writes the record that stands beside a state, for one that is written without a turn.
func writeMeta(tx backend.Tx, keys tenant.Keys, def *Definition, m tenant.Meta, isPinned bool) {
	if def == nil || m.Created != 0 && m.Schema == def.Version {
		return
	}
	if m.Created == 0 {
		m.Created = time.Now().UnixMilli()
		if def.Settings.Label != "" && !isPinned { // it begins there
			keys.SetPin(tx, def.Settings.Label)
		}
	}
	m.Schema = def.Version
	tx.Set(keys.Meta(), tenant.EncodeRecord(m))
}

// Edits is what has to be written for value to be the state. It is a change of WriteState.
func (d *Definition) Edits(st State, value any) ([]statediff.Edit, error) {
	if d.Form == nil {
		return nil, errors.New("dserver: this handle does not know the type of the state: change it at a path")
	}
	return st.diff(d, value)
}

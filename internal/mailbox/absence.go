package mailbox

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// A call that nobody answers waits as long as its context, whatever the reason. When its time is over it asks whether
// anybody runs the type at all, since then that is the reason, and says so in its error. It is a guess by clocks that need
// not agree, so it is text and nothing more.
const (
	// presentFor is how long after its last beat a process counts as there: several beats, and some difference of clocks.
	presentFor = time.Minute

	AbsenceLimit = 200 * time.Millisecond // of the look, which comes after the call's own time
	absenceValid = time.Second            // of what it found, for other calls that end at that time

	// maxNamesBytes bounds the names of types, and the labels, in a process's record. One that has more tells none.
	maxNamesBytes = 8 << 10
)

// roster is the types that processes run, as they were seen a moment ago.
type roster struct {
	mu    sync.Mutex
	at    time.Time
	types map[string]bool
	known bool // by all of them
}

// Absence is what to add to the error of a call of a type: "" when somebody runs it, or nobody knows.
func (p *Process) Absence(typ string) string {
	if len(p.MembersOf(typ)) > 0 || !p.roster.lacks(typ, p.typesThatRun) {
		return ""
	}
	return fmt.Sprintf(" (no process that runs %q was seen: start one with dserver.Run, on this database)", typ)
}

// lacks reports whether it is known that nobody runs a type.
func (a *roster) lacks(typ string, look func(ctx context.Context) (types map[string]bool, known bool, err error)) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.at) > absenceValid {
		ctx, cancel := context.WithTimeout(context.Background(), AbsenceLimit)
		defer cancel()
		types, known, err := look(ctx)
		a.at, a.types, a.known = time.Now(), types, known && err == nil
	}
	return a.known && !a.types[typ]
}

// typesThatRun reads which types the processes run that are there. It does not know them all when one does not tell.
func (p *Process) typesThatRun(ctx context.Context) (types map[string]bool, known bool, err error) {
	err = p.db.Read(ctx, func(tx backend.ReadTx) error {
		types, known = map[string]bool{}, true
		return tenant.Children(tx, backend.NewKey(tenant.KeyProcess), func(id string) error {
			value, err := tx.Get(tenant.PresenceOf(id).Record()).Get()
			if err != nil || value == nil {
				return err
			}
			var r tenant.ProcessRecord
			if tenant.DecodeRecord(value, &r) != nil {
				known = false
				return nil
			}
			if !r.Consumes || time.Since(time.UnixMilli(r.Beat)) > presentFor {
				return nil
			}
			known = known && len(r.Types) > 0
			for _, typ := range r.Types {
				types[typ] = true
			}
			return nil
		})
	})
	return types, known, err
}

// typesRun is the types that consumers of this process run, and the labels that they list, for its record; nil when they are
// too many.
func (p *Process) typesRun() (types, labels []string) {
	for typ, a := range p.abilities() {
		types = append(types, typ)
		labels = append(labels, a.Labels...)
		if len(a.Labels) == 0 {
			labels = append(labels, "")
		}
	}
	slices.Sort(labels)
	if labels = slices.Compact(labels); len(labels) == 1 && labels[0] == "" {
		labels = nil
	}
	return told(types), told(labels)
}

// told is names in order; nil when they are too many for a record that is written with each beat.
func told(names []string) []string {
	bytes := 0
	for _, name := range names {
		bytes += len(name)
	}
	if bytes > maxNamesBytes {
		return nil
	}
	slices.Sort(names)
	return names
}

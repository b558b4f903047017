package mailbox

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// abilities is what all consumers of this process run, by type.
func (p *Process) abilities() map[string]tenant.Ability {
	all := map[string]tenant.Ability{}
	for typ, list := range *p.members.Load() {
		var a tenant.Ability
		for _, m := range list {
			own := m.Ability(typ)
			a.Schema = max(a.Schema, own.Schema)
			a.Messages = append(a.Messages, own.Messages...)
			a.Labels = append(a.Labels, own.Labels...)
			if len(own.Labels) == 0 {
				a.Labels = append(a.Labels, "")
			}
			a.Begins = own.Begins
		}
		slices.Sort(a.Messages)
		a.Messages = slices.Compact(a.Messages)
		slices.Sort(a.Labels)
		if a.Labels = slices.Compact(a.Labels); len(a.Labels) == 1 && a.Labels[0] == "" {
			a.Labels = nil
		}
		all[typ] = a
	}
	return all
}

// writeAbilities replaces what is stored of this process's abilities.
func (p *Process) writeAbilities(tx backend.Tx) error {
	keys := tenant.PresenceOf(p.ID)
	tx.Clear(keys.Abilities().Tree())
	for typ, a := range p.abilities() {
		if err := tenant.SetLarge(tx, keys.Ability(typ), tenant.EncodeRecord(a)); err != nil {
			return err
		}
	}
	return nil
}

// Introduce tells the others what this process runs, and that it lives. It is called when that has changed. Of two consumers that
// begin at once the second waits for the first: these writes are blind, and one that was prepared earlier and came later would
// take back what the other has told.
func (p *Process) Introduce(ctx context.Context) error {
	select {
	case p.tells <- struct{}{}:
		defer func() { <-p.tells }()
		return p.tell(ctx, true)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// StopPulse takes back the pulse of a process, and that it runs these types, where no other consumer of it does: who is next in
// the order of their servers watches for that.
func (p *Process) StopPulse(ctx context.Context, types iter.Seq[string]) error {
	select {
	case p.tells <- struct{}{}:
		defer func() { <-p.tells }()
	case <-ctx.Done():
		return ctx.Err()
	}
	keys := tenant.PresenceOf(p.ID)
	return p.db.Transact(ctx, func(tx backend.Tx) error {
		if p.HasMembers() {
			p.Beat(tx, false)
		} else {
			tx.Clear(keys.Pulse().Only())
		}
		for typ := range types {
			if len(p.MembersOf(typ)) == 0 {
				tx.Clear(keys.Ability(typ).Tree())
			}
		}
		return nil
	})
}

// Living leaves out the processes that are known to be dead. One that was never seen before counts as living.
func (w *Witness) Living(found []tenant.Able, now time.Time) []tenant.Able {
	return slices.DeleteFunc(found, func(a tenant.Able) bool { return w.Weigh(a.Process, a.Record, now) == Dead })
}

// staleAfter is how long ago the beat of a process may be, by its clock and ours, that is a peer before it was seen to beat.
const staleAfter = time.Minute

// peersAmong leaves out the processes that are probably dead: they were not seen to beat, and have not, as their records say, for
// long. A process that was killed stays recorded for minutes, so one that keeps being started and killed leaves many, which who
// begins would wait for. Clocks may differ, so that is enough for who is waited for, and for nothing else.
func (w *Witness) peersAmong(living []tenant.Able, now time.Time) []tenant.Able {
	return slices.DeleteFunc(slices.Clone(living), func(a tenant.Able) bool {
		var r tenant.ProcessRecord
		return w.Weigh(a.Process, a.Record, now) != Alive && tenant.DecodeRecord(a.Record, &r) == nil &&
			now.Sub(time.UnixMilli(r.Beat)) > staleAfter
	})
}

// crew is who runs a type, as it was read a moment ago.
type crew struct {
	at     time.Time
	living []tenant.Able
	peers  []tenant.Able // those of them that may be waited for
}

// crewMax is how long that is believed. What cannot be taken back is decided by a read of its own.
const crewMax = LookInterval / 2

// Crew is the living processes that run a type, as they were read a moment ago.
func (p *Process) Crew(ctx context.Context, typ string) ([]tenant.Able, error) {
	p.mu.Lock()
	known := p.crews[typ]
	p.mu.Unlock()
	if age := time.Since(known.at); age > crewMax || age < 0 {
		return p.ReadCrew(ctx, typ)
	}
	return known.living, nil
}

// ReadCrew is Crew as it is now.
func (p *Process) ReadCrew(ctx context.Context, typ string) ([]tenant.Able, error) {
	var found []tenant.Able
	err := p.db.Read(ctx, func(tx backend.ReadTx) (err error) {
		found, err = tenant.AblesOf(tx, typ)
		return err
	})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	p.Others.noteAbles(found, now)
	living := p.Others.Living(found, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.crews == nil {
		p.crews = map[string]crew{}
	}
	p.crews[typ] = crew{now, living, p.Others.peersAmong(living, now)}
	return living, nil
}

// noteAbles remembers the looks at the processes of a crew.
func (w *Witness) noteAbles(found []tenant.Able, now time.Time) {
	records := make(map[string][]byte, len(found))
	for _, a := range found {
		records[a.Process] = a.Record
	}
	w.Note(records, now)
}

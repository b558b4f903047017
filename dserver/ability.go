package dserver

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// ability is what the consumers of a process run of one type: beside its record, so that others know who can handle a
// message that they cannot. Its field names are part of the stored format.
type ability struct {
	Schema   int      `cbor:"schema"`   // the newest version of the state that they read
	Messages []string `cbor:"messages"` // those that have a handler, in order
}

// handles reports whether a message to a server whose state has this schema version can be handled.
func (a ability) handles(name string, schema int) bool {
	_, ok := slices.BinarySearch(a.Messages, name)
	return ok && schema <= a.Schema
}

// handles reports whether there is a handler for a message of the queue.
func (d *definition) handles(name string) bool {
	return d.handlers[name] != nil || d.locked[name] != nil
}

// reads reports whether a state of this schema version can be read; 0 is that of a server without one.
func (d *definition) reads(schema int) bool {
	_, upgrades := d.upgrades[schema]
	return schema == 0 || schema == d.version || schema < d.version && upgrades
}

// abilities is what all consumers of this process run, by type.
func (p *process) abilities() map[string]ability {
	all := map[string]ability{}
	for typ, list := range *p.consumers.Load() {
		var a ability
		for _, c := range list {
			def := c.types[typ].def
			a.Schema = max(a.Schema, def.version)
			a.Messages = slices.AppendSeq(a.Messages, maps.Keys(def.handlers))
			a.Messages = slices.AppendSeq(a.Messages, maps.Keys(def.locked))
		}
		slices.Sort(a.Messages)
		a.Messages = slices.Compact(a.Messages)
		all[typ] = a
	}
	return all
}

// writeAbilities replaces what is stored of this process's abilities.
func (p *process) writeAbilities(tx backend.Tx) error {
	keys := presenceOf(p.id)
	tx.Clear(keys.abilities().Tree())
	for typ, a := range p.abilities() {
		if err := setLarge(tx, keys.ability(typ), encodeRecord(a)); err != nil {
			return err
		}
	}
	return nil
}

// introduce tells the others what this process runs, and that it lives. It is called when that has changed.
func (p *process) introduce(ctx context.Context) error { return p.tell(ctx, true) }

// able is what one process runs of a type.
type able struct {
	process string
	record  []byte // nil when it has none
	ability
}

// ablesOf reads what all processes run of a type, as a snapshot.
func ablesOf(tx backend.Reader, typ string) (found []able, err error) {
	err = children(tx, backend.NewKey(keyProcess), func(id string) error {
		keys := presenceOf(id)
		row := largeRead{keys.ability(typ), tx.GetRange(keys.ability(typ).Tree(), backend.RangeOptions{Snapshot: true})}
		record := tx.GetRange(keys.record().Only(), backend.RangeOptions{Snapshot: true})
		value, err := row.get()
		if err != nil || value == nil {
			return err
		}
		pairs, err := record.Get()
		if err != nil {
			return err
		}
		a := able{process: id}
		if len(pairs) > 0 {
			a.record = pairs[0].Value
		}
		found = append(found, a)
		return decodeRecord(value, &found[len(found)-1].ability)
	})
	return found, err
}

// living leaves out the processes that are known to be dead. One that was never seen before counts as living.
func (w *witness) living(found []able, now time.Time) []able {
	return slices.DeleteFunc(found, func(a able) bool { return w.weigh(a.process, a.record, now) == dead })
}

// crew is who runs a type, as it was read a moment ago.
type crew struct {
	at     time.Time
	living []able
}

// crewMax is how long that is believed. What cannot be taken back is decided by a read of its own.
const crewMax = lookInterval / 2

// isHandled reports whether a living process has a handler for a message.
func (p *process) isHandled(ctx context.Context, typ, name string, schema int) (bool, error) {
	p.mu.Lock()
	known := p.crews[typ]
	p.mu.Unlock()
	if age := time.Since(known.at); age > crewMax || age < 0 {
		var found []able
		err := p.db.Read(ctx, func(tx backend.ReadTx) (err error) {
			found, err = ablesOf(tx, typ)
			return err
		})
		if err != nil {
			return false, err
		}
		known = crew{time.Now(), nil}
		p.others.noteAbles(found, known.at)
		known.living = p.others.living(found, known.at)
		p.mu.Lock()
		if p.crews == nil {
			p.crews = map[string]crew{}
		}
		p.crews[typ] = known
		p.mu.Unlock()
	}
	return isHandledBy(known.living, name, schema), nil
}

func isHandledBy(all []able, name string, schema int) bool {
	return slices.ContainsFunc(all, func(a able) bool { return a.handles(name, schema) })
}

// noteAbles remembers the looks at the processes of a crew.
func (w *witness) noteAbles(found []able, now time.Time) {
	records := make(map[string][]byte, len(found))
	for _, a := range found {
		records[a.process] = a.record
	}
	w.note(records, now)
}

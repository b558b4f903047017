package console

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// What a reading of the whole database looks at, at most. No part of it reads all servers.
const (
	maxTypes     = 200
	maxLooked    = 1000 // servers that are in trouble or have something to do
	maxConsumers = 500
)

// reading is the whole database at a time, as far as it is looked at.
type reading struct {
	at        time.Time
	types     []typeReading
	troubles  []troubled // the most urgent first
	consumers []dserver.Presence
	handled   map[string]float64 // messages in a second, by type; nil when that is not known
	moreTypes bool
	more      bool // there are more servers with something to do than were looked at
}

// typeReading is what was found of a type.
type typeReading struct {
	name    string
	backlog dserver.Backlog
	dead    int64 // of the servers that were looked at
	trouble int   // servers
}

// troubled is a server that needs a person.
type troubled struct {
	ref      dserver.Ref
	status   dserver.Status
	troubles []display.Trouble
}

// oldest is since when the oldest message waits; zero when that is not known of any.
func (r *reading) oldest() (oldest time.Time) {
	for _, t := range r.types {
		if at := t.backlog.Oldest; !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	return oldest
}

func (r *reading) queued() (n int64) {
	for _, t := range r.types {
		n += t.backlog.Queued
	}
	return n
}

// perSecond is how many messages are handled in a second.
func (r *reading) perSecond() (n float64) {
	for _, of := range r.handled {
		n += of
	}
	return n
}

func (r *reading) dead() (n int64) {
	for _, t := range r.types {
		n += t.dead
	}
	return n
}

// reader reads the database for all who look at all of it: once in a while, and not at all when nobody asks.
type reader struct {
	db      backend.Database
	history *history

	lead  chan struct{} // has room for one, who reads
	rates rates         // who reads has them
	mu    sync.Mutex
	last  *reading
	until time.Time // the last one serves
}

func newReader(db backend.Database) *reader {
	return &reader{db: db, history: newHistory(), lead: make(chan struct{}, 1)}
}

// keepInterval is from one reading to the next for the charts alone.
const keepInterval = 10 * time.Second

// keep reads for the charts until ctx ends.
func (r *reader) keep(ctx context.Context) {
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	for {
		_, _ = r.read(ctx) // who looks is told of errors; a chart has a gap
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// read is the database as it was a second ago, or is now. Of those that ask at once one reads.
func (r *reader) read(ctx context.Context) (*reading, error) {
	if last := r.fresh(); last != nil {
		return last, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r.lead <- struct{}{}:
		defer func() { <-r.lead }()
	}
	if last := r.fresh(); last != nil {
		return last, nil
	}
	began := time.Now()
	found, err := look(ctx, r.db)
	if err != nil {
		return nil, err
	}
	found.handled = r.rates.see(found.at, found.consumers)
	r.history.add(found)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.until = found, time.Now().Add(max(pace, paceFactor*time.Since(began))-pace/10) // a tenth, so that a look each second finds a new one
	return found, nil
}

func (r *reader) fresh() *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().Before(r.until) {
		return r.last
	}
	return nil
}

// look reads.
func look(ctx context.Context, db backend.Database) (*reading, error) {
	r := &reading{at: time.Now()}
	for name, err := range dserver.Types(ctx, db) {
		if err != nil {
			return nil, err
		}
		if r.moreTypes = len(r.types) == maxTypes; r.moreTypes {
			break
		}
		backlog, err := dserver.BacklogOf(ctx, db, name)
		if err != nil {
			return nil, err
		}
		r.types = append(r.types, typeReading{name: name, backlog: backlog})
	}
	if err := r.lookForTrouble(ctx, db); err != nil {
		return nil, err
	}
	for p, err := range dserver.Consumers(ctx, db) {
		if err != nil {
			return nil, err
		}
		if len(r.consumers) == maxConsumers {
			break
		}
		r.consumers = append(r.consumers, p)
	}
	slices.SortStableFunc(r.consumers, func(a, b dserver.Presence) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID), cmp.Compare(a.Process, b.Process))
	})
	return r, nil
}

// lookForTrouble looks at servers that are in trouble or have something to do: those in the index of trouble come first.
func (r *reading) lookForTrouble(ctx context.Context, db backend.Database) error {
	looked := 0
	for found, err := range dserver.Active(ctx, db) {
		if err != nil {
			return err
		}
		if r.more = looked == maxLooked; r.more {
			break
		}
		looked++
		troubles := display.Troubles(found.Status)
		if len(troubles) == 0 {
			continue
		}
		r.troubles = append(r.troubles, troubled{found.Ref, found.Status, troubles})
		i, isListed := slices.BinarySearchFunc(r.types, found.Ref.Type, func(t typeReading, name string) int { return cmp.Compare(t.name, name) })
		if isListed {
			r.types[i].trouble++
			r.types[i].dead += found.Status.DeadLetters
		}
	}
	slices.SortStableFunc(r.troubles, func(a, b troubled) int {
		return cmp.Or(cmp.Compare(b.troubles[0].Urgency, a.troubles[0].Urgency), cmp.Compare(a.ref.Type, b.ref.Type), cmp.Compare(a.ref.ID, b.ref.ID))
	})
	return nil
}

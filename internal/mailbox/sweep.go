package mailbox

import (
	"bytes"
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Attend keeps the record of a process that runs a consumer, and removes what dead processes left: records that did not
// change for long, with the answers that nobody will read. No clock but this process's own is compared, and looks that
// are far apart prove nothing (witness.go). It says after each look whether the record of a consumer that vanished is there.
func (p *Process) Attend(ctx context.Context, log zerolog.Logger, vanished func(bool)) {
	introduced := false
	for ctx.Err() == nil {
		wait := Jittered(p.Others.Interval())
		if err := p.attendOnce(ctx, log, vanished, &introduced); err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Msg("the process's record was not kept")
			wait = min(wait, Jittered(RetryInterval)) // others may take it for dead
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (p *Process) attendOnce(ctx context.Context, log zerolog.Logger, vanished func(bool), introduced *bool) error {
	if !*introduced {
		if err := p.Introduce(ctx); err != nil {
			return err
		}
		*introduced = true
	} else if err := p.BeatAlways(ctx); err != nil {
		return err
	}
	return p.sweepOnce(ctx, log, vanished, time.Now())
}

func (p *Process) sweepOnce(ctx context.Context, log zerolog.Logger, tell func(vanished bool), now time.Time) error {
	found := map[string][]byte{}
	err := p.db.Read(ctx, func(tx backend.ReadTx) error {
		clear(found)
		return tenant.Children(tx, backend.NewKey(tenant.KeyProcess), func(id string) error {
			record, err := tx.Get(tenant.PresenceOf(id).Record()).Get()
			found[id] = record
			return err
		})
	})
	if err != nil {
		return err
	}
	p.compareClocks(found, now, log)
	p.see(found, now)
	p.Others.noteAll(found, now)
	vanished := false
	defer func() { tell(vanished) }()
	for id, record := range found {
		if id == p.ID {
			continue
		}
		s, life := p.Others.of(id)
		vanished = vanished || life == Dead && tenant.IsConsumer(record)
		if record == nil && s.still() > 0 || s.still() > sweepAfter {
			if err := p.remove(ctx, id, record); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove clears a process if it still is as it was seen.
func (p *Process) remove(ctx context.Context, id string, seen []byte) error {
	keys := tenant.PresenceOf(id)
	if tenant.IsConsumer(seen) { // before its record, or nobody would come back for them
		if err := p.dropClaims(ctx, id); err != nil {
			return err
		}
	}
	return p.db.Transact(ctx, func(tx backend.Tx) error {
		record, err := tx.Get(keys.Record()).Get()
		if err != nil || !bytes.Equal(record, seen) {
			return err
		}
		tx.Clear(keys.Key.Below())
		return nil
	})
}

// seenMax is how long a record that was seen is believed to be there. It is not removed for much longer, and an answer to
// a process that was removed all the same is swept like any other.
const seenMax = 3 * ConsumerBeat

// see remembers which processes have a record.
func (p *Process) see(found map[string][]byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = make(map[string]time.Time, len(found))
	for id, record := range found {
		if record != nil {
			p.seen[id] = now
		}
	}
}

// Saw remembers the processes whose record was read for an answer.
func (p *Process) Saw(out tenant.Outbox) {
	for id := range out {
		if p.HasSeen(id) {
			continue // and not read
		}
		p.mu.Lock()
		if p.seen != nil {
			p.seen[id] = time.Now()
		}
		p.mu.Unlock()
	}
}

// HasSeen reports whether another process had a record a moment ago: its answers need no read of it.
func (p *Process) HasSeen(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.seen[id]
	return ok && time.Since(at) < seenMax
}

// dropClaims removes the claims of a process that is gone.
func (p *Process) dropClaims(ctx context.Context, id string) error {
	all := backend.NewKey(tenant.KeyReady)
	for rest := all.Below(); ; {
		var pairs []backend.KeyValue
		err := p.db.Read(ctx, func(tx backend.ReadTx) (err error) {
			pairs, err = tx.GetRange(rest, backend.RangeOptions{Limit: tenant.MaxScan}).Get()
			return err
		})
		if err != nil {
			return err
		}
		var theirs []backend.Key
		for _, pair := range pairs {
			if _, claimant, ok := tenant.ClaimOf(pair.Key); ok && claimant == id {
				theirs = append(theirs, pair.Key)
			}
		}
		if err := p.clearClaims(ctx, theirs); err != nil {
			return err
		}
		if len(pairs) < tenant.MaxScan {
			return nil
		}
		rest = rest.After(pairs[len(pairs)-1].Key)
	}
}

func (p *Process) clearClaims(ctx context.Context, keys []backend.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return p.db.Transact(ctx, func(tx backend.Tx) error {
		for _, key := range keys {
			tx.Clear(key.Only())
		}
		return nil
	})
}

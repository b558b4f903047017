package dserver

import (
	"bytes"
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// attend keeps the record of a process that runs a consumer, and removes what dead processes left: records that did not
// change for long, with the answers that nobody will read. No clock but this process's own is compared, and looks that
// are far apart prove nothing (witness.go).
func (p *process) attend(ctx context.Context, c *consumer) {
	introduced := false
	for ctx.Err() == nil {
		wait := jittered(p.others.interval())
		if err := p.attendOnce(ctx, c, &introduced); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("the process's record was not kept")
			wait = min(wait, jittered(retryInterval)) // others may take it for dead
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (p *process) attendOnce(ctx context.Context, c *consumer, introduced *bool) error {
	if !*introduced {
		if err := p.introduce(ctx); err != nil {
			return err
		}
		*introduced = true
	} else if err := p.beatAlways(ctx); err != nil {
		return err
	}
	return p.sweepOnce(ctx, c, time.Now())
}

func (p *process) sweepOnce(ctx context.Context, c *consumer, now time.Time) error {
	found := map[string][]byte{}
	err := p.db.Read(ctx, func(tx backend.ReadTx) error {
		clear(found)
		return children(tx, backend.NewKey(keyProcess), func(id string) error {
			record, err := tx.Get(presenceOf(id).record()).Get()
			found[id] = record
			return err
		})
	})
	if err != nil {
		return err
	}
	p.see(found, now)
	p.others.noteAll(found, now)
	vanished := false
	defer func() { c.caution.vanished.Store(vanished) }()
	for id, record := range found {
		if id == p.id {
			continue
		}
		s, life := p.others.of(id)
		vanished = vanished || life == dead && isConsumer(record)
		if record == nil && s.still() > 0 || s.still() > sweepAfter {
			if err := p.remove(ctx, id, record); err != nil {
				return err
			}
		}
	}
	return nil
}

// isConsumer reports whether a record says that its process runs consumers.
func isConsumer(value []byte) bool {
	var r record
	return decodeRecord(value, &r) == nil && r.Consumes
}

// remove clears a process if it still is as it was seen.
func (p *process) remove(ctx context.Context, id string, seen []byte) error {
	keys := presenceOf(id)
	if isConsumer(seen) { // before its record, or nobody would come back for them
		if err := p.dropClaims(ctx, id); err != nil {
			return err
		}
	}
	return p.db.Transact(ctx, func(tx backend.Tx) error {
		record, err := tx.Get(keys.record()).Get()
		if err != nil || !bytes.Equal(record, seen) {
			return err
		}
		tx.Clear(keys.key.Below())
		return nil
	})
}

// seenMax is how long a record that was seen is believed to be there. It is not removed for much longer, and an answer to
// a process that was removed all the same is swept like any other.
const seenMax = 3 * consumerBeat

// see remembers which processes have a record.
func (p *process) see(found map[string][]byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = make(map[string]time.Time, len(found))
	for id, record := range found {
		if record != nil {
			p.seen[id] = now
		}
	}
}

// saw remembers the processes whose record was read for an answer.
func (p *process) saw(out outbox) {
	for id := range out {
		if p.hasSeen(id) {
			continue // and not read
		}
		p.mu.Lock()
		if p.seen != nil {
			p.seen[id] = time.Now()
		}
		p.mu.Unlock()
	}
}

// hasSeen reports whether another process had a record a moment ago: its answers need no read of it.
func (p *process) hasSeen(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.seen[id]
	return ok && time.Since(at) < seenMax
}

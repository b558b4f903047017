package dserver

import (
	"bytes"
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// sighting is a process record as it was first seen unchanged, by this process's clock.
type sighting struct {
	record []byte
	since  time.Time
}

// sweep removes what dead processes left: records that did not change for long, with the answers that nobody will
// read. No clock but this process's own is compared.
func (p *process) sweep(ctx context.Context, c *consumer) {
	seen := map[string]sighting{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered(beatInterval)):
		}
		if err := p.sweepOnce(ctx, seen, time.Now()); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("dead processes were not swept")
		}
	}
}

func (p *process) sweepOnce(ctx context.Context, seen map[string]sighting, now time.Time) error {
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
	for id := range seen {
		if _, ok := found[id]; !ok {
			delete(seen, id)
		}
	}
	for id, record := range found {
		s, ok := seen[id]
		if !ok || !bytes.Equal(s.record, record) {
			seen[id] = sighting{record, now}
			continue
		}
		if id != p.id && (record == nil || now.Sub(s.since) > sweepAfter) {
			if err := p.remove(ctx, id, record); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove clears a process if it still is as it was seen.
func (p *process) remove(ctx context.Context, id string, seen []byte) error {
	keys := presenceOf(id)
	return p.db.Transact(ctx, func(tx backend.Tx) error {
		record, err := tx.Get(keys.record()).Get()
		if err != nil || !bytes.Equal(record, seen) {
			return err
		}
		tx.Clear(keys.key.Below())
		return nil
	})
}

package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// maxDue is how many rows are moved in one transaction. Their messages may be large, so it is tried in halves when they
// are too large together.
const maxDue = 64

// move moves what is due of one shard until ctx ends.
func (c *consumer) move(ctx context.Context, typ string, shard int64) {
	for ctx.Err() == nil {
		wait, watch, err := c.moveDue(ctx, typ, shard)
		if err != nil {
			c.scanFailed(ctx, err)
			continue
		}
		c.pause(ctx, watch, wait)
	}
}

// moveDue moves all that is due, and says how long the next row has to wait and what to watch for an earlier one.
func (c *consumer) moveDue(ctx context.Context, typ string, shard int64) (time.Duration, backend.Watch, error) {
	rows := tenant.DueShard(typ, shard)
	for {
		var first backend.Key
		var at int64
		var watch backend.Watch
		err := c.DB.Read(ctx, func(tx backend.ReadTx) (err error) {
			watch = tx.Watch(tenant.DueBell(typ, shard))
			first, at, err = c.firstDue(tx, rows)
			return err
		})
		if err != nil {
			return 0, nil, fmt.Errorf("dserver: read what is due: %w", err)
		}
		if first == nil {
			return mailbox.Jittered(mailbox.LookInterval), watch, nil
		}
		if wait := time.Until(time.UnixMilli(at)); wait > 0 {
			return min(wait, mailbox.Jittered(mailbox.LookInterval)), watch, nil
		}
		watch.Cancel()
		if err := c.moveRows(ctx, typ, rows, first); err != nil {
			return 0, nil, err
		}
	}
}

// firstDue finds the first row of a shard that is not damaged, and when it is due. It is nil when there is none.
func (c *consumer) firstDue(tx backend.Reader, rows backend.Key) (first backend.Key, at int64, err error) {
	for rest := rows.Below(); ; {
		pairs, err := tx.GetRange(rest, backend.RangeOptions{Limit: 1}).Get()
		if err != nil || len(pairs) == 0 {
			return nil, 0, err
		}
		key := pairs[0].Key
		_, d, damage := tenant.ParseDue(rows, key)
		if damage != nil {
			c.noteDamage(key, damage)
		} else if !c.isDamaged(key) {
			return key, d.At, nil
		}
		rest = rest.After(key)
	}
}

// moveRows moves the first rows that are due, in as many transactions as their size asks for.
func (c *consumer) moveRows(ctx context.Context, typ string, rows, from backend.Key) error {
	limit := maxDue
	for {
		var moved movedRows
		err := c.DB.Transact(ctx, func(tx backend.Tx) (err error) {
			moved, err = c.moveSome(tx, typ, rows, from, limit)
			return err
		})
		if turn.IsTooMuch(err) && limit > 1 {
			limit /= 2
			continue
		}
		if err != nil {
			return fmt.Errorf("dserver: move what is due: %w", err)
		}
		for key, damage := range moved.damaged {
			c.noteDamage(backend.Key(key), damage)
		}
		for _, ref := range moved.woken {
			c.Process.Wake(ref)
		}
		return nil
	}
}

// movedRows is what came of moving rows.
type movedRows struct {
	woken   []tenant.Ref
	damaged map[string]error // rows that stay, by their key
}

// moveSome does the work of at most limit rows that are due. Another consumer that moves one of them conflicts.
func (c *consumer) moveSome(tx backend.Tx, typ string, rows, from backend.Key, limit int) (movedRows, error) {
	moved := movedRows{damaged: map[string]error{}}
	until := backend.Range{Begin: from, End: rows.Int(time.Now().UnixMilli() + 1)}
	pairs, err := tx.GetRange(until, backend.RangeOptions{Limit: limit}).Get()
	if err != nil {
		return moved, err
	}
	var found []*tenant.DueWork
	for _, pair := range pairs {
		id, d, err := tenant.ParseDue(rows, pair.Key)
		if err != nil || c.isDamaged(pair.Key) {
			continue
		}
		w := &tenant.DueWork{Due: d, Ref: tenant.Ref{Type: typ, ID: id}}
		w.Look(tx)
		found = append(found, w)
	}
	for _, w := range found { // all reads come before the first write
		w.Value, w.Err = w.Get()
	}
	for _, w := range found {
		err := w.Err
		if err == nil {
			err = w.Do(tx)
		}
		switch {
		case errors.Is(err, backend.ErrCorrupt):
			moved.damaged[string(w.Key(w.Ref))] = err
			continue
		case err != nil:
			return moved, err
		}
		tenant.ClearDue(tx, w.Ref, w.Due)
		if w.Kind != tenant.DueOnce {
			moved.woken = append(moved.woken, w.Ref)
		}
	}
	return moved, nil
}

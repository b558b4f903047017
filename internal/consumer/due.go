package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// maxDue is how many rows are moved in one transaction. Their messages may be large, so it is tried in halves when they
// are too large together.
const maxDue = 64

// move moves what is due of one shard until ctx ends.
func (c *consumer) move(ctx context.Context, shard int64) {
	var noise noise
	var first backend.Key
	for ctx.Err() == nil {
		next, err := c.moveDue(ctx, shard)
		if err != nil {
			c.scanFailed(ctx, err)
			continue
		}
		isEarlier := next.first.Compare(first) != 0
		if first = next.first; c.pause(ctx, look{watch: next.watch, again: c.posts[shard].due}, next.wait) {
			sleep(ctx, noise.after(isEarlier))
		}
	}
}

// nextDue is what there is to wait for when all that is due of a shard was moved.
type nextDue struct {
	first backend.Key   // the row that is due next; nil when there is none
	wait  time.Duration // until then; zero when there is none
	watch backend.Watch // for an earlier one
}

// moveDue moves all that is due.
func (c *consumer) moveDue(ctx context.Context, shard int64) (next nextDue, err error) {
	rows := tenant.DueShard(shard)
	for {
		var at int64
		err := c.DB.Read(ctx, func(tx backend.ReadTx) (err error) {
			next.watch = tx.Watch(tenant.DueBell(shard))
			next.first, at, err = c.firstDue(tx, rows)
			return err
		})
		if err != nil {
			return nextDue{}, fmt.Errorf("dserver: read what is due: %w", err)
		}
		if next.first == nil {
			return next, nil
		}
		if next.wait = time.Until(time.UnixMilli(at)); next.wait > 0 { // by a clock that may be set anew: patrol has it read again
			return next, nil
		}
		next.watch.Cancel()
		if err := c.moveRows(ctx, rows, next.first); err != nil {
			return nextDue{}, err
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
func (c *consumer) moveRows(ctx context.Context, rows, from backend.Key) error {
	limit := maxDue
	for {
		var moved movedRows
		err := c.DB.Transact(ctx, func(tx backend.Tx) (err error) {
			backend.CommitAsync(tx) // what is lost is moved again
			moved, err = c.moveSome(tx, rows, from, limit)
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
func (c *consumer) moveSome(tx backend.Tx, rows, from backend.Key, limit int) (movedRows, error) {
	moved := movedRows{damaged: map[string]error{}}
	until := backend.Range{Begin: from, End: rows.Int(time.Now().UnixMilli() + 1)}
	pairs, err := tx.GetRange(until, backend.RangeOptions{Limit: limit}).Get()
	if err != nil {
		return moved, err
	}
	var found []*tenant.DueWork
	for _, pair := range pairs {
		ref, d, err := tenant.ParseDue(rows, pair.Key)
		if err != nil || c.isDamaged(pair.Key) {
			continue
		}
		w := &tenant.DueWork{Due: d, Ref: ref}
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

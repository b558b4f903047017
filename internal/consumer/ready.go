package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Finding work. Whoever gives a server something to do sets its ready mark and rings the bell of its shard, in that
// same commit. A consumer watches the bells, a fixed number for each type, and reads the marks of a shard when its bell
// rang: idle servers cost nothing. A mark is cleared only by a transaction for which a push meanwhile is a conflict: one that
// has read that the queue is empty (confirmEmpty, and the end of a killed server), or one that parks the server. So no message
// is without a mark, or a row among those that are parked (parked.go), but where a server has halted; and no wait rests on a
// watch alone.

// scan looks for ready servers of one shard until ctx ends.
func (c *consumer) scan(ctx context.Context, typ string, shard int64) {
	var next time.Time // of the looks at those that wait
	b := &bystander{c: c, typ: typ, shard: shard}
	for ctx.Err() == nil {
		b.begin()
		watch, err := c.scanOnce(ctx, typ, shard, b.standsBy)
		if began := time.Now(); err == nil && !began.Before(next) {
			if err = c.scanParked(ctx, typ, shard); err != nil {
				watch.Cancel()
			}
			next = time.Now().Add(max(mailbox.Jittered(mailbox.LookInterval), parkedShare*time.Since(began)))
		}
		if err != nil {
			c.scanFailed(ctx, err)
			continue
		}
		if soon := b.end(); soon > 0 { // the bell may ring all the time, and not for this consumer
			watch.Cancel()
			sleep(ctx, soon)
			continue
		}
		if c.pause(ctx, watch, min(mailbox.Jittered(mailbox.LookInterval), time.Until(next))) {
			c.guess(typ, shard)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// guess lets the server of a shard whose queue was emptied last look at once, when the bell rings while it lingers: its
// sender may have the answer, and send again. So that message does not wait until the marks are read.
func (c *consumer) guess(typ string, shard int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.types[typ]
	if s := t.servers[t.emptied[shard]]; s != nil && s.marked && !c.closing {
		s.look = true
		c.schedule(s)
	}
}

// noteEmptied makes a server the guess of its shard.
func (c *consumer) noteEmptied(ref tenant.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.types[ref.Type].emptied[tenant.ShardOf(ref.ID)] = ref.ID
}

func (c *consumer) scanFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.log.Error().Err(err).Msg("the ready servers cannot be read")
	c.fail(err)
	select {
	case <-ctx.Done():
	case <-time.After(mailbox.RetryInterval):
	}
}

// scanOnce wakes all ready servers of a shard, but those that are left to a peer, and returns a watch on its bell, from the
// snapshot of the first read.
func (c *consumer) scanOnce(ctx context.Context, typ string, shard int64, leaves leaves) (watch backend.Watch, err error) {
	marks := tenant.ReadyShard(typ, shard)
	defer func() {
		if err != nil && watch != nil {
			watch.Cancel()
		}
	}()
	err = c.eachKey(ctx, marks, func(tx backend.ReadTx) { watch = tx.Watch(tenant.Bell(typ, shard)) }, func(key backend.Key) error {
		return c.wakeMarked(ctx, typ, marks, key, leaves)
	})
	return watch, err
}

// eachKey calls fn with each key below a prefix, in pages, the first of which begins with begin, unless that is nil. Keys
// that fn finds damaged are left alone.
func (c *consumer) eachKey(ctx context.Context, prefix backend.Key, begin func(tx backend.ReadTx), fn func(backend.Key) error) error {
	for rest := prefix.Below(); ; {
		var pairs []backend.KeyValue
		err := c.DB.Read(ctx, func(tx backend.ReadTx) (err error) {
			if begin != nil {
				begin(tx)
			}
			pairs, err = tx.GetRange(rest, backend.RangeOptions{Limit: tenant.MaxScan}).Get()
			return err
		})
		if err != nil {
			return fmt.Errorf("dserver: look for servers that have something to do: %w", err)
		}
		begin = nil
		for _, pair := range pairs {
			err := fn(pair.Key)
			if errors.Is(err, backend.ErrCorrupt) {
				c.noteDamage(pair.Key, err)
			} else if err != nil {
				return err
			}
		}
		if len(pairs) < tenant.MaxScan {
			return nil
		}
		rest = rest.After(pairs[len(pairs)-1].Key)
	}
}

// leaves reports whether a marked server is left to a peer for now (standby.go).
type leaves func(ctx context.Context, id string) (bool, error)

// wakeMarked gives a marked server to the workers, when there is room.
func (c *consumer) wakeMarked(ctx context.Context, typ string, marks, key backend.Key, leaves leaves) error {
	id, isMark, err := tenant.ParseMark(marks, key)
	if err != nil || !isMark {
		return err
	}
	if isLeft, err := leaves(ctx, id); err != nil || isLeft {
		return err
	}
	if err := c.awaitRoom(ctx, typ); err != nil {
		return err
	}
	c.Wake(tenant.Ref{Type: typ, ID: id})
	return nil
}

// Why a mark is not cleared: a message came meanwhile, or one that came and was taken locked the server.
var (
	errNotEmpty = errors.New("dserver: the queue is not empty")
	errLocked   = errors.New("dserver: the server is locked")
)

// confirmEmpty clears what leads consumers to a server whose queue is empty and that is not locked: the ready mark, the
// claims, and the row of those that wait (parked.go). Otherwise it makes the server looked at. The mark of a locked server,
// or its row, is what leads others to it when the holder dies; the end of locked work that runs here makes us look by
// itself. Of a server without a state the queue's counters go as well, which would be all that is left of it.
func (t *visit) confirmEmpty() error {
	c, ref, keys, label := t.c, t.Ref, t.Keys, t.Label()
	err := c.DB.Transact(c.Base, func(tx backend.Tx) error {
		fence, version := tx.Get(keys.Fence()), tx.Get(keys.Version())
		empty, err := keys.Queue().IsEmpty(tx)
		if err != nil {
			return err
		}
		locked, err := fence.Get()
		if err != nil {
			return err
		}
		state, err := version.Get()
		if err != nil {
			return err
		}
		if !empty {
			return errNotEmpty
		}
		if locked != nil {
			return errLocked
		}
		tenant.ClearReady(tx, ref)
		if label != "" {
			tx.Clear(tenant.LabelRow(label, ref).Only())
		}
		if t.hasRow() { // which need not be that of its label
			t.clearRows(tx)
		}
		if state == nil {
			keys.ForgetQueue(tx)
		}
		return nil
	})
	if err == nil {
		c.caution.claims.Delete(ref)
		t.forgetRow(true)
	}
	switch {
	case errors.Is(err, errNotEmpty):
		c.Wake(ref)
	case errors.Is(err, errLocked):
		if !c.locks.IsHolding(ref) {
			c.Wake(ref)
		}
	default:
		return err
	}
	return nil
}

// pause waits for a watch, a time and ctx, whichever comes first, and reports whether it was the watch.
func (c *consumer) pause(ctx context.Context, watch backend.Watch, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	defer watch.Cancel()
	c.watches.Add(1)
	defer c.watches.Add(-1)
	select {
	case <-watch.Done():
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// noteDamage notes a damaged row, and logs it the first time.
func (c *consumer) noteDamage(key backend.Key, damage error) {
	if _, known := c.damaged.LoadOrStore(string(key), nil); !known {
		c.log.Error().Err(damage).Stringer(logs.Key, key).Msg("a damaged row is left alone")
	}
}

func (c *consumer) isDamaged(key backend.Key) bool {
	_, damaged := c.damaged.Load(string(key))
	return damaged
}

package dserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Finding work. Whoever gives a server something to do sets its ready mark and rings the bell of its shard, in that
// same commit. A consumer watches the bells, a fixed number for each type, and reads the marks of a shard when its bell
// rang: idle servers cost nothing. A mark is cleared by one transaction only, which has read that the queue is empty in
// such a way that a push meanwhile is a conflict. So no message is without a mark, and no wait rests on a watch alone.

// maxScan is how many marks are read at once.
const maxScan = 1000

// scan looks for ready servers of one shard until ctx ends.
func (c *consumer) scan(ctx context.Context, typ string, shard int64) {
	var next time.Time // of the looks at those that wait
	for ctx.Err() == nil {
		watch, err := c.scanOnce(ctx, typ, shard)
		if began := time.Now(); err == nil && !began.Before(next) {
			if err = c.scanParked(ctx, typ, shard); err != nil {
				watch.Cancel()
			}
			next = time.Now().Add(max(jittered(lookInterval), parkedShare*time.Since(began)))
		}
		if err != nil {
			c.scanFailed(ctx, err)
			continue
		}
		if c.pause(ctx, watch, min(jittered(lookInterval), time.Until(next))) {
			c.guess(typ, shard)
		}
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
func (c *consumer) noteEmptied(ref Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.types[ref.Type].emptied[shardOf(ref.ID)] = ref.ID
}

func (c *consumer) scanFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.log.Error().Err(err).Msg("the ready servers cannot be read")
	c.fail(err)
	select {
	case <-ctx.Done():
	case <-time.After(retryInterval):
	}
}

// scanOnce wakes all ready servers of a shard and returns a watch on its bell, from the snapshot of the first read.
func (c *consumer) scanOnce(ctx context.Context, typ string, shard int64) (watch backend.Watch, err error) {
	marks := readyShard(typ, shard)
	defer func() {
		if err != nil && watch != nil {
			watch.Cancel()
		}
	}()
	err = c.eachKey(ctx, marks, func(tx backend.ReadTx) { watch = tx.Watch(bell(typ, shard)) }, func(key backend.Key) error {
		return c.wakeMarked(ctx, typ, marks, key)
	})
	return watch, err
}

// eachKey calls fn with each key below a prefix, in pages, the first of which begins with begin, unless that is nil. Keys
// that fn finds damaged are left alone.
func (c *consumer) eachKey(ctx context.Context, prefix backend.Key, begin func(tx backend.ReadTx), fn func(backend.Key) error) error {
	for rest := prefix.Below(); ; {
		var pairs []backend.KeyValue
		err := c.db.Read(ctx, func(tx backend.ReadTx) (err error) {
			if begin != nil {
				begin(tx)
			}
			pairs, err = tx.GetRange(rest, backend.RangeOptions{Limit: maxScan}).Get()
			return err
		})
		if err != nil {
			return fmt.Errorf("dserver: look for servers that have something to do: %w", err)
		}
		begin = nil
		for _, pair := range pairs {
			err := fn(pair.Key)
			if errors.Is(err, backend.ErrCorrupt) {
				c.leaveAlone(pair.Key, err)
			} else if err != nil {
				return err
			}
		}
		if len(pairs) < maxScan {
			return nil
		}
		rest = rest.After(pairs[len(pairs)-1].Key)
	}
}

// wakeMarked gives a marked server to the workers, when there is room.
func (c *consumer) wakeMarked(ctx context.Context, typ string, marks, key backend.Key) error {
	rest, _ := key.CutPrefix(marks)
	elements, err := rest.Elements()
	if err != nil {
		return err
	}
	if len(elements) > 1 && elements[1] == keyClaim {
		return nil
	}
	if len(elements) != 2 || elements[1] != keyMark {
		return fmt.Errorf("%w: the ready mark %v", backend.ErrCorrupt, key)
	}
	id, ok := elements[0].(string)
	if !ok {
		return fmt.Errorf("%w: the ready mark %v", backend.ErrCorrupt, key)
	}
	if err := c.awaitRoom(ctx); err != nil {
		return err
	}
	c.wake(Ref{typ, id})
	return nil
}

// awaitRoom waits until another server may be woken.
func (c *consumer) awaitRoom(ctx context.Context) error {
	for !c.hasRoom() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.room:
		}
	}
	return nil
}

func (c *consumer) hasRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runnable.len < maxRunnable
}

// Why a mark is not cleared: a message came meanwhile, or one that came and was taken locked the server.
var (
	errNotEmpty = errors.New("dserver: the queue is not empty")
	errLocked   = errors.New("dserver: the server is locked")
)

// confirmEmpty clears the ready mark, the claims and the row of those that wait (parked.go) of a server whose queue is empty and that is not locked, and makes it
// looked at otherwise: the mark of a locked server, or its row, is what leads others to it when the holder dies. The end of locked
// work that runs here makes us look by itself. Of a server without a state the queue's counters go as well, which
// would be all that is left of it.
func (c *consumer) confirmEmpty(ref Ref, keys tenant) error {
	err := c.db.Transact(c.base, func(tx backend.Tx) error {
		fence, version := tx.Get(keys.fence()), tx.Get(keys.version())
		empty, err := keys.queue().IsEmpty(tx)
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
		clearReady(tx, ref)
		if state == nil {
			tx.Clear(keys.key.Str(keyQueue).Tree())
		}
		return nil
	})
	if err == nil {
		c.caution.claims.Delete(ref)
	}
	switch {
	case errors.Is(err, errNotEmpty):
		c.wake(ref)
	case errors.Is(err, errLocked):
		if !c.isHolding(ref) {
			c.wake(ref)
		}
	default:
		return err
	}
	return nil
}

package dserver

import (
	"context"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// The index of what is due: timers, messages sent with After, and idempotency keys that expire. Each type has a few
// shards of rows, in the order of their time. A consumer sleeps until the first row of a shard is due, its bell rings
// because an earlier one was set, or a while has passed; then it moves what is due, each row in the commit that does
// its work. So rows that are not due cost no goroutine and no read, and a consumer that starts late finds all of them.
//
// A row is due by the wall clock of whoever reads it: a consumer whose clock is wrong fires early or late, not twice.

type dueKind int64

const (
	dueTimer   dueKind = iota // Name is a timer, Set its setting
	dueMessage                // Name is a delayed message
	dueOnce                   // Name is an idempotency key
)

// due is a row of the index.
type due struct {
	At   int64 // Unix milliseconds
	Kind dueKind
	Name string
	Set  string
}

// delayed is messages that were sent with After. Its field names are part of the stored format.
type delayed struct {
	Items [][]byte `cbor:"items"`
	Lane  int      `cbor:"lane"`
}

func dueIn(d time.Duration) int64 { return time.Now().Add(d).UnixMilli() }

// maxDue is how many rows are moved in one transaction. Their messages may be large, so it is tried in halves when they
// are too large together.
const maxDue = 64

func dueShard(typ string, shard int64) backend.Key { return backend.NewKey(keyDue, typ, shard) }

func (d due) key(ref Ref) backend.Key {
	return dueShard(ref.Type, shardOf(ref.ID)).Int(d.At).Str(ref.ID).Int(int64(d.Kind)).Str(d.Name).Str(d.Set)
}

func parseDue(shard, key backend.Key) (id string, d due, err error) {
	rest, _ := key.CutPrefix(shard)
	elements, err := rest.Elements()
	if err != nil {
		return "", d, err
	}
	if len(elements) == 5 {
		at, ok1 := elements[0].(int64)
		id, ok2 := elements[1].(string)
		kind, ok3 := elements[2].(int64)
		name, ok4 := elements[3].(string)
		set, ok5 := elements[4].(string)
		if ok1 && ok2 && ok3 && ok4 && ok5 {
			return id, due{at, dueKind(kind), name, set}, nil
		}
	}
	return "", d, fmt.Errorf("%w: the row %v in the index of what is due", backend.ErrCorrupt, key)
}

// setDue writes a row and rings the bell of those that wait for it.
func setDue(tx backend.Tx, ref Ref, d due) {
	tx.Set(d.key(ref), nil)
	tx.Add(dueBell(ref.Type, shardOf(ref.ID)), 1)
}

func clearDue(tx backend.Tx, ref Ref, d due) { tx.Clear(d.key(ref).Only()) }

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

// pause waits for a watch, a time and ctx, whichever comes first.
func (c *consumer) pause(ctx context.Context, watch backend.Watch, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	defer watch.Cancel()
	select {
	case <-ctx.Done():
	case <-watch.Done():
	case <-timer.C:
	}
}

// moveDue moves all that is due, and says how long the next row has to wait and what to watch for an earlier one.
func (c *consumer) moveDue(ctx context.Context, typ string, shard int64) (time.Duration, backend.Watch, error) {
	rows := dueShard(typ, shard)
	for {
		var first []backend.KeyValue
		var watch backend.Watch
		err := c.db.Read(ctx, func(tx backend.ReadTx) (err error) {
			watch = tx.Watch(dueBell(typ, shard))
			first, err = tx.GetRange(rows.Below(), backend.RangeOptions{Limit: 1}).Get()
			return err
		})
		if err != nil {
			return 0, nil, fmt.Errorf("dserver: read what is due: %w", err)
		}
		if len(first) == 0 {
			return jittered(lookInterval), watch, nil
		}
		_, d, err := parseDue(rows, first[0].Key)
		if err != nil {
			watch.Cancel()
			return 0, nil, err
		}
		if wait := time.Until(time.UnixMilli(d.At)); wait > 0 {
			return min(wait, jittered(lookInterval)), watch, nil
		}
		watch.Cancel()
		if err := c.moveRows(ctx, typ, rows); err != nil {
			return 0, nil, err
		}
	}
}

// moveRows moves the first rows that are due, in as many transactions as their size asks for.
func (c *consumer) moveRows(ctx context.Context, typ string, rows backend.Key) error {
	limit := maxDue
	for {
		var woken []Ref
		err := c.db.Transact(ctx, func(tx backend.Tx) (err error) {
			woken, err = moveSome(tx, typ, rows, limit, time.Now())
			return err
		})
		if isTooMuch(err) && limit > 1 {
			limit /= 2
			continue
		}
		if err != nil {
			return fmt.Errorf("dserver: move what is due: %w", err)
		}
		for _, ref := range woken {
			c.process.wake(ref)
		}
		return nil
	}
}

// moveSome does the work of at most limit rows that are due. Another consumer that moves one of them conflicts.
func moveSome(tx backend.Tx, typ string, rows backend.Key, limit int, now time.Time) ([]Ref, error) {
	until := backend.Range{Begin: rows.Below().Begin, End: rows.Int(now.UnixMilli() + 1)}
	pairs, err := tx.GetRange(until, backend.RangeOptions{Limit: limit}).Get()
	if err != nil {
		return nil, err
	}
	found := make([]dueWork, len(pairs))
	for i, pair := range pairs {
		id, d, err := parseDue(rows, pair.Key)
		if err != nil {
			return nil, err
		}
		found[i] = dueWork{due: d, ref: Ref{typ, id}}
		found[i].record = readLarge(tx, found[i].at())
	}
	values := make([][]byte, len(found))
	for i, w := range found {
		if values[i], err = w.record.get(); err != nil {
			return nil, err
		}
	}
	var woken []Ref
	for i, w := range found {
		clearDue(tx, w.ref, w.due)
		if err := w.do(tx, values[i]); err != nil {
			return nil, err
		}
		if w.Kind != dueOnce {
			woken = append(woken, w.ref)
		}
	}
	return woken, nil
}

// dueWork is a row with what it is about.
type dueWork struct {
	due
	ref    Ref
	record largeRead
}

// at is the key of what the row is about.
func (w dueWork) at() backend.Key {
	keys := tenantOf(w.ref)
	switch w.Kind {
	case dueTimer:
		return keys.timer(w.Name)
	case dueMessage:
		return keys.delayed(w.Name)
	default:
		return keys.once(w.Name)
	}
}

func (w dueWork) do(tx backend.Tx, record []byte) error {
	switch w.Kind {
	case dueTimer:
		return w.fire(tx, w.ref, record)
	case dueOnce:
		return w.expire(tx, w.ref, record)
	}
	tx.Clear(w.at().Tree())
	if record == nil {
		return nil
	}
	var d delayed
	if err := decodeRecord(record, &d); err != nil {
		return err
	}
	return pushReady(tx, w.ref, queue.Lane(d.Lane), d.Items...)
}

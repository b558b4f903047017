package dserver

import (
	"context"
	"errors"
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
// A row that cannot be read, or whose record cannot, is left alone: it is logged once, Check reports it, and the others of
// its shard go on.
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
	At    int64    `cbor:"at,omitempty"` // Unix milliseconds, as in the index; 0 in records of older versions
}

// dueIn is the first millisecond at which d has passed: a row has whole ones, and must not be due before its time.
func dueIn(d time.Duration) int64 { return time.Now().Add(d).Add(time.Millisecond - 1).UnixMilli() }

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
		if ok1 && ok2 && ok3 && ok4 && ok5 && kind >= int64(dueTimer) && kind <= int64(dueOnce) {
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

// pause waits for a watch, a time and ctx, whichever comes first, and reports whether it was the watch.
func (c *consumer) pause(ctx context.Context, watch backend.Watch, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	defer watch.Cancel()
	select {
	case <-watch.Done():
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// moveDue moves all that is due, and says how long the next row has to wait and what to watch for an earlier one.
func (c *consumer) moveDue(ctx context.Context, typ string, shard int64) (time.Duration, backend.Watch, error) {
	rows := dueShard(typ, shard)
	for {
		var first backend.Key
		var at int64
		var watch backend.Watch
		err := c.db.Read(ctx, func(tx backend.ReadTx) (err error) {
			watch = tx.Watch(dueBell(typ, shard))
			first, at, err = c.firstDue(tx, rows)
			return err
		})
		if err != nil {
			return 0, nil, fmt.Errorf("dserver: read what is due: %w", err)
		}
		if first == nil {
			return jittered(lookInterval), watch, nil
		}
		if wait := time.Until(time.UnixMilli(at)); wait > 0 {
			return min(wait, jittered(lookInterval)), watch, nil
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
		_, d, damage := parseDue(rows, key)
		if damage != nil {
			c.leaveAlone(key, damage)
		} else if !c.isLeftAlone(key) {
			return key, d.At, nil
		}
		rest = rest.After(key)
	}
}

// leaveAlone notes a damaged row, and logs it the first time.
func (c *consumer) leaveAlone(key backend.Key, damage error) {
	if _, known := c.damaged.LoadOrStore(string(key), nil); !known {
		c.log.Error().Err(damage).Stringer(logKey, key).Msg("a damaged row is left alone")
	}
}

func (c *consumer) isLeftAlone(key backend.Key) bool {
	_, damaged := c.damaged.Load(string(key))
	return damaged
}

// moveRows moves the first rows that are due, in as many transactions as their size asks for.
func (c *consumer) moveRows(ctx context.Context, typ string, rows, from backend.Key) error {
	limit := maxDue
	for {
		var moved movedRows
		err := c.db.Transact(ctx, func(tx backend.Tx) (err error) {
			moved, err = c.moveSome(tx, typ, rows, from, limit)
			return err
		})
		if isTooMuch(err) && limit > 1 {
			limit /= 2
			continue
		}
		if err != nil {
			return fmt.Errorf("dserver: move what is due: %w", err)
		}
		for key, damage := range moved.damaged {
			c.leaveAlone(backend.Key(key), damage)
		}
		for _, ref := range moved.woken {
			c.process.wake(ref)
		}
		return nil
	}
}

// movedRows is what came of moving rows.
type movedRows struct {
	woken   []Ref
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
	var found []*dueWork
	for _, pair := range pairs {
		id, d, err := parseDue(rows, pair.Key)
		if err != nil || c.isLeftAlone(pair.Key) {
			continue
		}
		w := &dueWork{due: d, ref: Ref{typ, id}}
		w.look(tx)
		found = append(found, w)
	}
	for _, w := range found { // all reads come before the first write
		w.value, w.err = w.get()
	}
	for _, w := range found {
		err := w.err
		if err == nil {
			err = w.do(tx)
		}
		switch {
		case errors.Is(err, backend.ErrCorrupt):
			moved.damaged[string(w.key(w.ref))] = err
			continue
		case err != nil:
			return moved, err
		}
		clearDue(tx, w.ref, w.due)
		if w.Kind != dueOnce {
			moved.woken = append(moved.woken, w.ref)
		}
	}
	return moved, nil
}

// dueWork is a row with what it is about.
type dueWork struct {
	due
	ref    Ref
	record largeRead

	// Of a delayed message: its server was killed and is not buried yet, so whose it is has to be asked.
	killed, sent backend.Future[[]byte]
	dead         bool

	value []byte // of the record
	err   error
}

// look starts the reads.
func (w *dueWork) look(tx backend.Reader) {
	w.record = readLarge(tx, w.at())
	if keys := tenantOf(w.ref); w.Kind == dueMessage {
		w.killed, w.sent = tx.Get(keys.killed()), tx.Get(keys.sent(w.Name))
	}
}

// get returns what the row is about, nil when it is gone.
func (w *dueWork) get() ([]byte, error) {
	value, err := w.killed.Get()
	if err != nil {
		return nil, err
	}
	killed, err := backend.StampOf(value)
	if err != nil {
		return nil, err
	}
	alive, err := isAfter(w.sent, killed)
	if err != nil {
		return nil, err
	}
	w.dead = !alive
	return w.record.get()
}

// at is the key of what the row is about.
func (w *dueWork) at() backend.Key {
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

// do is the work. Damage is found before anything is written.
func (w *dueWork) do(tx backend.Tx) error {
	switch {
	case w.Kind == dueTimer:
		return w.fire(tx, w.ref, w.value)
	case w.Kind == dueOnce:
		return w.expire(tx, w.ref, w.value)
	case w.value == nil || w.dead:
		return nil
	}
	var d delayed
	if err := decodeRecord(w.value, &d); err != nil {
		return err
	}
	tenantOf(w.ref).clearDelayed(tx, w.Name)
	return pushReady(tx, w.ref, queue.Lane(d.Lane), d.Items...)
}

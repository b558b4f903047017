package main

import (
	"context"
	"sync/atomic"

	"github.com/dserver-go/dserver/backend"
)

// counting is a database that counts what its transactions write. It can what the store can, so nothing is done in
// another way because of it.
type counting struct {
	backend.Database
	commits, keys, bytes atomic.Int64
}

// writes is what was written so far. A transaction that writes nothing has no commit.
type writes struct{ commits, keys, bytes int64 }

func (w writes) minus(o writes) writes {
	return writes{w.commits - o.commits, w.keys - o.keys, w.bytes - o.bytes}
}

func (c *counting) counted() writes {
	return writes{c.commits.Load(), c.keys.Load(), c.bytes.Load()}
}

func (c *counting) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	var last writes // of the run that was committed
	err := c.Database.Transact(ctx, func(tx backend.Tx) error {
		counted := &countingTx{Tx: tx}
		err := fn(backend.Wrapped(counted, tx))
		last = counted.writes
		return err
	})
	if err == nil && last.keys > 0 {
		c.commits.Add(1)
		c.keys.Add(last.keys)
		c.bytes.Add(last.bytes)
	}
	return err
}

type countingTx struct {
	backend.Tx
	writes
}

func (t *countingTx) count(bytes int) {
	t.keys++
	t.bytes += int64(bytes)
}

func (t *countingTx) Set(key backend.Key, value []byte) {
	t.count(len(key) + len(value))
	t.Tx.Set(key, value)
}

func (t *countingTx) Clear(r backend.Range) {
	t.count(len(r.Begin) + len(r.End))
	t.Tx.Clear(r)
}

func (t *countingTx) Add(key backend.Key, delta int64) {
	t.count(len(key) + 8)
	t.Tx.Add(key, delta)
}

func (t *countingTx) Append(prefix backend.Key, value []byte) {
	t.count(len(prefix) + 12 + len(value))
	t.Tx.Append(prefix, value)
}

func (t *countingTx) Stamp(key backend.Key) {
	t.count(len(key) + 12)
	t.Tx.Stamp(key)
}

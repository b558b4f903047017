//go:build fdb

package fdb

import (
	"context"
	"sync"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/dserver-go/dserver/backend"
)

// readTx implements [backend.ReadTx].
type readTx struct {
	snapshot
	watches []*watch
}

func newReadTx(ctx context.Context, db *DB, s *space) *readTx {
	return &readTx{snapshot: snapshot{db: db, space: s, ctx: ctx}}
}

// attempt runs fn once. A watch is set by the commit of its transaction, which writes nothing and so may be cancelled.
func (t *readTx) attempt(fn func(tx backend.ReadTx) error) error {
	defer t.finish()
	err := run(&t.snapshot, fn, backend.ReadTx(t))
	if err == nil && len(t.watches) > 0 {
		err = t.failed("set watches", t.tr.Commit().Get())
	}
	if err == nil && len(t.watches) > 0 {
		err = t.disarm() // or the end of ctx would take the watches with it
	}
	for _, w := range t.watches {
		if err == nil {
			w.begin()
		} else {
			w.Cancel()
		}
	}
	return err
}

// Get implements [backend.ReadTx].
func (t *readTx) Get(key backend.Key) backend.Future[[]byte] {
	if err := t.start(); err != nil {
		return backend.Ready[[]byte](nil, err)
	}
	return t.value(t.tr.Snapshot().Get(t.key(key)))
}

// value is the future of one value.
func (s *snapshot) value(f fdb.FutureByteSlice) backend.Future[[]byte] {
	return backend.Later(func() ([]byte, error) {
		value, err := f.Get()
		if err != nil {
			return nil, s.failed("read a key", err)
		}
		return value, nil
	})
}

// GetRange implements [backend.ReadTx].
func (t *readTx) GetRange(r backend.Range, o backend.RangeOptions) backend.Future[[]backend.KeyValue] {
	if err := t.start(); err != nil {
		return backend.Ready[[]backend.KeyValue](nil, err)
	}
	if r.IsEmpty() {
		return backend.Future[[]backend.KeyValue]{}
	}
	return t.scan(r, o).future()
}

// rangeRead is a range that is being read.
type rangeRead struct {
	s      *snapshot
	o      backend.RangeOptions
	result fdb.RangeResult
	once   sync.Once
	pairs  []backend.KeyValue
	isCut  bool // a limit ended it
	err    error

	arrived func() // runs when the pairs are there
}

// scan starts a range read. The library is told to send all at once, or, where bytes limit it, piece by piece.
func (s *snapshot) scan(r backend.Range, o backend.RangeOptions) *rangeRead {
	options := fdb.RangeOptions{Limit: o.Limit, Reverse: o.Reverse, Mode: mode(o)}
	x := &rangeRead{s: s, o: o}
	x.result = s.tr.Snapshot().GetRange(s.keys(r), options)
	return x
}

// mode is the piece in which a range arrives. The library's own first pieces are small, which would cost round trips.
func mode(o backend.RangeOptions) fdb.StreamingMode {
	const medium, large, serial = 1000, 4096, 80000 // bytes of the library's pieces
	switch {
	case o.Bytes == 0 && o.Limit > 0:
		return fdb.StreamingModeExact
	case o.Bytes == 0 || o.Bytes > serial:
		return fdb.StreamingModeWantAll
	case o.Bytes > large:
		return fdb.StreamingModeSerial
	case o.Bytes > medium:
		return fdb.StreamingModeLarge
	}
	return fdb.StreamingModeMedium
}

func (x *rangeRead) future() backend.Future[[]backend.KeyValue] {
	return backend.Later(func() ([]backend.KeyValue, error) {
		x.settle()
		return x.pairs, x.err
	})
}

// settle waits for the pairs.
func (x *rangeRead) settle() {
	x.once.Do(func() {
		if x.fetch(); x.err != nil {
			return
		}
		if x.arrived != nil {
			x.arrived()
		}
	})
}

func (x *rangeRead) fetch() {
	prefix := len(x.s.space.data)
	bytes := 0
	for pieces := x.result.Iterator(); pieces.Advance(); {
		kv, err := pieces.Get()
		if err != nil {
			x.pairs, x.err = nil, x.s.failed("read a range", err)
			return
		}
		x.pairs = append(x.pairs, backend.KeyValue{Key: backend.Key(kv.Key[prefix:]), Value: kv.Value})
		bytes += len(kv.Key) - prefix + len(kv.Value)
		if x.o.Limit > 0 && len(x.pairs) == x.o.Limit || x.o.Bytes > 0 && bytes >= x.o.Bytes {
			x.isCut = true
			return
		}
	}
}

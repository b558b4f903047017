//go:build fdb

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/apple/foundationdb/bindings/go/src/fdb"
	"github.com/apple/foundationdb/bindings/go/src/fdb/subspace"
	"github.com/apple/foundationdb/bindings/go/src/fdb/tuple"
)

// forerunner is baseline (d), a durable queue as one writes it first: a message is an item at a versionstamped key; the
// consumer takes one item a transaction, and watches a bell when there is none; an answer is a key of its own, and its
// caller watches it. A caller beside the consumer runs inline, one transaction a call, when nothing is queued.
type forerunner struct {
	rowsFDB
	queues  []subspace.Subspace // by counter
	bells   []fdb.Key
	answers subspace.Subspace
	inline  []sync.Mutex // of the server's process, which does one thing at a time; nil in another process
	calls   atomic.Int64
	away    *child
	stop    func() error
}

func newForerunner(dir string, n int) (*forerunner, error) {
	rows, root, err := openRows(dir, n)
	if err != nil {
		return nil, err
	}
	f := &forerunner{rowsFDB: rows, answers: root.Sub("answers", os.Getpid())}
	for i := range n {
		f.queues = append(f.queues, root.Sub("queue", i))
		f.bells = append(f.bells, root.Pack(tuple.Tuple{"bell", i}))
	}
	return f, nil
}

func openForerunner(ctx context.Context, dir string, n int) (contender, error) {
	f, err := newForerunner(dir, n)
	if err != nil {
		return nil, err
	}
	f.inline = make([]sync.Mutex, n)
	f.stop = f.consumeAll(ctx)
	return removing{f, dir}, nil
}

// openForerunnerAway has its consumer in another process.
func openForerunnerAway(ctx context.Context, dir string, n int) (contender, error) {
	f, err := newForerunner(dir, n)
	if err != nil {
		return nil, err
	}
	f.away, err = startChild(ctx, roleForerunner, dir+":"+strconv.Itoa(n))
	return removing{f, dir}, err
}

func (f *forerunner) others() (usage, error) {
	if f.away == nil {
		return usage{}, nil
	}
	return f.away.use()
}

func (f *forerunner) close() error {
	if f.away != nil {
		return f.away.end()
	}
	return f.stop()
}

func (f *forerunner) increment(ctx context.Context, counter int) error {
	if f.inline != nil {
		isDone, err := f.tryInline(counter)
		if isDone || err != nil {
			return err
		}
	}
	answer := f.answers.Pack(tuple.Tuple{f.calls.Add(1)})
	if err := f.push(counter, answer); err != nil {
		return err
	}
	return f.await(answer)
}

// tryInline handles a call at once if nothing is queued before it.
func (f *forerunner) tryInline(counter int) (bool, error) {
	f.inline[counter].Lock()
	defer f.inline[counter].Unlock()
	isDone, err := f.db.Transact(func(tr fdb.Transaction) (any, error) {
		queued, err := tr.GetRange(f.queues[counter], fdb.RangeOptions{Limit: 1}).GetSliceWithError()
		if err != nil || len(queued) > 0 {
			return false, err
		}
		_, err = addOneFDB(tr, f.keys[counter])
		return true, err
	})
	if err != nil {
		return false, err
	}
	return isDone.(bool), nil
}

func (f *forerunner) cast(_ context.Context, counter int) error { return f.push(counter, nil) }

func (f *forerunner) push(counter int, answer fdb.Key) error {
	_, err := f.db.Transact(func(tr fdb.Transaction) (any, error) {
		stamp := tuple.Tuple{tuple.IncompleteVersionstamp(0)}
		key, err := stamp.PackWithVersionstamp(f.queues[counter].Bytes())
		if err != nil {
			return nil, err
		}
		tr.SetVersionstampedKey(fdb.Key(key), answer)
		tr.Add(f.bells[counter], binary.LittleEndian.AppendUint64(nil, 1))
		return nil, nil
	})
	return err
}

// await waits until the answer is there, and removes it.
func (f *forerunner) await(answer fdb.Key) error {
	for {
		watch, err := f.db.Transact(func(tr fdb.Transaction) (any, error) {
			value, err := tr.Get(answer).Get()
			if err != nil || value != nil {
				tr.Clear(answer)
				return nil, err
			}
			return tr.Watch(answer), nil
		})
		if err != nil || watch == nil {
			return err
		}
		if err := watch.(fdb.FutureNil).Get(); err != nil {
			return err
		}
	}
}

// value waits until the queue is empty, and is the counter then.
func (f *forerunner) value(ctx context.Context, counter int) (int64, error) {
	for ctx.Err() == nil {
		watch, err := f.db.Transact(func(tr fdb.Transaction) (any, error) {
			queued, err := tr.GetRange(f.queues[counter], fdb.RangeOptions{Limit: 1}).GetSliceWithError()
			if err != nil || len(queued) == 0 {
				return nil, err
			}
			return tr.Watch(f.keys[counter]), nil
		})
		if err != nil {
			return 0, err
		}
		if watch == nil {
			return f.rowsFDB.value(ctx, counter)
		}
		if err := watch.(fdb.FutureNil).Get(); err != nil {
			return 0, err
		}
	}
	return 0, ctx.Err()
}

// consumeAll runs a consumer for each counter until the function that it returns is called.
func (f *forerunner) consumeAll(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	failures := make([]error, len(f.keys))
	for i := range f.keys {
		ended.Go(func() { failures[i] = f.consume(ctx, i) })
	}
	return func() error {
		cancel()
		ended.Wait()
		return errors.Join(failures...)
	}
}

// consume takes items, one a transaction.
func (f *forerunner) consume(ctx context.Context, counter int) error {
	for ctx.Err() == nil {
		watch, err := f.take(counter)
		if err != nil {
			return err
		}
		if watch == nil {
			continue
		}
		unwatch := context.AfterFunc(ctx, watch.Cancel)
		if err := watch.Get(); err != nil && ctx.Err() == nil {
			return err
		}
		unwatch()
	}
	return nil
}

// take handles the first item, or returns a watch for the next.
func (f *forerunner) take(counter int) (fdb.FutureNil, error) {
	if f.inline != nil {
		f.inline[counter].Lock()
		defer f.inline[counter].Unlock()
	}
	watch, err := f.db.Transact(func(tr fdb.Transaction) (any, error) {
		first, err := tr.Snapshot().GetRange(f.queues[counter], fdb.RangeOptions{Limit: 1}).GetSliceWithError()
		if err != nil {
			return nil, err
		}
		if len(first) == 0 {
			return tr.Watch(f.bells[counter]), nil
		}
		if err := tr.AddReadConflictKey(first[0].Key); err != nil {
			return nil, err
		}
		n, err := addOneFDB(tr, f.keys[counter])
		if err != nil {
			return nil, err
		}
		tr.Clear(first[0].Key)
		if answer := first[0].Value; len(answer) > 0 {
			tr.Set(fdb.Key(answer), binary.LittleEndian.AppendUint64(nil, uint64(n)))
		}
		return nil, nil
	})
	if err != nil || watch == nil {
		return nil, err
	}
	return watch.(fdb.FutureNil), nil
}

// beForerunner is the process of a consumer; which says where, and how many counters.
func beForerunner(ctx context.Context, which string) error {
	at := strings.LastIndexByte(which, ':')
	n, err := strconv.Atoi(which[at+1:])
	if err != nil {
		return fmt.Errorf("%q has no number of counters: %w", which, err)
	}
	f, err := newForerunner(which[:at], n)
	if err != nil {
		return err
	}
	stop := f.consumeAll(ctx)
	lines, told := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		if err := told.Encode(currentUsage()); err != nil {
			return errors.Join(err, stop())
		}
	}
	return errors.Join(lines.Err(), stop())
}

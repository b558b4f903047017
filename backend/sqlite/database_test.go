package sqlite

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// patience is how long tests wait for what must happen. Only a failing test waits so long; a machine that others keep
// busy may need much of it.
const patience = time.Minute

func openTest(t testing.TB, opts ...Option) *DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "test.db"), opts...)
}

func openAt(t testing.TB, path string, opts ...Option) *DB {
	t.Helper()
	db, err := Open(path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestCountersOfManyCallersAddUp(t *testing.T) {
	t.Parallel()
	db := openTest(t)
	const callers, each = 32, 20
	read, blind, queue := backend.NewKey("read"), backend.NewKey("blind"), backend.NewKey("queue")
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				err := db.Transact(t.Context(), func(tx backend.Tx) error {
					value, err := tx.Get(read).Get()
					if err != nil {
						return err
					}
					n, err := backend.Counter(value)
					tx.Set(read, backend.CounterValue(n+1))
					tx.Add(blind, 1)
					tx.Append(queue, value)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		items, err := tx.GetRange(queue.Below(), backend.RangeOptions{}).Get()
		if len(items) != callers*each {
			t.Errorf("%d items of %d", len(items), callers*each)
		}
		for _, key := range []backend.Key{read, blind} {
			value, _ := tx.Get(key).Get()
			if n, _ := backend.Counter(value); n != callers*each {
				t.Errorf("%v counted %d of %d", key, n, callers*each)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitQueue waits until n transactions wait for the writer.
func awaitQueue(t testing.TB, db *DB, n int) {
	t.Helper()
	await(t, "transactions in the queue", func() bool {
		return db.writer.Waiting() == n
	})
}

// await polls for a condition that nobody announces.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain for", what)
		}
	}
}

func watchKey(t testing.TB, db *DB, key string) (w backend.Watch) {
	t.Helper()
	err := db.Read(context.Background(), func(tx backend.ReadTx) error {
		w = tx.Watch(backend.NewKey(key))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func awaitWatch(t testing.TB, w backend.Watch) {
	t.Helper()
	select {
	case <-w.Done():
	case <-time.After(patience):
		t.Fatal("a watch did not fire")
	}
}

package sqlite

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dserver-go/dserver/backend"
)

// Transactions within transactions each get a connection; none waits for one that its own caller has.
func TestNestedTransactionsDoNotWaitForThemselves(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "a", "1")
	const depth = 2 * calmReaders
	var nest func(depth int) error
	nest = func(depth int) error {
		return db.Read(t.Context(), func(tx backend.ReadTx) error {
			if _, err := tx.Get(backend.NewKey("a")).Get(); err != nil || depth == 0 {
				return err
			}
			return nest(depth - 1)
		})
	}
	if err := nest(depth); err != nil {
		t.Error(err)
	}
	if n := len(db.pool.idle); n > calmReaders {
		t.Errorf("%d connections are kept", n)
	}
}

// inLine waits until so many snapshots wait for a connection.
func inLine(t *testing.T, db *DB, n int) {
	t.Helper()
	await(t, "snapshots in the line", func() bool {
		db.pool.mu.Lock()
		defer db.pool.mu.Unlock()
		return db.pool.waiting.Len() == n
	})
}

// holding has a snapshot until it is released.
func holding(t *testing.T, db *DB) (release func()) {
	t.Helper()
	held, released, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- db.Read(t.Context(), func(tx backend.ReadTx) error {
			_, err := tx.Get(backend.NewKey("a")).Get()
			close(held)
			<-released
			return err
		})
	}()
	<-held
	return func() {
		close(released)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestSnapshotsBeyondTheLimitWaitInLine(t *testing.T) {
	db := openTest(t)
	db.pool.limit = 1
	release := holding(t, db)
	const waiters = 20
	var all sync.WaitGroup
	var served []int // one after the other, as there is one connection
	for i := range waiters {
		all.Go(func() {
			err := db.Read(t.Context(), func(tx backend.ReadTx) error {
				_, err := tx.Get(backend.NewKey("a")).Get()
				served = append(served, i)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		inLine(t, db, i+1)
	}
	release()
	all.Wait()
	if len(served) != waiters || !slices.IsSorted(served) {
		t.Errorf("served in the order %v", served)
	}
}

// Who gives up leaves the line, and takes nothing along.
func TestGivingUpInLineHarmsNobody(t *testing.T) {
	db := openTest(t)
	db.pool.limit = 2
	releases := []func(){holding(t, db), holding(t, db)}
	const waiters = 100
	var all sync.WaitGroup
	for i := range waiters {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%2 == 0 {
				time.AfterFunc(time.Duration(i)*20*time.Microsecond, cancel)
			}
			err := db.Read(ctx, func(tx backend.ReadTx) error {
				_, err := tx.Get(backend.NewKey("a")).Get()
				return err
			})
			if err != nil && (i%2 == 1 || !errors.Is(err, context.Canceled)) {
				t.Error(err)
			}
		})
	}
	for _, release := range releases {
		release()
	}
	all.Wait()
	db.pool.mu.Lock()
	defer db.pool.mu.Unlock()
	if n := len(db.pool.running) + db.pool.opening + db.pool.waiting.Len(); n != 0 {
		t.Errorf("%d places are not given back", n)
	}
}

// What was committed while a transaction waited for its snapshot is in it, and the wait is no part of its age.
func TestTransactionThatWaitedBeginsWithItsSnapshot(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "a", "0")
	db.pool.limit = 1
	release := holding(t, db)
	ran := make(chan int, 1)
	var waited time.Time
	go func() {
		ran <- runsWhile(t, db, func() { waited = time.Now() })
	}()
	inLine(t, db, 1)
	mustSet(t, db, "a", "1")
	before := time.Now()
	release()
	if n := <-ran; n != 1 || waited.Before(before) {
		t.Errorf("it ran %d times, since it began before what it has seen", n)
	}
	if v := getKey(t, db, "copy"); v != "1" {
		t.Errorf("it saw %q", v)
	}
}

// A transaction within another may wait for the snapshot that its own caller has. It gets it when that is too old.
func TestNestedTransactionsBeyondTheLimitEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it waits for a snapshot to grow old,", backend.MaxDuration)
	}
	t.Parallel()
	db := openTest(t)
	db.pool.limit = 3
	var nest func(depth int) error
	nest = func(depth int) error {
		return db.Read(t.Context(), func(tx backend.ReadTx) error {
			if _, err := tx.Get(backend.NewKey("a")).Get(); err != nil || depth == 0 {
				return err
			}
			return nest(depth - 1)
		})
	}
	if err := nest(4); err != nil {
		t.Error(err)
	}
}

// A snapshot that nobody reads from any more still holds the log; it is ended in time.
func TestIdleSnapshotIsEnded(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it waits for a snapshot to grow old,", backend.MaxDuration)
	}
	t.Parallel()
	db := openTest(t)
	mustSet(t, db, "a", "1")
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		_, err := tx.Get(backend.NewKey("a")).Get()
		await(t, "the end of the snapshot", func() bool {
			db.pool.mu.Lock()
			defer db.pool.mu.Unlock()
			return len(db.pool.running) == 0
		})
		return err
	})
	if err != nil {
		t.Errorf("%v; want nil, as all that it read was read in time", err)
	}
}

func TestPanicInATransactionGivesItsConnectionBack(t *testing.T) {
	db := openTest(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = db.Transact(t.Context(), func(tx backend.Tx) error {
			if _, err := tx.Get(backend.NewKey("a")).Get(); err != nil {
				t.Error(err)
			}
			panic("a handler's")
		})
	}()
	if n := len(db.pool.running); n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
}

func TestTransactionIsRefusedAfterItsFunction(t *testing.T) {
	db := openTest(t)
	var leaked backend.Tx
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		leaked = tx
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaked.Get(backend.NewKey("a")).Get(); err == nil {
		t.Error("a transaction read after its function")
	}
}

// While snapshots are asked to wait, a context ends the wait, and so does the end of the database.
func TestWaitForASnapshotEnds(t *testing.T) {
	db := openTest(t)
	mustSet(t, db, "a", "1")
	db.pool.shut()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	read := func(ctx context.Context) error {
		return db.Read(ctx, func(tx backend.ReadTx) error {
			_, err := tx.Get(backend.NewKey("a")).Get()
			return err
		})
	}
	if err := read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want the context's error", err)
	}
	outcome := make(chan error, 1)
	go func() { outcome <- read(t.Context()) }()
	select {
	case err := <-outcome:
		t.Errorf("%v in spite of the gate", err)
	case <-time.After(10 * time.Millisecond):
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if err := <-outcome; !errors.Is(err, backend.ErrClosed) {
		t.Errorf("%v; want ErrClosed", err)
	}
}

// A large value and a large range come back as they were, and leave no large memory behind.
func TestLargeRangeLeavesNoLargeMemory(t *testing.T) {
	db := openTest(t)
	value := strings.Repeat("v", 90_000)
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		for i := range 40 {
			tx.Set(backend.NewKey("k", i), []byte(value))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Read(t.Context(), func(tx backend.ReadTx) error {
		pairs, err := tx.GetRange(backend.NewKey("k").Below(), backend.RangeOptions{}).Get()
		for _, kv := range pairs {
			if string(kv.Value) != value {
				t.Errorf("%v has %d bytes", kv.Key, len(kv.Value))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range db.pool.idle {
		if cap(c.rows.bytes) > 1<<20 {
			t.Errorf("a connection keeps %d bytes", cap(c.rows.bytes))
		}
	}
}

// Readers and writers in number, each of whom ends when it likes, leave nothing running.
func TestNothingIsLeftRunning(t *testing.T) {
	db := openTest(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for caller := range 50 {
		all.Go(func() {
			for ctx.Err() == nil {
				err := countUp(ctx, db, backend.NewKey("n", caller%7))
				if err != nil && !errors.Is(err, ctx.Err()) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	db.pool.mu.Lock()
	defer db.pool.mu.Unlock()
	if n := len(db.pool.running) + db.pool.opening; n != 0 || db.calls.Left() != nil {
		t.Errorf("%d connections are left, %v", n, db.calls.Left())
	}
}

// Keys that are read together are what each of them is by itself, whatever is between them.
func TestValuesOfKeys(t *testing.T) {
	db := openTest(t)
	rapid.Check(t, func(rt *rapid.T) {
		number := rapid.IntRange(0, 40)
		there := rapid.SliceOfDistinct(number, rapid.ID).Draw(rt, "there")
		asked := rapid.SliceOfNDistinct(number, 1, -1, rapid.ID).Draw(rt, "asked")
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			tx.Clear(backend.NewKey("n").Tree())
			for _, i := range there {
				tx.Set(backend.NewKey("n", int64(i)), []byte(strings.Repeat("x", i%3)))
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		c, err := db.openConnection()
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = c.conn.Close() }()
		keys := make([]string, len(asked))
		for i, n := range asked {
			keys[i] = string(backend.NewKey("n", int64(n)))
		}
		var met []string
		if err := c.values(slices.Clone(keys), func(key string, value []byte) {
			met = append(met, key)
			want, err := c.Value(backend.Key(key))
			if err != nil || (value == nil) != (want == nil) || string(value) != string(want) {
				rt.Errorf("%x is %q, %v; read with others it is %q", key, want, err, value)
			}
		}); err != nil {
			rt.Fatal(err)
		}
		slices.Sort(keys)
		if !slices.Equal(met, keys) {
			rt.Errorf("asked for %x, told of %x", keys, met)
		}
	})
}

package postgres

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/postgres/pgtest"
)

// What goes wrong for one snapshot, and the others that begin with it or after it.

func read(ctx context.Context, db *DB, key string) error {
	return db.Read(ctx, func(tx backend.ReadTx) error {
		_, err := tx.Get(backend.NewKey(key)).Get()
		return err
	})
}

// readWithin reads with a context of its own.
func readWithin(t *testing.T, db *DB, d time.Duration) error {
	ctx, end := context.WithTimeout(t.Context(), d)
	defer end()
	return read(ctx, db, "a")
}

// lock lets reads of a table of the schema wait, until the test ends.
func lock(t *testing.T, db *DB, table string) {
	t.Helper()
	c, err := db.connect(t.Context())
	must(t, err)
	t.Cleanup(c.close)
	must(t, c.script(t.Context(), db.options.expand("BEGIN; LOCK TABLE $S."+table+" IN ACCESS EXCLUSIVE MODE")))
}

// network is one whose connections fall silent, and whose new ones are never made.
type network struct {
	mu      sync.Mutex
	made    []silent
	isStuck atomic.Bool
}

// silent is a connection that may fall silent.
type silent struct {
	net.Conn
	is *atomic.Bool
}

func (c silent) Write(b []byte) (int, error) {
	if c.is.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	if n.isStuck.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c, err := new(net.Dialer).DialContext(ctx, kind, address)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		c = silent{c, new(atomic.Bool)}
		n.made = append(n.made, c.(silent))
	}
	return c, err
}

func (n *network) each(do func(c silent)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.made {
		do(c)
	}
}

func (n *network) option(o *options) { o.dial = n.dial }

// Connections that have died without a word are given up with the first reads on them, and not one after the other.
func TestReadsOutliveSilentConnections(t *testing.T) {
	t.Parallel()
	n := &network{}
	db := openTest(t, pgtest.Name(t), n.option)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			err := db.Read(t.Context(), func(tx backend.ReadTx) error {
				_, err := tx.Get(backend.NewKey("a")).Get()
				<-time.After(openerPatience) // so that the next has another connection
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-time.After(openerPatience / 4)
	}
	all.Wait()
	db.pool.awaitPlaces(t)
	n.each(func(c silent) { c.is.Store(true) })
	t.Cleanup(func() { n.each(func(c silent) { c.Close() }) }) // now the server knows, too
	tries := 1
	for readWithin(t, db, 1500*time.Millisecond) != nil { // enough for a new connection on a busy machine
		if tries++; tries > 4 {
			t.Fatalf("no read has succeeded in %d tries", tries)
		}
	}
}

// awaitClean waits until no connection is away to end what is open on it, from where it would come back.
func (p *pool) awaitClean() {
	clean := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		if slices.ContainsFunc(p.idle, func(c *connection) bool { return c.isDirty }) {
			return -1
		}
		return len(p.idle)
	}
	for last := -1; ; {
		<-time.After(4 * dirtyMax)
		n := clean()
		if n > 0 && n == last {
			return
		}
		last = n
	}
}

// Connections that are being made keep nobody from one that is there.
func TestReadsDoNotWaitForConnectionsThatAreNotMade(t *testing.T) {
	t.Parallel()
	n := &network{}
	db := openTest(t, pgtest.Name(t), n.option)
	must(t, read(t.Context(), db, "a"))
	db.pool.awaitPlaces(t)
	db.pool.awaitClean()
	db.pool.mu.Lock()
	only := db.pool.idle[0]
	db.pool.idle = db.pool.idle[1:]
	db.pool.dropIdle()
	db.pool.idle = []*connection{only}
	db.pool.mu.Unlock()
	n.isStuck.Store(true)
	err := db.Read(t.Context(), func(tx backend.ReadTx) error { // it has the only connection
		_, err := tx.Get(backend.NewKey("a")).Get()
		for range maxOpeners {
			if err := readWithin(t, db, 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a read without a connection: %v", err)
			}
		}
		return err
	})
	must(t, err)
	must(t, readWithin(t, db, connectWait/3))

	db.pool.awaitPlaces(t)
	free := db.pool.takePlaces()
	done := make(chan error)
	go func() { done <- read(t.Context(), db, "a") }()
	db.pool.awaitJoiners(t, 1)
	db.pool.refuse(errors.New("no connection was made"))
	free()
	must(t, <-done)
}

// A read that the server does not answer keeps nobody from beginning another.
func TestReadsDoNotWaitForThoseBefore(t *testing.T) {
	t.Parallel()
	db := openTest(t, pgtest.Name(t))
	long := strings.Repeat("l", headBytes)
	set(t, db, long, "1")
	lock(t, db, "long")
	ctx, end := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range maxOpeners {
		all.Go(func() {
			if err := read(ctx, db, long); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		for limit := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
			if _, views, _ := db.pool.count(); views == i+1 {
				break
			} else if time.Now().After(limit) {
				t.Fatalf("%d views of %d reads", views, i+1)
			}
		}
	}
	must(t, readWithin(t, db, backend.MaxDuration/2))
	end()
	all.Wait()
}

// A read that nobody waits for any more is not gone on with.
func TestReadWithoutReaderEnds(t *testing.T) {
	t.Parallel()
	db := openTest(t, pgtest.Name(t), Snapshots(1))
	lock(t, db, "kv")
	for range 2 { // the second waits for no place
		if err := readWithin(t, db, backend.MaxDuration/4); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "snapshots") {
			t.Error(err)
		}
	}
}

// What the server says against one read is told to its reader. Those who began with it begin again.
func TestDamageIsToldToWhoReadsIt(t *testing.T) {
	t.Parallel()
	name := pgtest.Name(t)
	before := openTest(t, name)
	set(t, before, "good", "1")
	set(t, before, "bad", "1")
	pgtest.Exec(t, name, before.options.expand(`ALTER TABLE $S.kv RENAME TO stored;
		CREATE FUNCTION $S.breaks() RETURNS bytea LANGUAGE plpgsql AS
			'BEGIN RAISE EXCEPTION ''invalid page'' USING ERRCODE = ''XX001''; END';
		CREATE VIEW $S.kv AS SELECT k, CASE WHEN position('bad'::bytea IN k) > 0 THEN $S.breaks() ELSE v END AS v FROM $S.stored`))
	db := openTest(t, name)
	var all sync.WaitGroup
	free := db.pool.takePlaces()
	for _, key := range []string{"good", "bad", "good", "bad", "good"} {
		for _, do := range []func(func(tx backend.Reader) error) error{
			func(fn func(tx backend.Reader) error) error {
				return db.Read(t.Context(), func(tx backend.ReadTx) error { return fn(tx) })
			},
			func(fn func(tx backend.Reader) error) error {
				return db.Transact(t.Context(), func(tx backend.Tx) error { return fn(tx) })
			},
		} {
			all.Go(func() {
				err := do(func(tx backend.Reader) error {
					_, err := tx.Get(backend.NewKey(key)).Get()
					return err
				})
				if isBad := key == "bad"; isBad != errors.Is(err, backend.ErrCorrupt) || !isBad && err != nil {
					t.Errorf("%s: %v", key, err)
				}
			})
		}
	}
	db.pool.awaitJoiners(t, 10)
	free()
	all.Wait()
}

func TestCloseTellsReadersThatItWasClose(t *testing.T) {
	t.Parallel()
	db, err := Open(pgtest.Name(t))
	must(t, err)
	lock(t, db, "kv")
	free := db.pool.takePlaces()
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if err := read(context.Background(), db, "a"); !errors.Is(err, backend.ErrClosed) || errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	db.pool.awaitJoiners(t, 2)
	free()
	db.pool.awaitJoiners(t, 0)
	must(t, db.Close())
	all.Wait()
}

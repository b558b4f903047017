package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/internal/occ"
)

// DB is an open schema. It implements [backend.Database].
type DB struct {
	options options
	config  *pgconn.Config
	listens *pgconn.Config
	sql     *statements

	pool    *pool
	writer  *writer
	session session
	log     *occ.Log
	watches *occ.Watches
	ear     ear
	reports occ.Reports
	counts  counters

	warning    error           // of the server's settings at Open
	life       context.Context // ends with Close
	end        context.CancelFunc
	calls      backend.Calls
	background sync.WaitGroup
	closeOnce  sync.Once
}

var _ backend.Reporter = (*DB)(nil)

// openWait is how long Open waits for the server.
const openWait = 15 * time.Second

// grace is how long an outcome is waited for after the caller has lost interest.
const grace = 100 * time.Millisecond

// Open opens the schema of a database, by a URL as libpq and pgx know it, postgres://user@host:port/database, and creates
// it if it is not there. Beside the driver's parameters (sslmode, connect_timeout and so on) the URL may have those of the
// options: dserver_schema, dserver_listen, dserver_snapshots and dserver_unprepared. Environment variables (PGHOST,
// PGPASSWORD and so on), a password file and a service file stand in for what it lacks.
//
// It refuses a server that cannot be reached within 15 s, that is older than version 15, that only follows another, or
// that would lose acknowledged commits in a crash (fsync or synchronous_commit off), but for [Relaxed].
func Open(url string, opts ...Option) (*DB, error) {
	o := defaults()
	rest, err := cutParameters(url, &o)
	if err != nil {
		return nil, err
	}
	for _, opt := range opts {
		opt(&o)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	db, err := newDB(rest, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(db.life, openWait)
	defer cancel()
	if err := db.writer.open(ctx); err != nil {
		db.end()
		return nil, fmt.Errorf("postgres: open the schema %q: %w", o.schema, err)
	}
	db.background.Go(db.writer.Run)
	db.background.Go(db.pool.reap)
	db.background.Go(db.pool.tidy)
	db.background.Go(db.keep)
	db.background.Go(db.listen)
	return db, nil
}

func newDB(url string, o options) (*DB, error) {
	db := &DB{options: o, log: occ.NewLog(errs), watches: occ.NewWatches()}
	db.sql = newStatements(&db.options)
	db.life, db.end = context.WithCancel(context.Background())
	var err error
	if db.config, err = parse(url); err != nil {
		return nil, err
	}
	db.listens = db.config
	if o.listen != "" {
		if db.listens, err = parse(o.listen); err != nil {
			return nil, err
		}
	}
	db.pool = newPool(db)
	db.writer = newWriter(db)
	return db, nil
}

func parse(url string) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("postgres: the name of the database: %w", err) // without its password
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "dserver"
	}
	return config, nil
}

// Transact implements [backend.Database]. A commit that ends without an answer is looked up, and fenced off where it has
// not happened, before fn runs again or Transact returns. An outcome is awaited for a tenth of a second after ctx has
// ended; only then the error is [backend.ErrCommitUnknown].
func (db *DB) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	call := db.calls.Enter("Transact", fn)
	if call == nil {
		return closed()
	}
	defer db.calls.Leave(call)
	wasOld, fresh, alone := false, false, false
	for lost := 0; ; {
		if err := db.check(ctx); err != nil {
			return err
		}
		a := &attempt{snapshot: snapshot{db: db, ctx: ctx, isAlone: alone}}
		a.tx.Begin(ctx, db.log, &a.snapshot, &a.snapshot.base, fresh)
		err := a.tx.Attempt(fn, db.writer.Queue)
		switch {
		case err == nil:
			return nil
		case a.snapshot.lost != nil:
			if err := db.pauseOutage(ctx, lost, a.snapshot.lost); err != nil {
				return err
			}
			lost++
			fresh = true
		case a.snapshot.isAnothers:
			fresh, alone = true, true
		case errors.Is(err, occ.ErrLost):
			db.counts.conflicts.Add(1)
			fresh = true
		case !wasOld && errors.Is(err, errs.TooOld):
			wasOld, fresh = true, true // its time begins with its snapshot, however long it waits for one
		default:
			return err
		}
	}
}

// attempt is one run of a transaction's function, with its commit.
type attempt struct {
	tx       occ.Tx
	snapshot snapshot
}

// Read implements [backend.Database].
func (db *DB) Read(ctx context.Context, fn func(tx backend.ReadTx) error) error {
	call := db.calls.Enter("Read", fn)
	if call == nil {
		return closed()
	}
	defer db.calls.Leave(call)
	wasOld, alone := false, false
	for lost := 0; ; {
		if err := db.check(ctx); err != nil {
			return err
		}
		t := &readTx{snapshot: snapshot{db: db, ctx: ctx, isAlone: alone}, suspects: db.watches.Suspected()}
		t.snapshot.base.Draw(db.log, time.Now())
		err := t.run(fn)
		switch {
		case t.snapshot.lost != nil:
			if err := db.pauseOutage(ctx, lost, t.snapshot.lost); err != nil {
				return err
			}
			lost++
		case t.snapshot.isAnothers:
			alone = true
		case err == nil:
			db.watches.Set(t.watches, &t.snapshot.base, t.suspects)
			return nil
		case wasOld || !errors.Is(err, errs.TooOld):
			return err
		default:
			wasOld = true
		}
	}
}

// How long an attempt that met an outage waits, at most, before it runs again. The first is tried again at once: the
// connection may have been one from before the server's restart.
const (
	downDelay    = 10 * time.Millisecond
	downDelayMax = time.Second
)

// pauseOutage waits before the next attempt, or returns why there is none.
func (db *DB) pauseOutage(ctx context.Context, n int, cause error) error {
	db.counts.outages.Add(1)
	if n == 0 {
		return nil
	}
	if err := db.pause(ctx, upTo(n)); err != nil {
		if ctx.Err() != nil {
			return unreached(ctx, cause)
		}
		return err
	}
	return nil
}

// upTo is random, and doubles with each attempt.
func upTo(attempt int) time.Duration {
	return rand.N(min(downDelay<<min(attempt, 10), downDelayMax)) + 1
}

// check refuses what should not begin.
func (db *DB) check(ctx context.Context) error {
	if db.life.Err() != nil {
		return closed()
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("postgres: begin a transaction: %w", err)
	}
	return nil
}

// pause waits unless ctx or the database ends, and returns why.
func (db *DB) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-db.life.Done():
	}
	return db.check(ctx)
}

// Report implements [backend.Reporter]. It tells once that a failover may lose acknowledged commits, where the server had a
// standby that no commit waits for when the database was opened.
func (db *DB) Report(to func(error)) (stop func()) {
	if db.warning != nil {
		to(db.warning)
	}
	return db.reports.Add(to)
}

// Close implements [backend.Database]. Where the server does not answer, a commit that was sent may stay behind; its
// caller was told [backend.ErrCommitUnknown].
func (db *DB) Close() (err error) {
	db.closeOnce.Do(func() { err = db.close() })
	return err
}

// lastWait is how long Close lets a commit end that is under way.
const lastWait = time.Second

func (db *DB) close() error {
	db.writer.Stop(closed())
	db.calls.Close()
	db.writer.letEnd(lastWait)
	db.end()
	db.watches.Close()
	db.pool.stop()
	left := db.calls.Await()
	db.writer.Rest()
	db.writer.Quit()
	db.background.Wait()
	db.leaveSession()
	db.writer.close()
	if left != nil {
		return fmt.Errorf("postgres: close: %w", left)
	}
	return nil
}

package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// doubt is how long it takes to find out about a lost outcome.
const doubt = 10 * time.Millisecond

// What rolls a commit back in the store below. Nobody outside sees them.
var (
	errLostRace   = errors.New("backendtest: the commit loses a race")
	errRolledBack = errors.New("backendtest: the commit does not happen")
)

// faulty is a handle whose commits meet faults.
type faulty struct {
	inner     backend.Database
	draw      func() (FaultKind, bool) // called once per Transact that has something to commit
	interrupt func()                   // ends the context that the caller was told to use

	once sync.Once
	dead chan struct{}
}

// Transact is the store's, but for the fault that fn's first commit draws.
func (d *faulty) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	if d.isDead() {
		return errDead()
	}
	var c commitFault
	err := d.inner.Transact(ctx, func(tx backend.Tx) error { return c.run(d, tx, fn) })
	if errors.Is(err, errLostRace) {
		err = d.inner.Transact(ctx, func(tx backend.Tx) error { return c.run(d, tx, fn) })
	}
	return d.answer(ctx, c, err)
}

// commitFault is the fault of one Transact.
type commitFault struct {
	drawn   bool
	happens bool
	kind    FaultKind
}

// run is one run of fn, which ends in a roll-back where the fault says so.
func (c *commitFault) run(d *faulty, tx backend.Tx, fn func(backend.Tx) error) error {
	noted := &notedTx{Tx: tx}
	if err := fn(backend.Wrapped(noted, noted.Tx)); err != nil || !noted.wrote {
		return err
	}
	if d.isDead() {
		return errDead()
	}
	first := !c.drawn
	if first {
		c.drawn = true
		c.kind, c.happens = d.draw()
	}
	switch {
	case !c.happens:
		return nil
	case c.kind == Retry && first:
		return errLostRace
	case !c.kind.commits():
		return errRolledBack
	}
	return nil
}

// answer is what the caller of Transact gets to see of err.
func (d *faulty) answer(ctx context.Context, c commitFault, err error) error {
	done := err == nil || errors.Is(err, errRolledBack)
	switch {
	case !done || !c.drawn:
		return err
	case d.isDead():
		return errDeadInCommit()
	case !c.happens || c.kind == Retry:
		return err
	case c.kind == LostOutcome:
		return d.findOut(ctx)
	case c.kind.crashes():
		d.die()
		return errDeadInCommit()
	}
	d.interrupt()
	return errUnknown(ctx)
}

// findOut is the time in which a lost outcome is in doubt.
func (d *faulty) findOut(ctx context.Context) error {
	timer := time.NewTimer(doubt)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errUnknown(ctx)
	case <-d.dead:
		return errDeadInCommit()
	}
}

func (d *faulty) Read(ctx context.Context, fn func(backend.ReadTx) error) error {
	if d.isDead() {
		return errDead()
	}
	return d.inner.Read(ctx, fn)
}

func (d *faulty) Close() error { return d.inner.Close() }

// die ends the handle as the end of its process does. Closing waits for all that still runs on it, which may wait for
// the caller, so nobody waits for the closing.
func (d *faulty) die() {
	d.once.Do(func() {
		close(d.dead)
		go d.inner.Close()
	})
}

func (d *faulty) isDead() bool {
	select {
	case <-d.dead:
		return true
	default:
		return false
	}
}

func errDead() error { return fmt.Errorf("the process has died: %w", backend.ErrClosed) }

func errDeadInCommit() error {
	return fmt.Errorf("the process has died: %w: %w", backend.ErrCommitUnknown, backend.ErrClosed)
}

// errUnknown wraps ctx's error if ctx is the one that was interrupted. Else it is the case in which the store forgot
// the process's session.
func errUnknown(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("the answer was lost: %w: %w", backend.ErrCommitUnknown, err)
	}
	return fmt.Errorf("the answer was lost: %w", backend.ErrCommitUnknown)
}

// notedTx notes whether there is anything to commit.
type notedTx struct {
	backend.Tx
	wrote bool
}

func (t *notedTx) Set(key backend.Key, value []byte) { t.wrote = true; t.Tx.Set(key, value) }

func (t *notedTx) Clear(r backend.Range) { t.wrote = true; t.Tx.Clear(r) }

func (t *notedTx) Add(key backend.Key, delta int64) { t.wrote = true; t.Tx.Add(key, delta) }

func (t *notedTx) Append(prefix backend.Key, value []byte) {
	t.wrote = true
	t.Tx.Append(prefix, value)
}

func (t *notedTx) Stamp(key backend.Key) { t.wrote = true; t.Tx.Stamp(key) }

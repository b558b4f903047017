package operate

import (
	"context"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// Kill removes everything of the server, and tells the callers of what waits (package tenant says how).
func (s Server) Kill(ctx context.Context) error {
	ref, runs, buried := s.Ref, 0, false
	err := s.change(ctx, "Kill", func(tx backend.Tx, keys tenant.Keys, _ *tenant.Act) (err error) {
		runs++
		buried, err = tenant.Kill(tx, keys, ref, runs <= patientRuns)
		return err
	})
	if err != nil || buried {
		return err
	}
	if err := tenant.Bury(ctx, s.DB, ref); err != nil {
		return nil // it is dead all the same, and its ready mark is set
	}
	mailbox.Of(s.DB).Wake(ref)
	return nil
}

// patientRuns is how often a kill tries to find the queue quiet, before it takes the way on which pushes don't matter.
const patientRuns = 3

// Pause makes the server handle nothing until it is resumed (package tenant says how). One that is paused stays so.
func (s Server) Pause(ctx context.Context) error {
	return s.change(ctx, "Pause", func(tx backend.Tx, keys tenant.Keys, _ *tenant.Act) error {
		p, err := keys.ReadPaused(tx)
		if err == nil && !p.Is() {
			keys.Pause(tx, s.Actor)
		}
		return err
	})
}

// Reset removes the state, the lock and the timers. The queue stays.
func (s Server) Reset(ctx context.Context) error {
	ref := s.Ref
	return s.change(ctx, "Reset", func(tx backend.Tx, keys tenant.Keys, _ *tenant.Act) error {
		held, err := tenant.ReadLock(tx, keys)
		if err != nil {
			return err
		}
		end, err := keys.EndLock(tx, held, tenant.ErrKilled, nil)
		if err != nil {
			return err
		}
		keys.Reset(tx)
		keys.ClearAttempts(tx)
		tenant.SetReady(tx, ref)
		return end.Write(tx, keys, ref)
	})
}

// Unlock ends locked work: its message becomes a dead letter.
func (s Server) Unlock(ctx context.Context) error {
	ref := s.Ref
	return s.change(ctx, "Unlock", func(tx backend.Tx, keys tenant.Keys, act *tenant.Act) error {
		held, err := tenant.ReadLock(tx, keys)
		if err != nil {
			return err
		}
		if !held.IsHeld() {
			return tenant.Because(tenant.ErrNotFound, "%v is not locked", ref)
		}
		end, err := keys.EndLock(tx, held, tenant.Because(tenant.ErrFault, "an operator ended the locked work"), nil)
		if err != nil {
			return err
		}
		end.SetsAside = true
		act.Stamp, act.Detail = held.Record.Stamp, held.Record.Name
		return end.Write(tx, keys, ref)
	})
}

// Resume makes a server go on that halted or was paused.
func (s Server) Resume(ctx context.Context) error {
	ref := s.Ref
	return s.change(ctx, "Resume", func(tx backend.Tx, keys tenant.Keys, _ *tenant.Act) error {
		held, err := tenant.ReadLock(tx, keys)
		if err != nil {
			return err
		}
		var halted []queue.Lane
		for _, lane := range []queue.Lane{queue.Priority, queue.Normal} {
			a, err := keys.ReadAttempts(tx, lane)
			if err != nil {
				return err
			}
			if a.Halts {
				halted = append(halted, lane)
			}
		}
		paused, err := keys.ReadPaused(tx)
		if err != nil {
			return err
		}
		if len(halted) == 0 && !held.Record.Halted && !paused.Is() {
			return tenant.Because(tenant.ErrNotFound, "%v has neither halted nor is it paused", ref)
		}
		if paused.By == tenant.Importer {
			return tenant.Because(tenant.ErrPaused, "%v is being imported; if the import was interrupted, run it again, or kill the server", ref)
		}
		if paused.Is() {
			tx.Clear(keys.Paused().Only())
		}
		for _, lane := range halted {
			keys.ClearAttempt(tx, lane)
		}
		if r := held.Record; r.Halted {
			r.Halted, r.Attempt, r.Wait = false, 1, 0
			keys.SetLock(tx, r)
			keys.ClearLockFailure(tx)
			keys.Vacate(tx)
		}
		tenant.SetReady(tx, ref)
		return nil
	})
}

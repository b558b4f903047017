package consumer

import (
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// A state that is sound may be one that this program cannot read: a field has another type than it was stored with, an
// Upgrade fails or is not there. That is no message's fault and no damage. So nothing is counted and nothing set aside:
//
//  1. Calls of this process are told at once (ErrState); so are Query and State. What is queued waits.
//  2. A record beside the queue says why, for Status and for the tool, until a turn changes the server.
//  3. It is logged, and written, at most once in tellEvery.
//  4. The state is not read again before a back-off is over, unless it is another one: a program cannot be mended while it
//     runs, but one that can read the state may write it.

const (
	firstBlind = time.Second
	longBlind  = 5 * time.Minute
	blindLook  = 30 * time.Second // between two looks at whether another program has written the state
	tellEvery  = 5 * time.Minute
)

// unreadable ends a turn whose state this program cannot read.
func (t *visit) unreadable(err error) nextTurn {
	t.s.State = turn.State{}
	told := fmt.Errorf("dserver: %v: %w", t.Ref, err)
	for _, a := range t.locals {
		if a.Call || a.Info || a.Released != nil {
			a.Done <- turn.Outcome{Err: told}
		} else {
			a.Done <- turn.Outcome{Declined: true}
		}
	}
	t.locals = nil
	b, now := &t.s.Doubt().Blind, time.Now()
	if !now.Before(b.Until) || b.Version != t.Head.Version {
		b.Version, b.Err = t.Head.Version, err
		b.Until = now.Add(min(firstBlind<<min(2*b.Tries, 16), longBlind))
		b.Tries++
	}
	if b.Told.IsZero() || now.Sub(b.Told) >= tellEvery {
		b.Told = now
		t.tellUnreadable(err)
	}
	// A parked server is looked at by nobody here while its timer runs: another program may have written the state.
	return t.park(nextTurn{after: min(max(b.Until.Sub(now), time.Millisecond), blindLook)})
}

// tellUnreadable logs why, and writes it down.
func (t *visit) tellUnreadable(err error) {
	t.c.log.Error().Err(err).Stringer(logs.Server, t.Ref).
		Msg("the state cannot be read by this program; its messages wait for one that can")
	text := tenant.EncodeRecord(tenant.UnreadableRecord{Text: tenant.Truncate(err.Error(), tenant.MaxErrorText)})
	err = t.c.DB.Transact(t.c.Base, func(tx backend.Tx) error {
		version, err := tx.Get(t.Keys.Version()).Get()
		if err != nil {
			return err
		}
		if stamp, err := backend.StampOf(version); err != nil || stamp != t.Head.Version {
			return err
		}
		tx.Set(t.Keys.Unreadable(), text)
		return nil
	})
	if err != nil && !errors.Is(err, backend.ErrClosed) {
		t.c.log.Warn().Err(err).Stringer(logs.Server, t.Ref).Msg("why the state cannot be read is not written down")
	}
}

package dserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/statediff"
)

// A state that is sound may be one that this program cannot read: a field has another type than it was stored with, an
// Upgrade fails or is not there. That is no message's fault and no damage. So nothing is counted and nothing set aside:
//
//  1. Calls of this process are told at once (ErrState); so are Query and State. What is queued waits.
//  2. A record beside the queue says why, for Status and for the tool, until a turn changes the server.
//  3. It is logged, and written, at most once in tellEvery.
//  4. The state is not read again before a back-off is over, unless it is another one: a program cannot be mended while it
//     runs, but one that can read the state may write it.

// unreadableRecord says why a consumer could not read the state. Its field names are part of the stored format.
type unreadableRecord struct {
	Text string `cbor:"text"`
}

// blindness is what a consumer remembers of a state that it could not read.
type blindness struct {
	version backend.Versionstamp
	err     error
	tries   int
	until   time.Time
	told    time.Time
}

const (
	firstBlind = time.Second
	longBlind  = 5 * time.Minute
	tellEvery  = 5 * time.Minute
)

// errUnreadable is the error of a state that a type cannot read. Rows that nobody can read are damage.
func errUnreadable(def *definition, rows *statediff.Rows, err error, advice string) error {
	if _, damaged := statediff.Generic(rows); damaged != nil {
		return fmt.Errorf("%w: decode the state of a server of type %q: %w", backend.ErrCorrupt, def.name, damaged)
	}
	return because(ErrState, "type %q: %v: %s", def.name, err, advice)
}

// isBlind returns why the state of this version could not be read, while it is not to be tried again.
func (s *server) isBlind(version backend.Versionstamp) error {
	if s.rare == nil || s.rare.blind.version != version || !time.Now().Before(s.rare.blind.until) {
		return nil
	}
	return s.rare.blind.err
}

// unreadable ends a turn whose state this program cannot read.
func (t *turn) unreadable(err error) nextTurn {
	t.s.state = state{}
	told := fmt.Errorf("dserver: %v: %w", t.s.ref(), err)
	for _, a := range t.locals {
		if a.call || a.info || a.released != nil {
			a.done <- outcome{err: told}
		} else {
			a.done <- outcome{declined: true}
		}
	}
	t.locals = nil
	b, now := &t.s.trouble().blind, time.Now()
	if !now.Before(b.until) || b.version != t.head.version {
		b.version, b.err = t.head.version, err
		b.until = now.Add(min(firstBlind<<min(2*b.tries, 16), longBlind))
		b.tries++
	}
	if b.told.IsZero() || now.Sub(b.told) >= tellEvery {
		b.told = now
		t.tellUnreadable(err)
	}
	// A parked server is looked at by nobody here while its timer runs: another program may have written the state.
	return t.park(nextTurn{after: min(max(b.until.Sub(now), time.Millisecond), longestBackOff)})
}

// tellUnreadable logs why, and writes it down.
func (t *turn) tellUnreadable(err error) {
	t.c.log.Error().Err(err).Stringer(logServer, t.s.ref()).
		Msg("the state cannot be read by this program; its messages wait for one that can")
	text := encodeRecord(unreadableRecord{truncate(err.Error(), maxErrorText)})
	err = t.c.db.Transact(t.c.base, func(tx backend.Tx) error {
		version, err := tx.Get(t.keys.version()).Get()
		if err != nil {
			return err
		}
		if stamp, err := backend.StampOf(version); err != nil || stamp != t.head.version {
			return err
		}
		tx.Set(t.keys.unreadable(), text)
		return nil
	})
	if err != nil && !errors.Is(err, backend.ErrClosed) {
		t.c.log.Warn().Err(err).Stringer(logServer, t.s.ref()).Msg("why the state cannot be read is not written down")
	}
}

// blindness is what to add to the error of a call whose time is over, when consumers could not read the state: "" else.
func (h handle) blindness() (text string) {
	ctx, cancel := context.WithTimeout(context.Background(), absenceLimit)
	defer cancel()
	status, err := h.status(ctx)
	if err != nil || status.Unreadable == "" {
		return ""
	}
	return " (its state could not be read: " + status.Unreadable + ")"
}

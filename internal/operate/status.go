package operate

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Status is what a server's records say of it.
type Status struct {
	Queued, DeadLetters int64
	Delayed             int // sends with After that are not due yet; at most 1,000 are counted
	Locked, Halted      bool
	Attempts            int       // of a message that faulted and is tried again, or of locked work
	Failing             []Failing // what faulted and is tried again, or has halted the server: the lanes' heads, then locked work
	Lock                Lock      // what it is locked for
	Paused              bool      // by an operator, until Resume
	PausedBy            string    // who did it; "" when it was not said
	PausedSince         time.Time // zero when it is not
	Version             int       // of the state's schema
	Unreadable          string    // why a consumer could not read the state, and what to do; "" when none has said so
	Label               string    // of the consumers that run it; "" when it is not pinned
	Created             time.Time // when it first had a state, by the clock of the consumer; zero when it has none

	// Unhandled is the name of a message that is next, when none of the consumers that run the type has a handler for it, or
	// none of them knows the version of the state. It is "" otherwise, and when no consumer runs.
	Unhandled string

	// Unlisted: something waits, and consumers of the type run, none of which lists the label.
	Unlisted bool
}

// Lock is what is known of locked work; zero when there is none.
type Lock struct {
	Stamp   backend.Versionstamp // names the message
	Message string               // its name
	Since   time.Time            // when the lock was taken for it
	Limit   time.Duration        // of one attempt; 0 when that is not known
	Attempt int                  // that runs, or is due
	Process string               // of the holder; "" when nobody holds it, as it was given up
}

func lockOf(l tenant.Lock) Lock {
	if !l.IsHeld() {
		return Lock{}
	}
	process, _ := l.Holder()
	return Lock{l.Record.Stamp, l.Record.Name, time.UnixMilli(l.Record.Since), l.Record.Limit, l.Record.Attempt, process}
}

// Status reads the server's records in one snapshot.
func (s Server) Status(ctx context.Context) (status Status, err error) {
	err = s.read(ctx, "read the status", func(tx backend.ReadTx, keys tenant.Keys) (err error) {
		var isNew bool
		if status, isNew, err = statusOf(tx, keys); err == nil && (status.Queued > 0 || status.Locked) {
			err = status.lookAtCrew(tx, s.DB, s.Ref, isNew)
		}
		return err
	})
	if err != nil {
		return Status{}, err
	}
	return status, nil
}

// lookAtCrew finds out whether the consumers of the type run the server, and can handle what is next on a lane, or under the
// lock. A server that is new begins where its type does.
func (s *Status) lookAtCrew(tx backend.Reader, db backend.Database, ref tenant.Ref, isNew bool) error {
	found, err := tenant.AblesOf(tx, ref.Type)
	if err != nil {
		return err
	}
	if p := mailbox.Of(db); p != nil {
		found = p.Others.Living(found, time.Now())
	}
	if len(found) == 0 {
		return nil
	}
	if isNew {
		s.Label = found[0].Begins
	}
	if found = tenant.Listing(found, s.Label); len(found) == 0 {
		s.Unlisted = true
		return nil
	}
	names, err := tenant.KeysOf(ref).NextMessages(tx)
	for _, name := range names {
		if !tenant.IsHandledBy(found, name, s.Version) {
			s.Unhandled = name
			break
		}
	}
	return err
}

// statusOf also reports whether the server has neither pin nor state.
func statusOf(tx backend.Reader, keys tenant.Keys) (s Status, isNew bool, err error) {
	dead, later := tx.Get(keys.Dead()), keys.CountDelayed(tx)
	records, err := tx.GetRange(keys.Head().Tree(), backend.RangeOptions{}).Get()
	if err != nil {
		return Status{}, false, err
	}
	var h tenant.Head
	if err := h.Records(keys.Head(), records); err != nil {
		return Status{}, false, err
	}
	s = Status{Locked: h.Lock.IsHeld(), Attempts: max(h.Attempts[0].Count, h.Attempts[1].Count, h.Lock.Record.Attempt),
		Unreadable: h.Unreadable.Text,
		Halted:     h.Attempts[0].Halts || h.Attempts[1].Halts || h.Lock.Record.Halted, Version: h.Meta.Schema,
		Label: h.Pin.Label}
	if s.Paused = h.Paused.Is(); s.Paused {
		s.PausedBy, s.PausedSince = h.Paused.By, time.UnixMilli(h.Paused.Since)
	}
	s.Lock = lockOf(h.Lock)
	if h.Meta.Created != 0 {
		s.Created = time.UnixMilli(h.Meta.Created)
	}
	if s.Failing, err = failingOf(tx, keys, &h); err != nil {
		return Status{}, false, err
	}
	if s.Queued, err = keys.Queue().Len(tx).Get(); err != nil {
		return Status{}, false, err
	}
	counter, err := dead.Get()
	if err != nil {
		return Status{}, false, err
	}
	if s.DeadLetters, err = backend.Counter(counter); err != nil {
		return Status{}, false, err
	}
	delayed, err := later.Get()
	s.Delayed = len(delayed)
	return s, !h.Pin.IsSet && h.Meta.Created == 0, err
}

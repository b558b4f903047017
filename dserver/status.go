package dserver

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Status is how a server is. That of a server of which nothing is stored is zero.
type Status struct {
	Queued, DeadLetters int64
	Delayed             int // sends with After that are not due yet; at most 1,000 are counted
	Locked, Halted      bool
	Attempts            int       // of a message that faulted and is tried again, or of locked work
	Version             int       // of the state's schema
	Created             time.Time // when it first had a state, by the clock of the consumer; zero when it has none
}

// Status tells how the server is, in one snapshot.
func (s *DServer[S]) Status(ctx context.Context) (Status, error) {
	if err := s.check(ctx, "Status"); err != nil {
		return Status{}, err
	}
	var status Status
	err := s.read(ctx, "read the status", func(tx backend.ReadTx, keys tenant) (err error) {
		status, err = statusOf(tx, keys)
		return err
	})
	if err != nil {
		return Status{}, err
	}
	return status, nil
}

func statusOf(tx backend.Reader, keys tenant) (Status, error) {
	dead, later := tx.Get(keys.dead()), keys.countDelayed(tx)
	records, err := tx.GetRange(keys.head().Tree(), backend.RangeOptions{}).Get()
	if err != nil {
		return Status{}, err
	}
	var h head
	if err := h.records(keys.head(), records); err != nil {
		return Status{}, err
	}
	s := Status{Locked: h.lock.isHeld(), Attempts: max(h.attempts[0].Count, h.attempts[1].Count, h.lock.record.Attempt),
		Halted: h.attempts[0].Halts || h.attempts[1].Halts || h.lock.record.Halted, Version: h.meta.Schema}
	if h.meta.Created != 0 {
		s.Created = time.UnixMilli(h.meta.Created)
	}
	if s.Queued, err = keys.queue().Len(tx); err != nil {
		return Status{}, err
	}
	counter, err := dead.Get()
	if err != nil {
		return Status{}, err
	}
	if s.DeadLetters, err = backend.Counter(counter); err != nil {
		return Status{}, err
	}
	delayed, err := later.Get()
	s.Delayed = len(delayed)
	return s, err
}

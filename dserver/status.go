package dserver

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// Status is what a server's records say of it. It is zero for a server of which nothing is stored.
type Status struct {
	Queued, DeadLetters int64
	Delayed             int // sends with After that are not due yet; at most 1,000 are counted
	Locked, Halted      bool
	Attempts            int       // of a message that faulted and is tried again, or of locked work
	Version             int       // of the state's schema
	Unreadable          string    // why a consumer could not read the state, and what to do; "" when none has said so
	Created             time.Time // when it first had a state, by the clock of the consumer; zero when it has none

	// Unhandled is the name of a message that is next, when none of the consumers that run the type has a handler for it, or
	// none of them knows the version of the state. It is "" otherwise, and when no consumer runs.
	Unhandled string
}

// Status reads the server's records in one snapshot.
func (s *DServer[S]) Status(ctx context.Context) (Status, error) {
	if err := s.check(ctx, "Status"); err != nil {
		return Status{}, err
	}
	return s.status(ctx)
}

func (h handle) status(ctx context.Context) (status Status, err error) {
	err = h.read(ctx, "read the status", func(tx backend.ReadTx, keys tenant) (err error) {
		if status, err = statusOf(tx, keys); err == nil && (status.Queued > 0 || status.Locked) {
			status.Unhandled, err = unhandledOf(tx, h.db, h.Ref(), status.Version)
		}
		return err
	})
	if err != nil {
		return Status{}, err
	}
	return status, nil
}

// unhandledOf is the name of a message that is next on a lane, or under the lock, and that no consumer of the type can
// handle.
func unhandledOf(tx backend.Reader, db backend.Database, ref Ref, schema int) (string, error) {
	found, err := ablesOf(tx, ref.Type)
	if err != nil {
		return "", err
	}
	if p := processOf(db); p != nil {
		found = p.others.living(found, time.Now())
	}
	if len(found) == 0 {
		return "", nil
	}
	names, err := tenantOf(ref).nextMessages(tx)
	for _, name := range names {
		if !isHandledBy(found, name, schema) {
			return name, nil
		}
	}
	return "", err
}

// nextMessages is the names of what is under the lock and of the first message of each lane, as far as they can be read.
func (t tenant) nextMessages(tx backend.Reader) (names []string, err error) {
	l, err := readLock(tx, t)
	if err != nil {
		return nil, err
	}
	if l.isHeld() {
		names = append(names, l.record.Name)
	}
	for _, lane := range []queue.Lane{queue.Priority, queue.Normal} {
		item, ok, err := t.queue().First(tx, t.queue().Lane(lane))
		if err != nil {
			return nil, err
		}
		if env, err := decodeEnvelope(item.Body); ok && err == nil {
			names = append(names, env.Name)
		}
	}
	return names, nil
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
		Unreadable: h.unreadable.Text,
		Halted:     h.attempts[0].Halts || h.attempts[1].Halts || h.lock.record.Halted, Version: h.meta.Schema}
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

package dserver

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
)

// Status is what a server's records say of it. It is zero for a server of which nothing is stored.
type Status struct {
	Queued, DeadLetters int64
	Delayed             int // sends with After that are not due yet; at most 1,000 are counted
	Locked, Halted      bool
	Attempts            int       // of a message that faulted and is tried again, or of locked work
	Failing             []Failing // what faulted and is tried again, or has halted the server: at most one of each lane, and locked work
	Lock                Lock      // what it is locked for; zero when it is not
	Paused              bool      // by an operator, until Resume
	PausedBy            string    // who did it, if that was said (WithActor)
	PausedSince         time.Time // zero when it is not paused
	Version             int       // of the state's schema
	Unreadable          string    // why a consumer could not read the state, and what to do; "" when none has said so
	Label               string    // of the consumers that run it (Pin); "" when it is not pinned
	Created             time.Time // when it first had a state, by the clock of the consumer; zero when it has none

	// Unhandled is the name of a message that is next, when none of the consumers that run the type has a handler for it, or
	// none of them knows the version of the state. It is "" otherwise, and when no consumer runs.
	Unhandled string

	// Unlisted: something waits, and consumers of the type run, none of which lists the server's label (Consumer.Labels). It
	// waits for one that does, or for Pin.
	Unlisted bool
}

// Failing is a message, or locked work, whose last attempt failed, and which is tried again or has halted its server
// (Settings.Halt). While it fails, the messages behind it wait.
type Failing struct {
	Stamp       backend.Versionstamp // names the message
	Message     string               // its name; "" when it cannot be read
	Priority    bool                 // it is next of those with Priority
	Locked      bool                 // it is under the lock, and not on the queue
	Attempts    int                  // that failed and were counted
	MaxAttempts int                  // of the consumer that counted the last one; 0 when that is not known
	Error       string               // why the last attempt failed; at most 4 KiB
	Stack       string               // of its panic, or where it did not return; at most 16 KiB
	Since       time.Time            // when the last attempt failed, by the clock of the consumer
	Next        time.Time            // when the next one is due, by that clock; zero when the server has halted
}

// Lock is what a server is locked for (HandleLocked).
type Lock struct {
	Stamp   backend.Versionstamp // names the message
	Message string               // its name
	Since   time.Time            // when the lock was taken for it, by the clock of the consumer that did
	Limit   time.Duration        // how long one attempt may take (Settings.WorkLimit); 0 when an older version took the lock
	Attempt int                  // that runs, or is due
	Process string               // of the holder, as Consumers lists it; "" when the lock was given up, and nobody has taken it yet
}

// IsZero reports whether nothing is stored of the server.
func (s Status) IsZero() bool {
	return s.Queued == 0 && s.DeadLetters == 0 && s.Delayed == 0 && !s.Locked && !s.Halted && !s.Paused && s.Attempts == 0 && len(s.Failing) == 0 &&
		s.Version == 0 && s.Unreadable == "" && s.Label == "" && s.Created.IsZero() && s.Unhandled == "" && !s.Unlisted
}

// publicStatus is a status as users see it.
func publicStatus(s operate.Status) Status {
	public := Status{
		Queued: s.Queued, DeadLetters: s.DeadLetters, Delayed: s.Delayed, Locked: s.Locked, Halted: s.Halted, Attempts: s.Attempts,
		Lock: Lock(s.Lock), Paused: s.Paused, PausedBy: s.PausedBy, PausedSince: s.PausedSince,
		Version: s.Version, Unreadable: s.Unreadable, Label: s.Label, Created: s.Created, Unhandled: s.Unhandled, Unlisted: s.Unlisted,
	}
	for _, f := range s.Failing {
		public.Failing = append(public.Failing, Failing(f))
	}
	return public
}

// Status reads the server's records in one snapshot.
func (s *handle) Status(ctx context.Context) (Status, error) {
	if err := s.check(ctx, "Status"); err != nil {
		return Status{}, err
	}
	status, err := s.operated(ctx).Status(ctx)
	if err != nil {
		return Status{}, public(err)
	}
	return publicStatus(status), nil
}

package dserver

import (
	"context"
	"time"
)

// Status is what a server's records say of it. It is zero for a server of which nothing is stored.
type Status struct {
	Queued, DeadLetters int64
	Delayed             int // sends with After that are not due yet; at most 1,000 are counted
	Locked, Halted      bool
	Attempts            int       // of a message that faulted and is tried again, or of locked work
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

// Status reads the server's records in one snapshot.
func (s *DServer[S]) Status(ctx context.Context) (Status, error) {
	if err := s.check(ctx, "Status"); err != nil {
		return Status{}, err
	}
	status, err := s.operated().Status(ctx)
	if err != nil {
		return Status{}, public(err)
	}
	return Status(status), nil
}

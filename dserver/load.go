package dserver

import (
	"context"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
)

// Load is what the consumers of this process have in hand, for metrics.
type Load struct {
	Types      []string  // that they run, in order
	Turns      int       // that run
	Waiting    int       // servers that wait for a worker
	Work       int       // locks that are held for work
	OldestLock time.Time // since when this process holds the lock that it holds for longest; zero for none
	Servers    int       // that are remembered, with their states or without
	CacheBytes int64     // of states of servers that are idle, at most Consumer.Cache for each
	Watches    int       // that wait on the store
}

// LoadOf is what the consumers of this process have in hand that run with db. It reads nothing of the store.
func LoadOf(db backend.Database) Load { return Load(operate.LoadOf(plain(db))) }

// Backlog is what waits for the servers of one type.
type Backlog struct {
	Servers int       // that have something to do, or wait for something: a back-off, a lock, another program
	Queued  int64     // messages on their queues
	Oldest  time.Time // when the oldest of the messages that are next was sent, with After before that; zero when none is, or they are timers' or large
	Overdue int       // timers and messages with After that are due and not queued yet
	More    bool      // there is more than was looked at, so the numbers are lower bounds
}

// BacklogOf looks at what waits for the servers of a type that are not pinned. What it reads is bounded: of each of the type's 8
// shards 128 servers with something to do and 128 that wait, and 1,000 timers, those of types that share it among them. It
// conflicts with nobody. It may be asked every few seconds, by one process.
func BacklogOf(ctx context.Context, db backend.Database, typ string) (Backlog, error) {
	if err := refuseTurn(ctx, "BacklogOf"); err != nil {
		return Backlog{}, err
	}
	b, err := operate.BacklogOf(ctx, plain(db), typ)
	if err != nil {
		return Backlog{}, public(fmt.Errorf("dserver: look at the backlog of %q: %w", typ, err))
	}
	return Backlog(b), nil
}

package dserver

import (
	"context"
	"iter"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/operate"
)

// Presence is a process that runs consumers, as it told of itself when it beat last. It beats every 10 to 13 seconds, and
// when a consumer of its begins or ends; what it has in hand is as old as that. The consumers of one process and database,
// each a Run, are one Presence with the sum of what they have in hand.
//
// It says that the process lived then, not that it lives: a process that was killed stays listed until others have seen
// its record stand still for ten minutes. One that stopped in order is gone at once.
type Presence struct {
	Process string    // names it in keys and log lines: random, and another one for each database that it has open
	Host    string    // what its system calls itself; anybody's text
	PID     int       // in the system, or the container, of that name
	Version string    // of its main module, with the commit where that does not tell it; (devel) without one, "" when unknown
	Types   []string  // that it runs, in order; nil when their names are longer than 8 KiB together
	Labels  []string  // that it lists (Consumer.Labels), in order; nil is "" alone, and more than 8 KiB of them
	Since   time.Time // when it began to run consumers, by its clock
	Beat    time.Time // when it beat last, by its clock

	Turns   int // that ran, at most Consumer.Turns for each of its consumers; without those of Info
	Waiting int // servers with something to do that waited for a turn; some thousands at most, as it looks for no more then
	Work    int // locks that it held for work, which ran or waited for its next attempt; at most Consumer.Work for each

	// Handled is how many messages its consumers have handled since it began, by type, whatever became of them: the difference of
	// two beats is its throughput. It is nil for a process of a version that does not tell it, and where Types is.
	Handled map[string]int64

	// What the reading process has seen by its own clock, if it runs a consumer with the same database handle: it looks at all
	// others every 10 to 13 seconds. Neither is true when it runs none, or has not looked for long enough.
	Alive bool // it has beaten since this process first saw it, and not long ago; or it is this process
	Dead  bool // its record has stood still for half a minute. A process that is frozen looks so, too, and may come back

	// Ahead is how far its clock was ahead of that of the reading process when it beat, at least; behind, if it is negative.
	// It is 0 when no difference was seen, and when the reading process runs no consumer with this handle. A difference of a
	// second takes some minutes to be seen, of 10 seconds less than one. One that is behind by less than 6 seconds is seen
	// by that process alone, to which the others are ahead.
	Ahead time.Duration

	// Unreadable says why its record cannot be read; "" when it can. Then only Process, Alive and Dead are known, and it may be
	// a process that only sends.
	Unreadable string
}

// Consumers yields the processes that run consumers on a database, in no order that means anything. Processes that only
// send are left out. A process of an older version of the library has no Since and no Version, and does not tell what it
// has in hand. An error ends the list. It reads page by page, so the loop may take its time.
func Consumers(ctx context.Context, db backend.Database) iter.Seq2[Presence, error] {
	return func(yield func(Presence, error) bool) {
		if err := refuseTurn(ctx, "Consumers"); err != nil {
			yield(Presence{}, err)
			return
		}
		for c, err := range operate.Consumers(ctx, plain(db)) {
			if err != nil {
				yield(Presence{}, err)
				return
			}
			if !yield(presenceOf(c), nil) {
				return
			}
		}
	}
}

func presenceOf(c operate.Consumer) Presence {
	r := c.Record
	p := Presence{
		Process: c.Process, Host: r.Host, PID: r.PID, Version: r.Version, Types: r.Types, Labels: r.Labels,
		Turns: r.Turns, Waiting: r.Waiting, Work: r.Work, Handled: r.Handled,
		Alive: c.Alive, Dead: c.Dead, Ahead: c.Ahead,
	}
	if c.Damage != nil {
		p.Unreadable = c.Damage.Error()
		return p
	}
	if p.Beat = time.UnixMilli(r.Beat); r.Since != 0 {
		p.Since = time.UnixMilli(r.Since)
	}
	return p
}

package postgres

import "sync/atomic"

// Stats counts what a handle has met since Open.
type Stats struct {
	Commits   int64 // transactions that were committed
	Groups    int64 // commits of the server that held them
	Conflicts int64 // attempts that lost a race and were run again
	Outages   int64 // attempts that met a server that was not there, and were run again
	Unknown   int64 // groups whose commit ended without an answer
	Landed    int64 // of those, found to be committed
	Fenced    int64 // of those, kept from ever being committed, and run again
	Watches   int64 // that are set now
}

type counters struct{ commits, groups, conflicts, outages, unknown, landed, fenced atomic.Int64 }

// Stats counts what the handle has met since Open.
func (db *DB) Stats() Stats {
	c := &db.counts
	watches, _ := db.watches.Count()
	return Stats{
		Commits: c.commits.Load(), Groups: c.groups.Load(), Conflicts: c.conflicts.Load(), Outages: c.outages.Load(),
		Unknown: c.unknown.Load(), Landed: c.landed.Load(), Fenced: c.fenced.Load(), Watches: int64(watches),
	}
}

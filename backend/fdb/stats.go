package fdb

import "sync/atomic"

// Stats counts what a handle has met since Open.
type Stats struct {
	Commits   int64 // transactions that were committed
	Groups    int64 // commits that they were: those that wait for others' commits are committed together
	Conflicts int64 // attempts that lost a race, or were refused for a while, and were run again
	Forgotten int64 // attempts that relied on what was remembered, in vain, and were run again
	Unknown   int64 // attempts whose commit ended without an answer
	Landed    int64 // of those, found to be committed
	Fenced    int64 // of those, kept from ever being committed, and run again
	Watches   int64 // that are set now
}

type counters struct{ commits, groups, conflicts, forgotten, unknown, landed, fenced, watches atomic.Int64 }

func (c *counters) read() Stats {
	return Stats{
		Commits: c.commits.Load(), Groups: c.groups.Load(), Conflicts: c.conflicts.Load(), Forgotten: c.forgotten.Load(),
		Unknown: c.unknown.Load(), Landed: c.landed.Load(), Fenced: c.fenced.Load(), Watches: c.watches.Load(),
	}
}

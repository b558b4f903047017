package mailbox

import (
	"maps"
	"slices"
	"time"
)

// Load is what the consumers of this process have in hand.
type Load struct {
	Types      []string // in order
	Turns      int
	Waiting    int // servers, for a worker
	Work       int // locks that are held for it
	OldestLock time.Time
	Servers    int // that are remembered
	CacheBytes int64
	Watches    int
}

// Load sums up what the consumers of this process have in hand. A process that is not there has nothing.
func (p *Process) Load() (all Load) {
	if p == nil {
		return all
	}
	all.Types = slices.Sorted(maps.Keys(*p.members.Load()))
	for m := range p.all() {
		l := m.Load()
		all.Turns, all.Waiting, all.Work = all.Turns+l.Turns, all.Waiting+l.Waiting, all.Work+l.Work
		all.Servers, all.CacheBytes, all.Watches = all.Servers+l.Servers, all.CacheBytes+l.CacheBytes, all.Watches+l.Watches
		if !l.OldestLock.IsZero() && (all.OldestLock.IsZero() || l.OldestLock.Before(all.OldestLock)) {
			all.OldestLock = l.OldestLock
		}
	}
	return all
}

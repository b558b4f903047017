package occ

import (
	"math"
	"sync/atomic"
	"time"
)

// Log is what a handle knows of the commits: the records of its own groups, what ranges were a moment ago, and when
// another process was last seen to commit.
type Log struct {
	errors *Errors
	opened time.Time
	last   atomic.Pointer[Record] // the newest commits
	shared atomic.Int64           // when another process was last seen to commit, by Clock; 0 is never
	recent recent
}

// NewLog returns the log of a handle that knows of no commit.
func NewLog(errors *Errors) *Log {
	l := &Log{errors: errors, opened: time.Now()}
	l.last.Store(&Record{})
	return l
}

// sharedFor is how long a store counts as shared after another process was seen to commit.
const sharedFor = time.Second

// Clock is the time since NewLog in nanoseconds.
func (l *Log) Clock() int64 { return int64(time.Since(l.opened)) }

// Newest returns the newest record. All that it and those before it hold is in every snapshot that begins later.
func (l *Log) Newest() *Record { return l.last.Load() }

// Publish makes a committed group known to this process. Its writes lose the values that nobody needs any more.
func (l *Log) Publish(group *Record) {
	for x := range group.points.all() {
		if len(x.Value) > RecentValue {
			x.Value = nil // the record needs the key alone
		}
	}
	l.last.Load().next.Store(group)
	l.last.Store(group)
	l.recent.age()
}

// SawForeign notes that another process commits.
func (l *Log) SawForeign() {
	if now := l.Clock(); l.shared.Load() < now {
		l.shared.Store(now)
	}
}

// SinceForeign returns how long ago another process was last seen to commit, if ever.
func (l *Log) SinceForeign() (time.Duration, bool) {
	seen := l.shared.Load()
	if seen == 0 {
		return 0, false // without a look at the clock, as is usual
	}
	return time.Duration(l.Clock() - seen), true
}

// IsShared reports whether another process was seen to commit a short time ago.
func (l *Log) IsShared() bool {
	ago, ok := l.SinceForeign()
	return ok && ago < sharedFor
}

// ExpectForeign takes it that others commit, however long ago they were seen to. Tests use it.
func (l *Log) ExpectForeign() { l.shared.Store(math.MaxInt64) }

// ForgetForeign takes it that nobody else commits, as after a second without. Tests use it.
func (l *Log) ForgetForeign() { l.shared.Store(0) }

// Remembered tells for tests how many ranges are remembered, and how many bytes they are counted for.
func (l *Log) Remembered() (ranges, bytes int) {
	c := &l.recent
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, generation := range []map[string]remembered{c.young, c.old} {
		for _, e := range generation {
			ranges++
			bytes += recentEntry + sizeOf(e.pairs)
		}
	}
	return ranges, bytes
}

// Forget drops what is remembered of ranges. Tests use it.
func (l *Log) Forget() {
	l.recent.mu.Lock()
	defer l.recent.mu.Unlock()
	l.recent.turn()
	l.recent.turn()
}

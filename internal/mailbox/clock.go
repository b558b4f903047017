package mailbox

import (
	"bytes"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/tenant"
)

// How far the clocks of other processes are from this one's. Timers and After go by the clock of whichever consumer moves
// them, so operators are told of a difference. Nothing is decided by it.
//
//  1. A beat has the time of its writer. It was committed after the look that did not see it yet began, and before the look
//     that saw it ended; and it was written at most backend.MaxDuration before its commit. So it bounds the difference from
//     both sides. A record that has not changed since the last look, or that was not there then, may be of any age: it says
//     nothing.
//  2. Looks and beats are jittered, so that many beats narrow the bounds. The smallest difference that they leave is told.
//     A clock that is behind by less than backend.MaxDuration cannot be told from a slow commit: its own process sees all
//     others ahead.
//  3. One beat may mislead, as when a clock was set, or its writer stood still before the commit. So a bound is the second
//     best that was seen.
//  4. Clocks are put right. So only the last beats count, and when bounds contradict each other, none does.
const (
	clockLimit = time.Second         // a difference beyond it is logged, once for a process
	clockBeats = 64                  // so many beats count, and at most twice as many
	clockMax   = 876_000 * time.Hour // of a bound, a century: a beat may be any number

	// maxClockLines bounds the processes that are there and were logged: when so many differ, it is this one's clock.
	maxClockLines = 16
)

// clocks is what one process knows of the clocks of the others. Its zero value knows nothing.
type clocks struct {
	mu           sync.Mutex
	began, ended time.Time // the last look
	seen         map[string]*clock
}

// clock is what is known of the clock of one process.
type clock struct {
	record      []byte
	now, before span
	told        bool
}

// span is what some beats say: that the clock is ahead, and that it is behind, by so much at least; the two best of each.
type span struct {
	beats         int
	ahead, behind [2]time.Duration
}

func (s span) with(ahead, behind time.Duration) span {
	if s.beats == 0 {
		s.ahead, s.behind = [2]time.Duration{-clockMax, -clockMax}, [2]time.Duration{-clockMax, -clockMax}
	}
	return span{s.beats + 1, greatest(s.ahead, ahead), greatest(s.behind, behind)}
}

func greatest(two [2]time.Duration, d time.Duration) [2]time.Duration {
	switch {
	case d > two[0]:
		return [2]time.Duration{d, two[0]}
	case d > two[1]:
		return [2]time.Duration{two[0], d}
	}
	return two
}

// look compares the beats that are new since the last look. It returns who differs and was not told yet. Of looks beside
// each other, as several consumers of a process have, one is left out: it may be older than what was seen.
func (c *clocks) look(records map[string][]byte, began, ended time.Time) (differ []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began.Before(c.ended) {
		return nil
	}
	seen, told := make(map[string]*clock, len(records)), 0
	for id, record := range records {
		k := c.seen[id]
		switch {
		case record == nil:
			continue
		case k == nil:
			k = &clock{record: record}
		case !bytes.Equal(k.record, record):
			k.compare(record, c.began, ended)
		}
		if seen[id] = k; k.told {
			told++
		}
	}
	c.seen, c.began, c.ended = seen, began, ended
	for id, k := range seen {
		if !k.told && told < maxClockLines && k.ahead().Abs() > clockLimit {
			k.told = true
			told++
			differ = append(differ, id)
		}
	}
	return differ
}

// compare is one beat, which was committed between two moments of this process.
func (k *clock) compare(record []byte, since, until time.Time) {
	k.record = record
	var r tenant.ProcessRecord
	if tenant.DecodeRecord(record, &r) != nil {
		return
	}
	written := time.UnixMilli(r.Beat)
	k.now = k.now.with(bounded(written.Sub(until)), bounded(since.Add(-backend.MaxDuration).Sub(written)))
	if ahead, behind := k.bounds(); ahead+behind > 0 {
		k.now, k.before = span{}, span{}
	}
	if k.now.beats == clockBeats {
		k.now, k.before = span{}, k.now
	}
}

func bounded(d time.Duration) time.Duration { return min(max(d, -clockMax), clockMax) }

// bounds is how far the clock is ahead, and how far it is behind, at least.
func (k *clock) bounds() (ahead, behind time.Duration) {
	all := k.now
	if k.before.beats > 0 {
		for i := range 2 {
			all = all.with(k.before.ahead[i], k.before.behind[i])
		}
	}
	return all.ahead[1], all.behind[1]
}

// ahead is how far a clock is ahead of this process's, at least; behind, if it is negative. It is 0 when that is not known.
func (k *clock) ahead() time.Duration {
	if k == nil {
		return 0
	}
	ahead, behind := k.bounds()
	return max(ahead, 0) - max(behind, 0)
}

func (c *clocks) of(id string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[id].ahead()
}

// compareClocks is a look at all records that has just ended. It logs who differs.
func (p *Process) compareClocks(found map[string][]byte, began time.Time, log zerolog.Logger) {
	for _, id := range p.clocks.look(found, began, time.Now()) {
		var r tenant.ProcessRecord
		_ = tenant.DecodeRecord(found[id], &r) // it was read a moment ago
		log.Warn().Str(logs.Process, id).Str(logs.Host, r.Host).Int(logs.PID, r.PID).
			Stringer(logs.Ahead, p.clocks.of(id).Round(time.Millisecond)).
			Msg("the clock of another process differs from this one's")
	}
}

// Known is what this process knows of one whose record was just read: whether it lives, and how far its clock is ahead of
// this one's, at least. A process that runs no consumer looks at nobody, and knows nothing.
func (p *Process) Known(id string, record []byte) (Life, time.Duration) {
	switch {
	case p == nil:
		return Unproven, 0
	case id == p.ID:
		return Alive, 0
	}
	return p.Others.Weigh(id, record, time.Now()), p.clocks.of(id)
}

package console

import (
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// rates is how many messages consumers handle in a second, by what they tell with their beats: between two beats of a process it
// is the difference of what it had handled. So it is known from the second beat on that was seen, and is as old as that.
type rates map[string]*rate // by process

// rate is what was seen of a process.
type rate struct {
	beat    time.Time
	handled map[string]int64
	seen    time.Time          // when the beat was new, by the clock of this process
	perType map[string]float64 // in a second; nil before the second beat
}

// see takes what the processes tell now. It returns how much is handled of each type; nil when no process has told that twice.
func (all *rates) see(now time.Time, consumers []dserver.Presence) (perType map[string]float64) {
	known := *all
	*all = make(rates, len(consumers)) // those that have gone are forgotten
	for _, p := range consumers {
		if p.Handled == nil {
			continue
		}
		r := known[p.Process]
		switch {
		case r == nil:
			r = &rate{beat: p.Beat, handled: p.Handled, seen: now}
		case p.Beat.After(r.beat):
			r = &rate{beat: p.Beat, handled: p.Handled, seen: now, perType: between(r, p)}
		case now.Sub(r.seen) > silence:
			r.perType = nil
		}
		(*all)[p.Process] = r
		for typ, n := range r.perType {
			if perType == nil {
				perType = map[string]float64{}
			}
			perType[typ] += n
		}
	}
	return perType
}

// between is the rate from a beat to the next.
func between(was *rate, is dserver.Presence) map[string]float64 {
	seconds := is.Beat.Sub(was.beat).Seconds()
	perType := make(map[string]float64, len(is.Handled))
	for typ, n := range is.Handled {
		perType[typ] = float64(max(n-was.handled[typ], 0)) / seconds // a consumer that has ended takes its count with it
	}
	return perType
}

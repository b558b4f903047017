package tenant

import (
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Retention is for how long dead letters are kept, and how many; 0 is for ever, and all.
type Retention struct {
	Age   time.Duration
	Count int
}

// Is reports whether there is a bound.
func (r Retention) Is() bool { return r != Retention{} }

// maxSwept is how many rows of dead letters one transaction reads.
const maxSwept = 100

// SweepLetters removes the oldest dead letters that are beyond a bound, some of them: it reports how many, and whether there may
// be more. They are looked at in the order in which they were pushed, up to the first that is to be kept. One that somebody
// retries or discards meanwhile is a conflict. One that cannot be read is kept, for people.
func (t Keys) SweepLetters(tx backend.Tx, r Retention, now time.Time) (swept int, more bool, err error) {
	counter, err := Peek(tx, t.Dead())
	if err != nil {
		return 0, false, err
	}
	count, err := backend.Counter(counter)
	if err != nil {
		return 0, false, err
	}
	pairs, err := tx.GetRange(t.Dead().Below(), backend.RangeOptions{Limit: maxSwept, Snapshot: true}).Get()
	if err != nil {
		return 0, false, err
	}
	var beyond []backend.Versionstamp
	ended := false
	for _, pair := range pairs {
		stamp, isLetter := pair.Key.CutStamp(t.Dead())
		if !isLetter {
			continue // a row of a large one
		}
		var l Letter
		if DecodeRecord(pair.Value, &l) != nil {
			continue
		}
		isOld := r.Age > 0 && now.Sub(time.UnixMilli(l.Since)) > r.Age
		isMany := r.Count > 0 && count-int64(len(beyond)) > int64(r.Count)
		if ended = !isOld && !isMany; ended {
			break
		}
		beyond = append(beyond, stamp)
	}
	for _, stamp := range beyond { // they were read as a snapshot
		if _, err := tx.Get(t.Dead().Stamp(stamp)).Get(); err != nil {
			return 0, false, err
		}
	}
	for _, stamp := range beyond {
		t.RemoveLetter(tx, stamp)
	}
	return len(beyond), len(beyond) > 0 && !ended && len(pairs) == maxSwept, nil
}

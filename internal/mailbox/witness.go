package mailbox

import (
	"bytes"
	"sync"
	"time"
)

// What a process knows of the others' lives. The one evidence of a death is a process record that is gone, or that stood
// still for long: by the observer's own clock, over several looks that were never far apart. A process that is slow or
// overloaded still beats; one that is frozen cannot be told from a dead one, so nothing final rests on one death alone
// (consumer/claim.go).
const (
	ConsumerBeat = 10 * time.Second

	// vanishedBeats is how many beats a record stands still before its process counts as dead.
	vanishedBeats = 3
)

// Life is what an observer knows of a process.
type Life int

const (
	Unproven Life = iota // its record is there, and was not seen to change yet
	Alive                // its record was seen to change, not long ago
	Dead                 // its record is gone, or has stood still
)

// sighting is a process record as it was seen.
type sighting struct {
	record []byte
	since  time.Time // the first look that found it so
	last   time.Time // the last one
	moved  bool      // it was another one before, and there was no gap between the looks
}

// next is the sighting after one more look. A look that is far from the one before it proves nothing but a change: the
// store, or the observer, may have been away.
func (s sighting) next(record []byte, now time.Time, gap time.Duration) sighting {
	switch {
	case s.last.IsZero():
		return sighting{record: record, since: now, last: now}
	case !bytes.Equal(s.record, record):
		return sighting{record: record, since: now, last: now, moved: true}
	case now.Sub(s.last) > gap:
		return sighting{record: record, since: now, last: now}
	}
	s.last = now
	return s
}

// still is for how long the record has been seen unchanged.
func (s sighting) still() time.Duration { return s.last.Sub(s.since) }

// Witness is what one process has seen of the others. Its zero value has seen nothing.
type Witness struct {
	mu   sync.Mutex
	beat time.Duration // how often the record of a consumer changes; 0: ConsumerBeat
	seen map[string]sighting
}

// pace is the interval of the beats. The mutex is held.
func (w *Witness) pace() time.Duration {
	if w.beat == 0 {
		return ConsumerBeat
	}
	return w.beat
}

// Interval is how often consumers beat.
func (w *Witness) Interval() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pace()
}

// SetInterval says how often they do.
func (w *Witness) SetInterval(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beat = d
}

// gap is how far apart two looks may be. So there are three of them at least before a death is proven.
func (w *Witness) gap() time.Duration { return w.pace() * vanishedBeats / 2 }

// Weigh is what one more look at a process makes known of it. Nothing is remembered: the look may be one of a
// transaction that runs again.
func (w *Witness) Weigh(id string, record []byte, now time.Time) Life {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lifeOf(w.seen[id].next(record, now, w.gap()))
}

// lifeOf judges a sighting. The mutex is held.
func (w *Witness) lifeOf(s sighting) Life {
	switch {
	case s.record == nil, s.still() >= vanishedBeats*w.pace():
		return Dead
	case s.moved:
		return Alive
	}
	return Unproven
}

// Note remembers looks.
func (w *Witness) Note(records map[string][]byte, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]sighting{}
	}
	for id, record := range records {
		w.seen[id] = w.seen[id].next(record, now, w.gap())
	}
}

// noteAll remembers looks at all processes that there are, and forgets the others.
func (w *Witness) noteAll(records map[string][]byte, now time.Time) {
	w.Note(records, now)
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.seen {
		if _, ok := records[id]; !ok {
			delete(w.seen, id)
		}
	}
}

// of is what was seen of a process, and what it proves.
func (w *Witness) of(id string) (sighting, Life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seen[id]
	return s, w.lifeOf(s)
}

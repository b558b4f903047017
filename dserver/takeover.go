package dserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/queue"
)

// The taking over of a dead holder's lock: step 5 of hold.go.

// sight is a lock of another process, as this one has seen it.
type sight struct {
	fence backend.Versionstamp
	beat  string
	since time.Time
	last  time.Time
}

// isDead reports whether the holder of a lock has to be taken for dead. Looks that are far apart prove nothing: the
// store, or this process, may have been away.
func (s *sight) isDead(l lock, now time.Time) bool {
	if l.beat == vacant {
		return true
	}
	if s.fence != l.fence || s.beat != l.beat || now.Sub(s.last) > lookGap {
		*s = sight{l.fence, l.beat, now, now}
		return false
	}
	s.last = now
	return now.Sub(s.since) >= lease
}

// watchLock looks at a lock, and takes it over when its holder is dead. A consumer that ends takes none: it would give
// it up at once, and find it again.
func (t *turn) watchLock() nextTurn {
	c, ref, l := t.c, t.s.ref(), t.head.lock
	if t.waits == forever {
		t.waits = 0
	}
	if c.holds(ref, l.fence) || l.record.Halted || t.s.def.locked[l.record.Name] == nil {
		return nextTurn{after: t.waits} // its end makes us look, or whoever lets it go on
	}
	t.s.state = state{} // while it waits, the cache does not count it
	beat, dead, next := t.observe()
	if !dead || c.taking.Err() != nil {
		return nextTurn{after: soonest(t.waits, next)}
	}
	if !t.book() {
		return t.awaitPlace()
	}
	took, err := c.takeOver(ref, t.s.def, l, beat)
	if t.booked = t.booked && !took; err != nil {
		return t.failed(err)
	}
	return nextTurn{now: !took, after: t.waits}
}

// observe reports whether the holder of a lock is dead, and with which beat, and when the lock itself has to be looked at
// again. A holder of a version that beat each lock is watched there.
func (t *turn) observe() (beat string, dead bool, next time.Duration) {
	c, ref, l := t.c, t.s.ref(), t.head.lock
	if l.beat == vacant || l.beat == c.holderName() {
		return "", true, 0
	}
	if _, _, ok := holderKeys(l.beat); !ok {
		return "", t.s.trouble().sight.isDead(l, time.Now()), lookEvery
	}
	beat, dead = c.vigil.watch(ref, l, time.Now())
	c.keepVigil()
	return beat, dead, 0
}

// takeOver takes a dead holder's lock, if it still is as it was seen, and its holder has not beaten since.
func (c *consumer) takeOver(ref Ref, def *definition, seen lock, beat string) (took bool, err error) {
	h := &holder{ref: ref, def: def, handler: def.locked[seen.record.Name]}
	var version backend.Future[backend.Versionstamp]
	err = c.db.Transact(c.base, func(tx backend.Tx) error {
		version, err = h.take(tx, c.holderName(), seen, beat)
		return err
	})
	if errors.Is(err, errLost) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if h.lock.fence, err = version.Get(); err != nil {
		return false, err
	}
	c.vigil.forget(ref)
	h.about(c.log.Warn()).Msg("took over the lock of a consumer that vanished")
	if h.lock.record.Halted {
		h.tellHalted(c, errVanished)
		return false, nil
	}
	c.hold(h)
	return true, nil
}

// take writes the new lock.
func (h *holder) take(tx backend.Tx, name string, seen lock, beat string) (version backend.Future[backend.Versionstamp], err error) {
	keys := tenantOf(h.ref)
	now, err := readLock(tx, keys)
	if err != nil {
		return version, err
	}
	message, err := keys.lockedItems(tx)
	if err != nil {
		return version, err
	}
	switch {
	case now != seen:
		return version, errLost
	case len(message) == 0:
		return version, fmt.Errorf("%w: a lock without its message", backend.ErrCorrupt)
	}
	told, err := noticeTo(tx, seen.beat)
	if err != nil {
		return version, err
	}
	if err := hasStoodStill(tx, seen.beat, beat); err != nil {
		return version, err
	}
	if h.env, err = decodeEnvelope(message[0].Body); err != nil {
		return version, err
	}
	h.item = queue.Item{Stamp: seen.record.Stamp, Body: message[0].Body}
	h.lock = lock{record: seen.record, beat: name}
	h.lock.record.Wait = 0
	if seen.beat != vacant {
		h.lock.record.Attempt++ // the work may have killed its process
	}
	if h.spent = h.lock.record.Attempt > h.def.settings.maxAttempts; h.spent {
		h.lock.record.Attempt = h.def.settings.maxAttempts
		h.lock.record.Halted = h.def.settings.halt
	}
	tx.Set(keys.lock(), encodeRecord(h.lock.record))
	tx.Set(keys.beat(), []byte(name))
	tx.Stamp(keys.fence())
	told.write(tx)
	return tx.Version(), nil
}

// hasStoodStill is errLost when a holder has beaten since it was taken for dead. One whose name is in no beat was not.
func hasStoodStill(tx backend.Reader, holder, beat string) error {
	key, _, ok := holderKeys(holder)
	if !ok || beat == "" {
		return nil
	}
	value, err := tx.Get(key).Get()
	if err == nil && beatOf(value) != beat {
		err = errLost
	}
	return err
}

package dserver

import (
	"crypto/rand"
	"errors"
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

// takeOver takes a dead holder's lock, if it still is as it was seen.
func (c *consumer) takeOver(ref Ref, def *definition, seen lock) error {
	keys := tenantOf(ref)
	handler := def.locked[seen.record.Name]
	if handler == nil || seen.record.Halted {
		return nil
	}
	h := &holder{ref: ref, def: def, handler: handler}
	var version backend.Future[backend.Versionstamp]
	err := c.db.Transact(c.base, func(tx backend.Tx) error {
		now, err := readLock(tx, keys)
		if err != nil {
			return err
		}
		if now != seen {
			return errLost
		}
		message := readLarge(tx, keys.lockedMessage())
		body, err := message.get()
		if err != nil {
			return err
		}
		if h.env, err = decodeEnvelope(body); err != nil {
			return err
		}
		h.item = queue.Item{Stamp: seen.record.Stamp, Body: body}
		h.lock = lock{record: seen.record, beat: rand.Text()}
		if seen.beat != vacant {
			h.lock.record.Attempt++ // the work may have killed its process
		}
		h.lock.record.Wait = 0
		if h.spent = h.lock.record.Attempt > def.settings.maxAttempts; h.spent {
			h.lock.record.Attempt = def.settings.maxAttempts
			h.lock.record.Halted = def.settings.halt
		}
		tx.Set(keys.lock(), encodeRecord(h.lock.record))
		tx.Set(keys.beat(), []byte(h.lock.beat))
		tx.Stamp(keys.fence())
		version = tx.Version()
		return nil
	})
	if errors.Is(err, errLost) {
		return nil
	}
	if err != nil {
		return err
	}
	if h.lock.fence, err = version.Get(); err != nil {
		return err
	}
	h.about(c.log.Warn()).Msg("took over the lock of a consumer that vanished")
	if h.lock.record.Halted {
		h.tellHalted(c, errVanished.Text)
		return nil
	}
	c.hold(h)
	return nil
}

package lease

import (
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/queue"
)

// The taking over of a dead holder's lock: step 5 of hold.go.

// Sight is a lock of another process, as this one has seen it.
type Sight struct {
	fence backend.Versionstamp
	beat  string
	since time.Time
	last  time.Time
}

// isDead reports whether the holder of a lock has to be taken for dead. Looks that are far apart prove nothing: the
// store, or this process, may have been away.
func (s *Sight) isDead(l tenant.Lock, now time.Time) bool {
	if l.Beat == tenant.Vacant {
		return true
	}
	if s.fence != l.Fence || s.beat != l.Beat || now.Sub(s.last) > lookGap {
		*s = Sight{l.Fence, l.Beat, now, now}
		return false
	}
	s.last = now
	return now.Sub(s.since) >= term
}

// Observe reports whether the holder of a lock is dead, and with which beat, and when the lock itself has to be looked at
// again. A holder of a version that beat each lock is watched there: seen is that sight.
func (k *Keeper) Observe(ref tenant.Ref, l tenant.Lock, seen func() *Sight) (beat string, dead bool, next time.Duration) {
	if l.Beat == tenant.Vacant || l.Beat == k.env.HolderName() {
		return "", true, 0
	}
	if _, _, ok := tenant.HolderKeys(l.Beat); !ok {
		return "", seen().isDead(l, time.Now()), lookEvery
	}
	beat, dead = k.vigil.watch(ref, l, time.Now())
	k.keepVigil()
	return beat, dead, 0
}

// Forget ends the watch of a lock that is no more.
func (k *Keeper) Forget(ref tenant.Ref) { k.vigil.forget(ref) }

// TakeOver takes a dead holder's lock, if it still is as it was seen, and its holder has not beaten since.
func (k *Keeper) TakeOver(ref tenant.Ref, def *turn.Definition, seen tenant.Lock, beat string) (took bool, err error) {
	h := &holder{k: k, ref: ref, def: def, handler: def.Locked[seen.Record.Name]}
	var version backend.Future[backend.Versionstamp]
	err = k.env.DB.Transact(k.env.Base, func(tx backend.Tx) error {
		version, err = h.take(tx, k.env.HolderName(), seen, beat)
		return err
	})
	if errors.Is(err, turn.ErrLost) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if h.lock.Fence, err = version.Get(); err != nil {
		return false, err
	}
	k.vigil.forget(ref)
	h.about(k.log.Warn()).Msg("took over the lock of a consumer that vanished")
	if h.lock.Record.Halted {
		h.tellHalted(turn.Vanished)
		return false, nil
	}
	k.hold(h)
	return true, nil
}

// take writes the new lock.
func (h *holder) take(tx backend.Tx, name string, seen tenant.Lock, beat string) (version backend.Future[backend.Versionstamp], err error) {
	keys := tenant.KeysOf(h.ref)
	now, err := tenant.ReadLock(tx, keys)
	if err != nil {
		return version, err
	}
	message, err := keys.LockedItems(tx)
	if err != nil {
		return version, err
	}
	switch {
	case now != seen:
		return version, turn.ErrLost
	case len(message) == 0:
		return version, fmt.Errorf("%w: a lock without its message", backend.ErrCorrupt)
	}
	told, err := tenant.NoticeTo(tx, seen.Beat)
	if err != nil {
		return version, err
	}
	if err := hasStoodStill(tx, seen.Beat, beat); err != nil {
		return version, err
	}
	if h.env, err = tenant.DecodeEnvelope(message[0].Body); err != nil {
		return version, err
	}
	h.item = queue.Item{Stamp: seen.Record.Stamp, Body: message[0].Body}
	h.lock = tenant.Lock{Record: seen.Record, Beat: name}
	h.lock.Record.Wait = 0
	if seen.Beat != tenant.Vacant {
		h.lock.Record.Attempt++ // the work may have killed its process
	}
	if h.spent = h.lock.Record.Attempt > h.def.Settings.MaxAttempts; h.spent {
		h.lock.Record.Attempt = h.def.Settings.MaxAttempts
		h.lock.Record.Halted = h.def.Settings.Halt
	}
	keys.Take(tx, h.lock.Record, name)
	if seen.Beat != tenant.Vacant {
		keys.SetLockFailure(tx, h.failure(vanished))
	}
	told.Write(tx)
	return tx.Version(), nil
}

// hasStoodStill is ErrLost when a holder has beaten since it was taken for dead. One whose name is in no beat was not.
func hasStoodStill(tx backend.Reader, holder, beat string) error {
	key, _, ok := tenant.HolderKeys(holder)
	if !ok || beat == "" {
		return nil
	}
	value, err := tx.Get(key).Get()
	if err == nil && beatOf(value) != beat {
		err = turn.ErrLost
	}
	return err
}

// vanished is why an attempt failed whose holder was taken for dead.
var vanished = &turn.Fault{Text: "the consumer vanished while it worked"}

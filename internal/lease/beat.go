package lease

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// The beat of a consumer that holds locks: step 2 of hold.go. It is one for all of its locks, so that a thousand cost no
// more than one.
//
//  1. Each lock names its holder. While a consumer holds any, it writes something new into its beat each beatEvery.
//  2. No beat of a holder for lateAfter: others may soon take its locks over. The contexts of its work end before.
//  3. Who ends a lock of a living holder from outside, or takes it over, rings the holder's bell in the same commit. A
//     holder reads its bell with each beat, and looks at the fences of its locks when it rang: those that are not its own
//     any more are lost.
//  4. A lock that was given up has no holder (Vacant): no beat can take it back.
//  5. A holder that meets a lock of its own name, for which no work runs, takes it over: nobody else would.

// lateAfter is how old a beat may be before the work under its locks has to end.
const lateAfter = term - beatEvery

// startBeating begins the beats with the first lock. The mutex is held.
func (k *Keeper) startBeating() {
	if k.hasHeld = true; !k.beats {
		k.beats = true
		k.wg.Go(k.beat)
	}
}

// rest ends the beats at once, when a consumer that closes has no lock any more. The mutex is held.
func (k *Keeper) rest() {
	if !k.closing || len(k.holding) > 0 {
		return
	}
	select {
	case <-k.rests:
	default:
		close(k.rests)
	}
}

// goesOnBeating reports whether there is a lock to beat for.
func (k *Keeper) goesOnBeating() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.beats = len(k.holding) > 0
	return k.beats
}

// beat keeps this consumer's locks while there are any.
func (k *Keeper) beat() {
	var rung []byte
	knows := false // what had rung when the fences were looked at
	late := k.loseWhenLate()
	defer late.Stop()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	rests := k.rests
	for k.goesOnBeating() {
		select {
		case <-tick.C:
		case <-k.env.Base.Done():
			return
		case <-rests:
			rests = nil
			continue
		}
		began := time.Now()
		bell, err := k.beatOnce()
		if err != nil {
			k.log.Debug().Err(err).Msg("a beat of the locks that are held here failed; it is tried again")
			continue
		}
		late.Reset(lateAfter - time.Since(began))
		if knows && string(bell) == string(rung) {
			continue
		}
		if err := k.lookAtFences(); err == nil {
			rung, knows = bell, true
		}
	}
}

// beatOnce writes a beat, and returns what the bell says. It conflicts with nobody: where many locks of one holder are
// ended at once, its bell rings all the time, and the others would be lost with the beats that lose that race.
func (k *Keeper) beatOnce() (bell []byte, err error) {
	ctx, cancel := context.WithTimeout(k.env.Base, term)
	defer cancel()
	if !k.env.Process.IsRecorded() { // what it writes here belongs to its record
		if err := k.env.Process.BeatAlways(ctx); err != nil {
			return nil, err
		}
	}
	beat, bellKey, _ := tenant.HolderKeys(k.env.HolderName())
	err = k.env.DB.Transact(ctx, func(tx backend.Tx) (err error) {
		backend.CommitAsync(tx) // no power cut takes it and leaves us
		if bell, err = tenant.Peek(tx, bellKey); err == nil {
			tx.Set(beat, []byte(rand.Text()))
		}
		return err
	})
	return bell, err
}

// loseWhenLate ends the work under locks that others may soon take over: when its time is up, which is set anew after
// each beat. A lock that was taken since has its time before it.
func (k *Keeper) loseWhenLate() (late *time.Timer) {
	set := make(chan struct{})
	defer close(set)
	late = time.AfterFunc(lateAfter, func() {
		<-set
		for _, h := range k.held() {
			if time.Since(h.since) >= lateAfter {
				h.lose(turn.ErrLost)
			}
		}
		late.Reset(beatEvery)
	})
	return late
}

func (k *Keeper) held() (all []*holder) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.holding {
		all = append(all, h)
	}
	return all
}

// maxFences is how many locks are looked at in one snapshot.
const maxFences = 256

// lookAtFences finds the locks that are not this consumer's any more.
func (k *Keeper) lookAtFences() error {
	for all := k.held(); len(all) > 0; {
		page := all[:min(maxFences, len(all))]
		all = all[len(page):]
		err := k.env.DB.Read(k.env.Base, func(tx backend.ReadTx) error {
			fences := make([]backend.Future[[]byte], len(page))
			for i, h := range page {
				fences[i] = tx.Get(tenant.KeysOf(h.ref).Fence())
			}
			for i, h := range page {
				value, err := fences[i].Get()
				if err != nil {
					return err
				}
				if fence, err := backend.StampOf(value); err != nil || fence != h.lock.Fence {
					h.lose(errors.Join(turn.ErrLost, err))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Farewell removes the traces of a holder that has ended. Its locks, if it could not give them up, have nobody then.
func (k *Keeper) Farewell(ctx context.Context) {
	k.mu.Lock()
	held := k.hasHeld
	k.mu.Unlock()
	if !held {
		return
	}
	beat, bell, _ := tenant.HolderKeys(k.env.HolderName())
	err := k.env.DB.Transact(ctx, func(tx backend.Tx) error {
		tx.Clear(beat.Only())
		tx.Clear(bell.Only())
		return nil
	})
	if err != nil && !errors.Is(err, backend.ErrClosed) {
		k.log.Warn().Err(err).Msg("the beat of the locks that were held here could not be removed; it goes with the process's record")
	}
}

package dserver

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// The beat of a consumer that holds locks: step 2 of hold.go. It is one for all of its locks, so that a thousand cost no
// more than one.
//
//  1. Each lock names its holder. While a consumer holds any, it writes something new into its beat each beatEvery.
//  2. No beat of a holder for lateAfter: others may soon take its locks over. The contexts of its work end before.
//  3. Who ends a lock of a living holder from outside, or takes it over, rings the holder's bell in the same commit. A
//     holder reads its bell with each beat, and looks at the fences of its locks when it rang: those that are not its own
//     any more are lost.
//  4. A lock that was given up has no holder (vacant): no beat can take it back.
//  5. A holder that meets a lock of its own name, for which no work runs, takes it over: nobody else would.

// lateAfter is how old a beat may be before the work under its locks has to end.
const lateAfter = lease - beatEvery

// holderMark begins the name of a holder in a lock. Versions that beat each lock had a random word there, without it.
const holderMark = "@"

// holderName is this consumer in the locks that it takes.
func (c *consumer) holderName() string { return holderMark + c.process.id + "/" + c.caution.name }

// parseHolder is whose name stands in a lock; ok is false of a lock without a holder's name.
func parseHolder(name string) (p presence, consumer string, ok bool) {
	process, consumer, ok := strings.Cut(strings.TrimPrefix(name, holderMark), "/")
	if !ok || !strings.HasPrefix(name, holderMark) {
		return p, "", false
	}
	return presenceOf(process), consumer, true
}

// holderKeys is where a holder beats and where it is rung for.
func holderKeys(name string) (beat, bell backend.Key, ok bool) {
	p, consumer, ok := parseHolder(name)
	if !ok {
		return nil, nil, false
	}
	return p.key.Str(keyHolds, consumer), p.key.Str(keyEnded, consumer), true
}

// notice tells the holder of a lock that it was ended.
type notice struct{ bell backend.Key }

// noticeTo looks whether there is a holder that can be told: its process has a record, with which the bell will go. One
// without has not beaten yet, or is gone; its first beat looks at all its locks. Neither the record nor a beat may be a
// conflict: they change while the process lives, and a slow handler that ends its work would lose each race against them.
// A bell that is rung as its process is swept has no record, and goes with the next sweep.
func noticeTo(tx backend.Reader, name string) (n notice, err error) {
	p, _, ok := parseHolder(name)
	if !ok {
		return n, nil
	}
	record, err := peek(tx, p.record())
	if record != nil {
		_, n.bell, _ = holderKeys(name)
	}
	return n, err
}

// peek reads a key whose change is no conflict.
func peek(tx backend.Reader, key backend.Key) (value []byte, err error) {
	pairs, err := tx.GetRange(key.Only(), backend.RangeOptions{Snapshot: true}).Get()
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	return pairs[0].Value, nil
}

func (n notice) write(tx backend.Tx) {
	if n.bell != nil {
		tx.Add(n.bell, 1)
	}
}

// startBeating begins the beats with the first lock. The mutex is held.
func (c *consumer) startBeating() {
	if c.hasHeld = true; !c.beats {
		c.beats = true
		c.wg.Go(c.beat)
	}
}

// rest ends the beats at once, when a consumer that closes has no lock any more. The mutex is held.
func (c *consumer) rest() {
	if !c.closing || len(c.holding) > 0 {
		return
	}
	select {
	case <-c.rests:
	default:
		close(c.rests)
	}
}

// goesOnBeating reports whether there is a lock to beat for.
func (c *consumer) goesOnBeating() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beats = len(c.holding) > 0
	return c.beats
}

// beat keeps this consumer's locks while there are any.
func (c *consumer) beat() {
	var rung []byte
	knows := false // what had rung when the fences were looked at
	late := c.loseWhenLate()
	defer late.Stop()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	rests := c.rests
	for c.goesOnBeating() {
		select {
		case <-tick.C:
		case <-c.base.Done():
			return
		case <-rests:
			rests = nil
			continue
		}
		began := time.Now()
		bell, err := c.beatOnce()
		if err != nil {
			c.log.Debug().Err(err).Msg("a beat of the locks that are held here failed; it is tried again")
			continue
		}
		late.Reset(lateAfter - time.Since(began))
		if knows && string(bell) == string(rung) {
			continue
		}
		if err := c.lookAtFences(); err == nil {
			rung, knows = bell, true
		}
	}
}

// beatOnce writes a beat, and returns what the bell says. It conflicts with nobody: where many locks of one holder are
// ended at once, its bell rings all the time, and the others would be lost with the beats that lose that race.
func (c *consumer) beatOnce() (bell []byte, err error) {
	ctx, cancel := context.WithTimeout(c.base, lease)
	defer cancel()
	if !c.process.isRecorded() { // what it writes here belongs to its record
		if err := c.process.beatAlways(ctx); err != nil {
			return nil, err
		}
	}
	beat, bellKey, _ := holderKeys(c.holderName())
	err = c.db.Transact(ctx, func(tx backend.Tx) (err error) {
		if bell, err = peek(tx, bellKey); err == nil {
			tx.Set(beat, []byte(rand.Text()))
		}
		return err
	})
	return bell, err
}

// loseWhenLate ends the work under locks that others may soon take over: when its time is up, which is set anew after
// each beat. A lock that was taken since has its time before it.
func (c *consumer) loseWhenLate() (late *time.Timer) {
	set := make(chan struct{})
	defer close(set)
	late = time.AfterFunc(lateAfter, func() {
		<-set
		for _, h := range c.held() {
			if time.Since(h.since) >= lateAfter {
				h.lose(errLost)
			}
		}
		late.Reset(beatEvery)
	})
	return late
}

func (c *consumer) held() (all []*holder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.holding {
		all = append(all, h)
	}
	return all
}

// maxFences is how many locks are looked at in one snapshot.
const maxFences = 256

// lookAtFences finds the locks that are not this consumer's any more.
func (c *consumer) lookAtFences() error {
	for all := c.held(); len(all) > 0; {
		page := all[:min(maxFences, len(all))]
		all = all[len(page):]
		err := c.db.Read(c.base, func(tx backend.ReadTx) error {
			fences := make([]backend.Future[[]byte], len(page))
			for i, h := range page {
				fences[i] = tx.Get(tenantOf(h.ref).fence())
			}
			for i, h := range page {
				value, err := fences[i].Get()
				if err != nil {
					return err
				}
				if fence, err := backend.StampOf(value); err != nil || fence != h.lock.fence {
					h.lose(errors.Join(errLost, err))
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

// stopBeating removes the traces of a holder that has ended. Its locks, if it could not give them up, have nobody then.
func (c *consumer) stopBeating(ctx context.Context) {
	c.mu.Lock()
	held := c.hasHeld
	c.mu.Unlock()
	if !held {
		return
	}
	beat, bell, _ := holderKeys(c.holderName())
	err := c.db.Transact(ctx, func(tx backend.Tx) error {
		tx.Clear(beat.Only())
		tx.Clear(bell.Only())
		return nil
	})
	if err != nil && !isFatal(err) {
		c.log.Warn().Err(err).Msg("the beat of the locks that were held here could not be removed; it goes with the process's record")
	}
}

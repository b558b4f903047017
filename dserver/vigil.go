package dserver

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// vigil is the holders of other consumers' locks, as this one watches them: step 5 of hold.go. Their beats are read
// together, a row for each holder, so that watching costs the same however many locks they hold. The server of a lock is
// looked at when its holder is dead, and not before.
type vigil struct {
	size atomic.Int64 // of locks, for those who have none to forget

	mu      sync.Mutex
	runs    bool
	holders map[string]*watched
	locks   map[Ref]*watchedLock
}

// watched is a holder.
type watched struct {
	sight
	dead  bool
	locks int
}

// watchedLock is a lock of a holder. It is as old as this process's knowledge of it.
type watchedLock struct {
	holder string
	fence  backend.Versionstamp
	since  time.Time
	told   time.Time // when its server was looked at, as its holder is dead
}

// watch notes a lock of another consumer, and reports whether its holder is dead, with the beat at which it stood still.
func (v *vigil) watch(ref Ref, l lock, now time.Time) (beat string, dead bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.holders == nil {
		v.holders, v.locks = map[string]*watched{}, map[Ref]*watchedLock{}
	}
	known := v.locks[ref]
	if known == nil || known.fence != l.fence || known.holder != l.beat {
		v.drop(ref)
		w := v.holders[l.beat]
		if w == nil {
			w = new(watched)
			v.holders[l.beat] = w
		}
		w.locks++
		v.locks[ref] = &watchedLock{holder: l.beat, fence: l.fence, since: now}
		v.size.Store(int64(len(v.locks)))
		return "", false
	}
	w := v.holders[l.beat]
	return w.beat, w.dead && now.Sub(known.since) >= lease
}

// forget drops a lock that is no more.
func (v *vigil) forget(ref Ref) {
	if v.size.Load() == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(ref)
}

// drop is forget with the mutex held.
func (v *vigil) drop(ref Ref) {
	known := v.locks[ref]
	if known == nil {
		return
	}
	delete(v.locks, ref)
	v.size.Store(int64(len(v.locks)))
	if w := v.holders[known.holder]; w.locks > 1 {
		w.locks--
	} else {
		delete(v.holders, known.holder)
	}
}

// names is the holders that are watched. Without any, the vigil ends.
func (v *vigil) names() (names []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name := range v.holders {
		names = append(names, name)
	}
	v.runs = len(names) > 0
	return names
}

// see notes the beats that were read together, and returns the servers whose locks have to be taken over.
func (v *vigil) see(beats map[string]string, now time.Time) (dead []Ref) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, w := range v.holders {
		if beat, read := beats[name]; read {
			w.dead = w.isDead(lock{beat: beat}, now)
		}
	}
	for ref, l := range v.locks {
		if v.holders[l.holder].dead && now.Sub(l.since) >= lease && now.Sub(l.told) > lookInterval {
			l.told = now
			dead = append(dead, ref)
		}
	}
	return dead
}

// keepVigil begins the vigil with the first lock that is watched.
func (c *consumer) keepVigil() {
	v := &c.vigil
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.runs {
		v.runs = true
		c.wg.Go(c.watchHolders)
	}
}

func (c *consumer) watchHolders() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for names := c.vigil.names(); len(names) > 0; names = c.vigil.names() {
		beats, err := c.readBeats(names)
		if err == nil {
			for _, ref := range c.vigil.see(beats, time.Now()) {
				c.wake(ref)
			}
		}
		select {
		case <-tick.C:
		case <-c.taking.Done(): // it takes nothing over any more
			return
		}
	}
}

// readBeats reads the beats of holders. One that has not beaten yet has a beat, too.
func (c *consumer) readBeats(names []string) (beats map[string]string, err error) {
	err = c.db.Read(c.taking, func(tx backend.ReadTx) error {
		reads := make([]backend.Future[[]byte], len(names))
		for i, name := range names {
			beat, _, _ := holderKeys(name)
			reads[i] = tx.Get(beat)
		}
		beats = make(map[string]string, len(names))
		for i, name := range names {
			value, err := reads[i].Get()
			if err != nil {
				return err
			}
			beats[name] = beatOf(value)
		}
		return nil
	})
	return beats, err
}

// beatOf is a beat as it is compared: never vacant.
func beatOf(value []byte) string { return holderMark + string(value) }

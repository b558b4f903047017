package lease

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// vigil is the holders of other consumers' locks, as this one watches them: step 5 of hold.go. Their beats are read
// together, a row for each holder, so that watching costs the same however many locks they hold. The server of a lock is
// looked at when its holder is dead, and not before.
type vigil struct {
	size atomic.Int64 // of locks, for those who have none to forget

	mu      sync.Mutex
	runs    bool
	holders map[string]*watched
	locks   map[tenant.Ref]*watchedLock
}

// watched is a holder.
type watched struct {
	Sight
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
func (v *vigil) watch(ref tenant.Ref, l tenant.Lock, now time.Time) (beat string, dead bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.holders == nil {
		v.holders, v.locks = map[string]*watched{}, map[tenant.Ref]*watchedLock{}
	}
	known := v.locks[ref]
	if known == nil || known.fence != l.Fence || known.holder != l.Beat {
		v.drop(ref)
		w := v.holders[l.Beat]
		if w == nil {
			w = new(watched)
			v.holders[l.Beat] = w
		}
		w.locks++
		v.locks[ref] = &watchedLock{holder: l.Beat, fence: l.Fence, since: now}
		v.size.Store(int64(len(v.locks)))
		return "", false
	}
	w := v.holders[l.Beat]
	return w.beat, w.dead && now.Sub(known.since) >= term
}

// forget drops a lock that is no more.
func (v *vigil) forget(ref tenant.Ref) {
	if v.size.Load() == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(ref)
}

// drop is forget with the mutex held.
func (v *vigil) drop(ref tenant.Ref) {
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
func (v *vigil) see(beats map[string]string, now time.Time) (dead []tenant.Ref) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, w := range v.holders {
		if beat, read := beats[name]; read {
			w.dead = w.isDead(tenant.Lock{Beat: beat}, now)
		}
	}
	for ref, l := range v.locks {
		if v.holders[l.holder].dead && now.Sub(l.since) >= term && now.Sub(l.told) > mailbox.LookInterval {
			l.told = now
			dead = append(dead, ref)
		}
	}
	return dead
}

// keepVigil begins the vigil with the first lock that is watched.
func (k *Keeper) keepVigil() {
	v := &k.vigil
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.runs {
		v.runs = true
		k.wg.Go(k.watchHolders)
	}
}

func (k *Keeper) watchHolders() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for names := k.vigil.names(); len(names) > 0; names = k.vigil.names() {
		beats, err := k.readBeats(names)
		if err == nil {
			for _, ref := range k.vigil.see(beats, time.Now()) {
				k.host.Wake(ref)
			}
		}
		select {
		case <-tick.C:
		case <-k.taking.Done(): // it takes nothing over any more
			return
		}
	}
}

// readBeats reads the beats of holders. One that has not beaten yet has a beat, too.
func (k *Keeper) readBeats(names []string) (beats map[string]string, err error) {
	err = k.env.DB.Read(k.taking, func(tx backend.ReadTx) error {
		reads := make([]backend.Future[[]byte], len(names))
		for i, name := range names {
			beat, _, _ := tenant.HolderKeys(name)
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

// beatOf is a beat as it is compared: never Vacant.
func beatOf(value []byte) string { return tenant.HolderMark + string(value) }

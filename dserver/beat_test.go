package dserver_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// holderKey is where a lock names its holder. It is empty when the holder gave the lock up.
func holderKey(ref dserver.Ref) backend.Key { return backend.NewKey("s", ref.Type, ref.ID, "h", "b") }

// isBeat reports whether a key is the beat of a consumer that holds locks.
func isBeat(key backend.Key) bool {
	elements, err := key.Elements()
	return err == nil && len(elements) == 4 && elements[0] == "p" && elements[2] == "l"
}

// slowBeats is a database in which the first beat of a holder, once it is asked for, waits with its commit.
type slowBeats struct {
	backend.Database
	held chan struct{} // closed when a beat waits
	goOn chan struct{} // closed to let it commit

	mu    sync.Mutex
	asked bool
}

func (d *slowBeats) ask() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = true
}

// holds reports whether a transaction that wrote the beat has to wait.
func (d *slowBeats) holds() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := d.asked
	d.asked = false
	return asked
}

func (d *slowBeats) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		b := &beatTx{Tx: tx}
		err := fn(b)
		if err == nil && b.beats != nil && d.holds() {
			close(d.held)
			<-d.goOn
		}
		return err
	})
}

// beatTx notes the key of a beat.
type beatTx struct {
	backend.Tx
	beats backend.Key
}

func (t *beatTx) Set(key backend.Key, value []byte) {
	if isBeat(key) {
		t.beats = key
	}
	t.Tx.Set(key, value)
}

// A lock that was given up stays so: a beat that was under way would make others wait for a lease.
func TestBeatInFlightDoesNotTakeBackALockThatWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop()
		store := newStore(t, w.types)
		ref := w.types.Ref("a")
		broke := make(chan struct{}, 10)
		db := &slowBeats{Database: store.Open(), held: make(chan struct{}), goOn: make(chan struct{})}
		stop := run(t, dserver.Consumer{}, db, safes(func(*dserver.LockedContext, Safe, Toil) (string, error) {
			broke <- struct{}{}
			return "", errors.New("it broke")
		}))
		answer := make(chan error, 1)
		go func() { answer <- w.types.At(store.Open(), "a").Call(within(t), Toil{ID: "toil"}, nil) }()
		for range 3 {
			<-broke
		}
		<-time.After(500 * time.Millisecond) // it backs off
		db.ask()
		<-db.held
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		synctest.Wait() // it gave the lock up
		close(db.goOn)
		<-stopped
		var holder []byte
		must(t, store.Open().Read(t.Context(), func(tx backend.ReadTx) (err error) {
			holder, err = tx.Get(holderKey(ref)).Get()
			return err
		}))
		if holder == nil || len(holder) > 0 {
			t.Errorf("the lock is held by %q", holder)
		}
		began := time.Now()
		run(t, dserver.Consumer{}, store.Open(), w.types)
		<-w.entered
		w.find <- "found"
		must(t, <-answer)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it was taken over after %v", took)
		}
	})
}

// refusingDB is a store that refuses one transaction when it is asked to.
type refusingDB struct {
	backend.Database
	refuses atomic.Bool
}

func (d *refusingDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	if d.refuses.CompareAndSwap(true, false) {
		return errors.New("the store refuses")
	}
	return d.Database.Transact(ctx, fn)
}

// A beat that comes so late that others could have taken over ends the work. One that the store refuses does not, when
// the next one comes in time.
func TestWorkEndsWithABeatThatComesLate(t *testing.T) {
	for _, late := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorkshop()
			store := newStore(t, w.types)
			refusing := &refusingDB{Database: store.Open()}
			db := &frozenDB{Database: refusing}
			run(t, dserver.Consumer{}, db, w.types)
			answer := toil(w.types.At(store.Open(), "a"), w)
			if late {
				db.stop()
				<-time.After(2800 * time.Millisecond)
				db.goOn()
			} else {
				refusing.refuses.Store(true)
			}
			ended := false
			select {
			case a := <-w.ended:
				ended = a.lost
			case <-time.After(2 * time.Second):
			}
			if ended != late || refusing.refuses.Load() {
				t.Errorf("late %v: the work ended: %v", late, ended)
			}
			if ended {
				<-w.entered
			}
			w.find <- "found"
			if got := <-answer; got != "found<nil>" {
				t.Errorf("the answer is %s", got)
			}
		})
	}
}

// ringingDB rings for the holder of a beat while that is under way.
type ringingDB struct {
	backend.Database
	other backend.Database
	tries atomic.Int32 // beats that were about to be committed
}

func (d *ringingDB) Transact(ctx context.Context, fn func(backend.Tx) error) error {
	return d.Database.Transact(ctx, func(tx backend.Tx) error {
		b := &beatTx{Tx: tx}
		err := fn(b)
		if err != nil || b.beats == nil {
			return err
		}
		if d.tries.Add(1) > 100 { // each beat would try for ever
			return nil
		}
		elements, _ := b.beats.Elements()
		bell := backend.NewKey("p", elements[1], "e", elements[3])
		return d.other.Transact(ctx, func(tx backend.Tx) error { tx.Add(bell, 1); return nil })
	})
}

// Many may end locks of one holder at once: they ring, and its beats for the others do not wait for an end of that.
func TestBeatsDoNotWaitForTheBellToBeQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorkshop()
		store := newStore(t, w.types)
		db := &ringingDB{Database: store.Open(), other: store.Open()}
		run(t, dserver.Consumer{}, db, w.types)
		answer := toil(w.types.At(store.Open(), "a"), w)
		<-time.After(10 * time.Second)
		w.finish("found")
		if got := <-answer; got != "found<nil>" || db.tries.Load() > 20 {
			t.Errorf("the answer is %s, and its 20 beats took %d tries", got, db.tries.Load())
		}
	})
}

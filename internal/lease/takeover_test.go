package lease

import (
	"context"
	"crypto/rand"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
	"github.com/dserver-go/dserver/queue"
	"github.com/dserver-go/dserver/statediff"
)

// A holder is dead when it was looked at for a lease, at short intervals, and did not move.
func TestSightOfAHolder(t *testing.T) {
	held := tenant.Lock{Fence: backend.NewVersionstamp(1, 0), Beat: "a"}
	moved, taken, given := held, held, held
	moved.Beat, taken.Fence, given.Beat = "b", backend.NewVersionstamp(2, 0), tenant.Vacant
	type look struct {
		after time.Duration // the look before
		lock  tenant.Lock
	}
	for _, c := range []struct {
		name  string
		looks []look
		dead  bool
	}{
		{"seen for a lease", []look{{0, held}, {lookGap, held}, {lookGap, held}, {lookGap, held}}, true},
		{"seen for less", []look{{0, held}, {lookGap, held}, {lookGap, held}, {lookGap - 1, held}}, false},
		{"looks far apart", []look{{0, held}, {term, held}}, false},
		{"far apart in the middle", []look{{0, held}, {lookGap, held}, {lookGap + 1, held}, {lookGap, held}}, false},
		{"it beats", []look{{0, held}, {lookGap, held}, {lookGap, moved}, {lookGap, moved}}, false},
		{"another took it", []look{{0, held}, {lookGap, held}, {lookGap, taken}, {lookGap, taken}}, false},
		{"given up", []look{{0, given}}, true},
		{"given up after a while", []look{{0, held}, {1, given}}, true},
	} {
		var s Sight
		dead, now := false, time.Now()
		for _, l := range c.looks {
			now = now.Add(l.after)
			dead = s.isDead(l.lock, now)
		}
		if dead != c.dead {
			t.Errorf("%s: taken for dead is %v", c.name, dead)
		}
	}
}

// inert is a consumer without turns: what ends there is dropped.
type inert struct{}

func (inert) Release(context.Context, tenant.Ref, *turn.Release) turn.Outcome { return turn.Outcome{} }
func (inert) Ended(tenant.Ref)                                                {}
func (inert) Wake(tenant.Ref)                                                 {}
func (inert) LeaveBehind(tenant.Ref, string, uint64) func()                   { return func() {} }

// none is the form of a state that has nothing in it.
type none struct{ *statediff.Schema }

func (n none) New() any { return n.Schema.New().Interface() }

func (n none) Rewrite(rows *statediff.Rows, _ turn.Form, value any) ([]statediff.Edit, error) {
	return n.Diff(rows, value)
}

// working is a type whose locked work is fn.
func working(t *testing.T, fn func(a *turn.WorkAttempt) error) *turn.Definition {
	t.Helper()
	schema, err := statediff.For(reflect.TypeFor[struct{}]())
	if err != nil {
		t.Fatal(err)
	}
	return &turn.Definition{
		Name: "worker", Form: none{schema}, Version: 1,
		Settings: turn.DefaultSettings(),
		Locked: map[string]*turn.Locked{"toil": {
			Work: func(a *turn.WorkAttempt, _ any, _ []byte) (any, error) { return nil, fn(a) },
		}},
	}
}

// keeper keeps the locks of a consumer of its own until stop is called, which waits for all that it does.
func keeper(t *testing.T, db backend.Database) (k *Keeper, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	process, release := mailbox.Acquire(db)
	wg := new(sync.WaitGroup)
	k = NewKeeper(&turn.Env{DB: db, Base: ctx, Process: process, Name: rand.Text()}, zerolog.Nop(), inert{}, wg)
	k.Begin(ctx, ctx, beatEvery)
	return k, func() {
		cancel()
		k.Close()
		wg.Wait()
		release()
	}
}

// lock locks a server for a message, and lets its work begin.
func lock(t *testing.T, k *Keeper, ref tenant.Ref, def *turn.Definition) tenant.Lock {
	t.Helper()
	keys, db := tenant.KeysOf(ref), k.env.DB
	env := tenant.Envelope{Name: "toil", Body: []byte{0xa0}}
	l := tenant.Lock{Record: tenant.LockRecord{Name: env.Name, Attempt: 1}, Beat: k.env.HolderName()}
	var version backend.Future[backend.Versionstamp]
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Set(keys.Lock(), tenant.EncodeRecord(l.Record))
		tx.Set(keys.Beat(), []byte(l.Beat))
		tx.Stamp(keys.Fence())
		version = tx.Version()
		return tenant.SetLarge(tx, keys.LockedMessage(), env.Encode())
	})
	if err == nil {
		l.Fence, err = version.Get()
	}
	if err != nil {
		t.Fatal(err)
	}
	k.Hold(ref, def, queue.Item{}, env, l)
	return l
}

func lockOf(t *testing.T, db backend.Database, ref tenant.Ref) (l tenant.Lock) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		l, err = tenant.ReadLock(tx, tenant.KeysOf(ref))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A holder whose lock another has taken over learns it from its next beat. What it would count or give up then is the
// other's, and stays as it is.
func TestHolderThatWasTakenOverTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		works, lost := make(chan struct{}, 9), make(chan struct{}, 9)
		def := working(t, func(a *turn.WorkAttempt) error {
			works <- struct{}{}
			<-a.Context.Done()
			lost <- struct{}{}
			return a.Context.Err()
		})
		ref := tenant.Ref{Type: def.Name, ID: "a"}
		first, stop := keeper(t, db)
		seen := lock(t, first, ref, def)
		<-works
		<-time.After(term) // it has beaten: its bell is what tells it
		other, stopOther := keeper(t, db)
		if took, err := other.TakeOver(ref, def, seen, ""); !took || err != nil {
			t.Fatal(took, err)
		}
		<-works
		taken := lockOf(t, db, ref)
		old := &holder{k: first, ref: ref, def: def, lock: seen, lose: func(error) {}}
		if old.vacate(); old.again(&turn.Fault{Text: "it broke"}) {
			t.Error("it counts an attempt")
		}
		if now := lockOf(t, db, ref); now != taken || now.Fence == seen.Fence {
			t.Errorf("the lock is %+v, and was taken over as %+v", now, taken)
		}
		select {
		case <-lost:
		case <-time.After(term):
			t.Error("its beats go on")
		}
		stop()
		stopOther()
	})
}

// The work under a lock ends before others may take it over, when the beats do not reach the store.
func TestWorkEndsBeforeItsLockMayBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &deaf{Database: backendtest.NewModel()}
		works, lost := make(chan struct{}, 9), make(chan error, 9)
		def := working(t, func(a *turn.WorkAttempt) error {
			works <- struct{}{}
			<-a.Context.Done()
			lost <- context.Cause(a.Context)
			return a.Context.Err()
		})
		k, stop := keeper(t, db)
		lock(t, k, tenant.Ref{Type: def.Name, ID: "a"}, def)
		<-works
		<-time.After(term) // it has beaten
		db.mu.Lock()
		db.isDeaf = true
		beaten := db.heard
		db.mu.Unlock()
		if why := <-lost; !errors.Is(why, turn.ErrLost) {
			t.Errorf("it ended as %v", why)
		}
		if late := time.Since(beaten); late >= term {
			t.Errorf("it went on for %v after the last beat, though its lock may be another's after %v", late, term)
		}
		stop()
	})
}

// deaf is a store that can be out of reach.
type deaf struct {
	backend.Database
	mu     sync.Mutex
	isDeaf bool
	heard  time.Time // when a transaction reached it last
}

func (d *deaf) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	d.mu.Lock()
	deaf := d.isDeaf
	if !deaf {
		d.heard = time.Now()
	}
	d.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.Database.Transact(ctx, fn)
}

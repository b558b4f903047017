package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// A peer that is at work is waited for with a server, but not for longer than a look's interval; and one that is silent for a
// moment alone.
func TestNoPeerIsWaitedForWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name     string
			beats    bool
			takes    time.Duration // a look
			atLeast  time.Duration
			lessThan time.Duration
		}{
			{"at work", true, 0, mailbox.LookInterval, mailbox.LookInterval + time.Second},
			{"silent", false, 0, 100 * time.Millisecond, 200 * time.Millisecond},
			{"at work, on a slow machine", true, 300 * time.Millisecond, mailbox.LookInterval, mailbox.LookInterval + time.Second},
			{"silent, on a slow machine", false, 300 * time.Millisecond, 100 * time.Millisecond, time.Second},
		} {
			db, def := backendtest.NewModel(), define()
			c1 := newConsumer(db, Options{}, def)
			p, release := mailbox.Acquire(db)
			c1.Process = p
			peers := []string{"other", p.ID}
			k := newCrew(def.Name)
			k.peers, k.next = peers, time.Now().Add(time.Hour)
			b := &bystander{c: c1, of: map[string]*crew{def.Name: k}}
			ref := refOf(def)
			for mailbox.Rank(peers, ref.ID); peers[0] != "other"; mailbox.Rank(peers, ref.ID) {
				ref.ID += "a" // until it is the other's
			}
			keys := tenant.PresenceOf("other")
			began := time.Now()
			for i := byte(0); ; i++ {
				err := db.Transact(t.Context(), func(tx backend.Tx) error {
					tx.Set(keys.Record(), nil)
					if c.beats || i == 0 {
						tx.Set(keys.Pulse(), []byte{i})
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				b.begin()
				isLeft, err := b.standsBy(t.Context(), ref)
				if err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				if !isLeft {
					if took < c.atLeast || took >= c.lessThan {
						t.Errorf("%s: it is waited for for %v", c.name, took)
					}
					break
				}
				if took > time.Minute {
					t.Errorf("%s: it is waited for without end", c.name)
					break
				}
				b.end()
				<-time.After(b.soon + c.takes)
			}
			release()
		}
	})
}

// Peers that are dead are found out together, not each in its turn: of many that were killed a newcomer waits for none longer
// than for one.
func TestDeadPeersAreWaitedForTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, def := backendtest.NewModel(), define()
		c := newConsumer(db, Options{}, def)
		p, release := mailbox.Acquire(db)
		defer release()
		c.Process = p
		peers := []string{"dead", "gone", "killed", "lost", p.ID}
		k := newCrew(def.Name)
		k.peers, k.next = peers, time.Now().Add(time.Hour)
		b := &bystander{c: c, of: map[string]*crew{def.Name: k}}
		ref := refOf(def)
		for mailbox.Rank(peers, ref.ID); peers[4] != p.ID; mailbox.Rank(peers, ref.ID) {
			ref.ID += "a" // until it is last
		}
		err := db.Transact(t.Context(), func(tx backend.Tx) error {
			for _, dead := range peers[:4] {
				tx.Set(tenant.PresenceOf(dead).Record(), nil)
				tx.Set(tenant.PresenceOf(dead).Pulse(), []byte{1})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; <-time.After(b.soon) {
			b.begin()
			isLeft, err := b.standsBy(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			b.end()
			if took := time.Since(began); !isLeft || took > time.Minute {
				if silent := mailbox.SilentAfter(len(peers)); took > silent+mailbox.PulseInterval(len(peers)) {
					t.Errorf("they are waited for for %v, where one is for %v", took, silent)
				}
				return
			}
		}
	})
}

// Who is next behind one peer hears at once that it ends, and goes on as soon; behind several it looks in intervals. The watch
// stays from look to look, but for one that was set in a transaction that failed.
func TestWhoIsNextHearsOfThePeersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, servers := range []int{1, 2} {
			db, def := backendtest.NewModel(), define()
			c := newConsumer(db, Options{}, def)
			p, release := mailbox.Acquire(db)
			c.Process = p
			k := newCrew(def.Name)
			k.next = time.Now().Add(time.Hour)
			b := &bystander{c: c, of: map[string]*crew{def.Name: k}}
			var refs []tenant.Ref
			for i := range servers { // each is the other one's
				ref := refOf(def)
				other := fmt.Sprint("other", i)
				k.peers = append(k.peers, other)
				for peers := []string{other, p.ID}; ; ref.ID += "a" {
					if mailbox.Rank(peers, ref.ID); peers[0] == other {
						break
					}
				}
				refs = append(refs, ref)
			}
			others := k.peers
			set := func(beat byte) {
				t.Helper()
				err := db.Transact(t.Context(), func(tx backend.Tx) error {
					for _, other := range others {
						keys := tenant.PresenceOf(other)
						tx.Set(keys.Record(), nil)
						if beat == 1 {
							tx.Set(keys.Ability(def.Name), []byte{1})
						}
						tx.Set(keys.Pulse(), []byte{beat})
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			looks, errFailed := 1, errors.New("it fails")
			look := func() {
				t.Helper()
				b.begin()
				var failed backend.Watch
				err := db.Read(t.Context(), func(tx backend.ReadTx) error {
					if err := b.readNeeded(tx); err != nil {
						return err
					}
					failed = b.ends.Watch
					return errFailed
				})
				if kept := b.ends.Watch != nil && !b.ends.isNew; !errors.Is(err, errFailed) || kept != (looks == 3 && servers == 1) {
					t.Fatalf("at look %d the watch is kept: %v; %v", looks, kept, err)
				}
				if err := db.Read(t.Context(), b.readNeeded); err != nil {
					t.Fatal(err)
				}
				if b.ends.isNew && b.ends.Watch == failed {
					t.Fatal("the watch of a transaction that failed is kept")
				}
				looks++
				for i, ref := range refs {
					k.peers = []string{others[i], p.ID}
					if isLeft, err := b.standsBy(t.Context(), ref); err != nil || !isLeft {
						t.Fatalf("%v is left to its peer: %v, %v", ref, isLeft, err)
					}
				}
				b.end()
			}
			set(1)
			look()
			set(2)
			look()
			set(3)
			look()
			began := time.Now()
			time.AfterFunc(time.Millisecond, func() {
				_ = db.Transact(context.Background(), func(tx backend.Tx) error {
					tx.Clear(tenant.PresenceOf(others[0]).Ability(def.Name).Tree())
					return nil
				})
			})
			b.sleep(t.Context())
			if took := time.Since(began); (took == time.Millisecond) != (servers == 1) || took > b.soon {
				t.Errorf("behind %d peers it slept for %v of %v", servers, took, b.soon)
			}
			b.begin()
			if b.end(); b.soon != 0 || b.ends.Watch != nil {
				t.Error("who stands by for nothing has a watch on its peer")
			}
			release()
		}
	})
}

// A pulse rests while there is no work, and is there again an interval after some came, again and again.
func TestThePulseComesBackWithWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		db, def := backendtest.NewModel(), define()
		c := colleague(ctx, db, def)
		c.max = 0 // what is scheduled stays so
		c.peered.Store(time.Now().UnixNano())
		c.peers.Store(2)
		ended := make(chan struct{})
		go func() { defer close(ended); c.pulse(ctx) }()
		pulse := func() (value []byte) {
			t.Helper()
			err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
				value, err = tx.Get(tenant.PresenceOf(c.Process.ID).Pulse()).Get()
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
		interval := mailbox.PulseInterval(2)
		for i := range 3 {
			before := pulse()
			<-time.After(time.Second)
			if !bytes.Equal(pulse(), before) {
				t.Errorf("rest %d: there is a pulse, and no work", i)
			}
			c.mu.Lock()
			c.schedule(c.server(refOf(def)))
			c.mu.Unlock()
			for range 5 {
				before = pulse()
				<-time.After(interval + 1)
				if bytes.Equal(pulse(), before) {
					t.Errorf("rest %d: there is work, and no pulse", i)
				}
			}
			c.mu.Lock()
			c.runnable.pop().scheduled = false
			c.mu.Unlock()
			<-time.After(2 * interval)
		}
		stop()
		<-ended
	})
}

// What each idle server has is a hundred thousand times what it is.
func TestIdleServersAreSmall(t *testing.T) {
	if size := unsafe.Sizeof(server{}); size > 192 {
		t.Errorf("a server has %d bytes, and the allocator's next size is for 208: what it has only in its turn belongs to active", size)
	}
}

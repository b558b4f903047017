package consumer

import (
	"testing"
	"testing/synctest"
	"time"

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

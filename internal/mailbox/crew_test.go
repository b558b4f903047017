package mailbox

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/tenant"
)

// member is a consumer of one type.
type member string

func (m member) Types() iter.Seq[string]       { return slices.Values([]string{string(m)}) }
func (m member) Ability(string) tenant.Ability { return tenant.Ability{Messages: []string{"Do"}} }
func (m member) Wake(tenant.Ref)               {}
func (m member) InHand() tenant.InHand         { return tenant.InHand{} }
func (m member) Handled(string) int64          { return 0 }
func (m member) Load() Load                    { return Load{} }
func (m member) Log() zerolog.Logger           { return zerolog.Nop() }

// meddled is a database in which something happens before its first commit.
type meddled struct {
	backend.Database
	meddle func()
}

func (m *meddled) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	return m.Database.Transact(ctx, func(tx backend.Tx) error {
		err := fn(tx)
		m.meddle()
		return err
	})
}

// Of two consumers that begin at once in a process, others know what both can handle, whichever tells of itself last.
func TestConsumersThatBeginAtOnceAreBothKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &meddled{Database: backendtest.NewModel()}
		p, release := Acquire(db)
		defer release()
		var both sync.WaitGroup
		introduce := func() {
			if err := p.Introduce(t.Context()); err != nil {
				t.Error(err)
			}
		}
		commits := 0
		db.meddle = func() {
			if commits++; commits == 1 { // what the first tells is written, and not committed
				p.Join(member("second"))
				both.Go(introduce)
				synctest.Wait()
			}
		}
		p.Join(member("first"))
		introduce()
		both.Wait()
		known := map[string]bool{}
		err := db.Read(t.Context(), func(tx backend.ReadTx) error {
			return tenant.Children(tx, tenant.PresenceOf(p.ID).Abilities(), func(typ string) error {
				known[typ] = true
				return nil
			})
		})
		if got := slices.Sorted(maps.Keys(known)); err != nil || !slices.Equal(got, []string{"first", "second"}) {
			t.Errorf("others know of %q, %v", got, err)
		}
	})
}

// A consumer that ends takes back at once that its process runs its types, where no other consumer of the process does; and one
// that begins meanwhile is known when both are done.
func TestEndedTypesAreTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &meddled{Database: backendtest.NewModel(), meddle: func() {}}
		p, release := Acquire(db)
		defer release()
		stored := func() (known []string) {
			t.Helper()
			err := db.Read(t.Context(), func(tx backend.ReadTx) error {
				known = nil
				pulse, err := tx.Get(tenant.PresenceOf(p.ID).Pulse()).Get()
				if pulse != nil {
					known = append(known, "a pulse")
				}
				if err != nil {
					return err
				}
				return tenant.Children(tx, tenant.PresenceOf(p.ID).Abilities(), func(typ string) error {
					known = append(known, typ)
					return nil
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			return known
		}
		end := func(m member) {
			t.Helper()
			p.Leave(m)
			if err := p.StopPulse(t.Context(), m.Types()); err != nil {
				t.Fatal(err)
			}
		}
		p.Join(member("first"))
		p.Join(member("second"))
		if err := p.Introduce(t.Context()); err != nil {
			t.Fatal(err)
		}
		end("first")
		if got := stored(); !slices.Equal(got, []string{"a pulse", "second"}) {
			t.Errorf("after the first has ended %q is stored", got)
		}
		var began sync.WaitGroup
		commits := 0
		db.meddle = func() {
			if commits++; commits == 1 { // the end is written, and not committed
				p.Join(member("second"))
				began.Go(func() {
					if err := p.Introduce(t.Context()); err != nil {
						t.Error(err)
					}
				})
				synctest.Wait()
			}
		}
		end("second")
		began.Wait()
		if got := stored(); !slices.Equal(got, []string{"second"}) {
			t.Errorf("after another one has begun %q is stored", got)
		}
		db.meddle = func() {}
		end("second")
		if got := stored(); got != nil {
			t.Errorf("after all have ended %q is stored", got)
		}
	})
}

// Who was killed stays recorded for minutes. Who begins meanwhile waits for none of them, and for all that may live.
func TestPeersAreThoseThatMayLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewModel()
		record := func(id string, beat time.Time) {
			err := db.Transact(t.Context(), func(tx backend.Tx) error {
				keys := tenant.PresenceOf(id)
				tx.Set(keys.Record(), tenant.EncodeRecord(tenant.ProcessRecord{Host: id, Beat: beat.UnixMilli(), Consumes: true}))
				return tenant.SetLarge(tx, keys.Ability("t"), tenant.EncodeRecord(member("t").Ability("t")))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		long := time.Now().Add(-2 * staleAfter)
		for i := range 100 {
			record(fmt.Sprintf("killed %d", i), long)
		}
		record("alive", time.Now())
		record("behind", long) // its clock is
		p, release := Acquire(db)
		defer release()
		p.Join(member("t"))
		peers := func() (others []string) {
			if err := p.Introduce(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := p.ReadCrew(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			for _, id := range p.Peers("t", 0) {
				if id != p.ID {
					others = append(others, id)
				}
			}
			slices.Sort(others)
			return others
		}
		if got := peers(); !slices.Equal(got, []string{"alive"}) {
			t.Errorf("at first its peers are %q", got)
		}
		<-time.After(time.Second)
		record("behind", long.Add(time.Second))
		if got := peers(); !slices.Equal(got, []string{"alive", "behind"}) {
			t.Errorf("when one was seen to beat its peers are %q", got)
		}
	})
}

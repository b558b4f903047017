package mailbox

import (
	"bytes"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Between the sight of a record that did not change for long and its removal its process may come back.
func TestTrap18ProcessThatComesBackIsNotSwept(t *testing.T) {
	db, ctx := backendtest.NewModel(), t.Context()
	p, release := Acquire(db)
	defer release()
	stored := func() (value []byte) {
		err := db.Read(ctx, func(tx backend.ReadTx) (err error) {
			value, err = tx.Get(tenant.PresenceOf(p.ID).Record()).Get()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	if err := p.BeatAlways(ctx); err != nil {
		t.Fatal(err)
	}
	alive := stored()
	if err := p.remove(ctx, p.ID, tenant.EncodeRecord(tenant.ProcessRecord{Host: "before"})); err != nil || !bytes.Equal(stored(), alive) {
		t.Errorf("a record that has changed was removed: %v", err)
	}
	if err := p.remove(ctx, p.ID, alive); err != nil || stored() != nil {
		t.Errorf("a record that has not changed was left: %v", err)
	}
}

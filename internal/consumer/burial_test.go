package consumer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/queue"
)

// What a kill has left is no suspect of a consumer that finds the claim of one that vanished: it is not counted, and
// leaves nothing.
func TestTheDeadOfAKillAreNoSuspects(t *testing.T) {
	db := backendtest.NewModel()
	def := define(trying(1))
	ref := refOf(def)
	keys := tenant.KeysOf(ref)
	ctx, stop := context.WithCancel(t.Context())
	for range 2 * tenant.MaxBatch {
		if err := handleOf(db, def).Cast(ctx, toil, tenant.How{}); err != nil {
			t.Fatal(err)
		}
	}
	err := db.Transact(ctx, func(tx backend.Tx) error {
		_, err := tenant.Kill(tx, keys, ref, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Transact(ctx, func(tx backend.Tx) error {
		items, err := keys.Queue().Read(tx, queue.Item{}, 1)
		tx.Set(tenant.ReadyClaim(ref, "vanished"), tenant.EncodeRecord(tenant.Claim{Stamp: items[0].Stamp, Last: true}))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, db, Options{}, def) }()
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := handleOf(db, def).Call(soon, toil, tenant.How{}); err != nil {
		t.Fatal(err)
	}
	err = db.Read(ctx, func(tx backend.ReadTx) error {
		dead, err := tx.Get(keys.Dead()).Get()
		if dead != nil {
			t.Errorf("dead letters are counted: %v", dead)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

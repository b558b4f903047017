package consumer

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/tenant"
)

// claimants is the processes that claim a server.
func claimants(t *testing.T, db backend.Database, ref tenant.Ref) (found []string) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		found = nil
		return tenant.Children(tx, tenant.ReadyClaims(ref), func(process string) error {
			found = append(found, process)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A consumer that ends gives up its own claims alone: another's tells what may have killed it.
func TestConsumerThatEndsLeavesTheClaimsOfOthers(t *testing.T) {
	db := backendtest.NewModel()
	def := define()
	c := newConsumer(db, Options{}, def)
	p, release := mailbox.Acquire(db)
	defer release()
	c.Process = p
	ref := refOf(def)
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Set(tenant.ReadyClaim(ref, p.ID), tenant.EncodeRecord(tenant.Claim{}))
		tx.Set(tenant.ReadyClaim(ref, "another"), tenant.EncodeRecord(tenant.Claim{}))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.caution.claims.Store(ref, new(claimed))
	c.disclaim(t.Context())
	if left := claimants(t, db, ref); !slices.Equal(left, []string{"another"}) {
		t.Errorf("the claims of %q are left", left)
	}
}

// A claim goes with the ready mark. What comes later is claimed anew, before it is handled.
func TestServerIsClaimedAnewAfterItsQueueWasEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewStore()
		entered, goOn := make(chan struct{}), make(chan struct{})
		def := define(handling(func(*marked) error {
			entered <- struct{}{}
			<-goOn
			return nil
		}))
		ref := refOf(def)
		here, far := db.Open(), db.Open()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, here, Options{}, def) }()
		for range 2 {
			if err := handleOf(far, def).Cast(ctx, toil, tenant.How{}); err != nil {
				t.Fatal(err)
			}
			<-entered
			if claimants(t, far, ref) == nil {
				t.Error("it is handled without a claim")
			}
			goOn <- struct{}{}
			<-time.After(time.Second)
			if left := claimants(t, far, ref); left != nil {
				t.Errorf("it is empty, and claimed by %s", left)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

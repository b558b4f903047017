package dserver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
)

// claimOf is who claims a server.
func claimOf(t *testing.T, db backend.Database, ref Ref) (holder []byte) {
	t.Helper()
	err := db.Read(t.Context(), func(tx backend.ReadTx) (err error) {
		holder, err = tx.Get(readyClaim(ref)).Get()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return holder
}

// A consumer that ends gives up its own claims alone: another's tells what may have killed it.
func TestConsumerThatEndsLeavesTheClaimsOfOthers(t *testing.T) {
	db := backendtest.NewModel()
	def := Define("marked", HandleCast(func(*Context, *marked, toil) error { return nil }))
	c := newConsumer(Consumer{}, db, []Type{def})
	mine, others := def.Ref("mine"), def.Ref("others")
	err := db.Transact(t.Context(), func(tx backend.Tx) error {
		tx.Set(readyClaim(mine), []byte(c.caution.name))
		tx.Set(readyClaim(others), []byte("another"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.caution.claims.Store(mine, nil)
	c.caution.claims.Store(others, nil) // until the other took it over
	c.disclaim(t.Context())
	if holder := claimOf(t, db, mine); holder != nil {
		t.Errorf("its own is left: %s", holder)
	}
	if holder := claimOf(t, db, others); string(holder) != "another" {
		t.Errorf("the other's is %q", holder)
	}
}

// A claim goes with the ready mark. What comes later is claimed anew, before it is handled.
func TestServerIsClaimedAnewAfterItsQueueWasEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := backendtest.NewStore()
		entered, goOn := make(chan struct{}), make(chan struct{})
		def := Define("marked", HandleCast(func(*Context, *marked, toil) error {
			entered <- struct{}{}
			<-goOn
			return nil
		}))
		ref := def.Ref("a")
		here, far := db.Open(), db.Open()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, here, def) }()
		for range 2 {
			if err := def.At(far, "a").Cast(ctx, toil{}); err != nil {
				t.Fatal(err)
			}
			<-entered
			if claimOf(t, far, ref) == nil {
				t.Error("it is handled without a claim")
			}
			goOn <- struct{}{}
			<-time.After(time.Second)
			if holder := claimOf(t, far, ref); holder != nil {
				t.Errorf("it is empty, and claimed by %s", holder)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

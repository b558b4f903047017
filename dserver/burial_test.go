package dserver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/backend/backendtest"
	"github.com/dserver-go/dserver/queue"
)

// A burial that finds its server killed again begins anew: what the next server was sent in the meantime may be where
// the burial has already been.
func TestBurialBeginsAnewWhenItsServerIsKilledAgain(t *testing.T) {
	db := backendtest.NewModel()
	def := Define("marked", HandleCast(func(*Context, *marked, toil) error { return nil }))
	ref := def.Ref("a")
	keys := tenantOf(ref)
	transact := func(fn func(tx backend.Tx) error) {
		t.Helper()
		if err := db.Transact(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	var b burial
	page := func() {
		t.Helper()
		var next burial
		transact(func(tx backend.Tx) (err error) {
			next, err = b.page(tx, ref)
			return err
		})
		b = next
	}
	for range 2 {
		for range 2 * maxDelayedRows {
			if err := def.At(db, "a").Cast(t.Context(), toil{}, After(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		transact(func(tx backend.Tx) error {
			_, err := kill(tx, keys, ref, false)
			return err
		})
		page()
	}
	for !b.done {
		page()
	}
	err := db.Read(t.Context(), func(tx backend.ReadTx) error {
		left, err := tx.GetRange(keys.key.Tree(), backend.RangeOptions{}).Get()
		for _, pair := range left {
			t.Errorf("left: %v", pair.Key)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// meddling is a database in whose transactions something happens before each commit.
type meddling struct {
	backend.Database
	meddle func()
}

func (m *meddling) Transact(ctx context.Context, fn func(tx backend.Tx) error) error {
	return m.Database.Transact(ctx, func(tx backend.Tx) error {
		err := fn(tx)
		m.meddle()
		return err
	})
}

// A kill, and a burial, come to their end although somebody sends to the server all the time.
func TestKillEndsAmongSendersThatNeverPause(t *testing.T) {
	db := backendtest.NewModel()
	def := Define("marked", HandleCast(func(*Context, *marked, toil) error { return nil }))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := 0
	push := func() {
		if err := def.At(db, "a").Cast(t.Context(), toil{}); err != nil {
			t.Error(err)
		}
		if sent++; sent > 100 {
			cancel()
		}
	}
	push()
	if err := def.At(&meddling{db, push}, "a").Kill(ctx); err != nil {
		t.Errorf("after %d messages meanwhile: %v", sent, err)
	}
	if sent > 100 {
		t.Errorf("it ended after %d messages", sent)
	}
}

// What a kill has left is no suspect of a consumer that finds the claim of one that vanished: it is not counted, and
// leaves nothing.
func TestTheDeadOfAKillAreNoSuspects(t *testing.T) {
	db := backendtest.NewModel()
	def := Define("marked", HandleCast(func(*Context, *marked, toil) error { return nil }), Settings[marked]{MaxAttempts: 1})
	ref := def.Ref("a")
	keys := tenantOf(ref)
	ctx, stop := context.WithCancel(t.Context())
	for range 2 * maxBatch {
		if err := def.At(db, "a").Cast(ctx, toil{}); err != nil {
			t.Fatal(err)
		}
	}
	err := db.Transact(ctx, func(tx backend.Tx) error {
		_, err := kill(tx, keys, ref, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Transact(ctx, func(tx backend.Tx) error {
		items, err := keys.queue().Read(tx, queue.Item{}, 1)
		tx.Set(readyClaim(ref, "vanished"), encodeRecord(claim{Stamp: items[0].Stamp, Last: true}))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, db, def) }()
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := def.At(db, "a").Call(soon, toil{}, nil); err != nil {
		t.Fatal(err)
	}
	err = db.Read(ctx, func(tx backend.ReadTx) error {
		dead, err := tx.Get(keys.dead()).Get()
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

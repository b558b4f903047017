// The code of docs/testing.md, which shows all of this file below the imports.
package dservertest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
)

// Auction is the state of one auction.
type Auction struct {
	Open bool
	Best Bid // nobody's at first
}

// Bidder is what somebody has won, in cents, by auction.
type Bidder struct{ Won map[string]int64 }

type (
	Open struct{ For time.Duration }
	Bid  struct {
		Who   string
		Cents int64
	}
	Hammer struct{} // the auction is over
	Won    struct {
		Auction string
		Cents   int64
	}
	Best struct{ dserver.Returns[Bid] }
)

var (
	ErrTooLow  = &dserver.Error{Code: "too-low", Text: "somebody bids as much"}
	ErrNotOpen = &dserver.Error{Code: "not-open", Text: "the auction is not open"}
)

func open(ctx *dserver.Context, a *Auction, m Open) error {
	a.Open = true
	ctx.SetTimer("hammer", m.For, Hammer{})
	return nil
}

func bid(_ *dserver.Context, a *Auction, m Bid) error {
	switch {
	case !a.Open:
		return ErrNotOpen
	case m.Cents <= a.Best.Cents:
		return ErrTooLow
	}
	a.Best = m
	return nil
}

func hammer(ctx *dserver.Context, a *Auction, _ Hammer) error {
	if a.Open && a.Best.Who != "" {
		ctx.Cast(Bidders.Ref(a.Best.Who), Won{ctx.Self().ID, a.Best.Cents})
	}
	a.Open = false
	return nil
}

func best(_ *dserver.Context, a *Auction, _ Best) (Bid, error) { return a.Best, nil }

func won(_ *dserver.Context, b *Bidder, m Won) error {
	b.Won[m.Auction] += m.Cents
	return nil
}

var (
	Auctions = dserver.Define("auction", dserver.HandleCast(open), dserver.HandleCast(bid),
		dserver.HandleCast(hammer), dserver.HandleCall(best))
	Bidders = dserver.Define("bidder", dserver.HandleCast(won))
)

// must ends a test with an error that it does not expect.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestABidMustBeHigher(t *testing.T) {
	a := &Auction{Open: true, Best: Bid{"ada", 500}}
	if err := bid(&dserver.Context{}, a, Bid{"bob", 500}); !errors.Is(err, ErrTooLow) {
		t.Errorf("as much as ada: %v", err)
	}
	if err := bid(&dserver.Context{}, a, Bid{"bob", 501}); err != nil || a.Best.Who != "bob" {
		t.Errorf("more than ada: %v, and %v leads", err, a.Best)
	}
}

func TestTheHighestBidLeads(t *testing.T) {
	db := dservertest.Start(t, Auctions, Bidders)
	vase := Auctions.At(db, "vase")
	ctx := t.Context()
	if err := vase.Call(ctx, Bid{"ada", 500}, nil); !errors.Is(err, ErrNotOpen) {
		t.Errorf("before it is open: %v", err)
	}
	must(t, vase.CastAll(ctx, []any{Open{time.Hour}, Bid{"ada", 500}, Bid{"bob", 700}}))
	if b, err := dserver.Call(ctx, vase, Best{}); err != nil || b != (Bid{"bob", 700}) {
		t.Errorf("%v leads, %v", b, err)
	}
}

func TestTheHammerFallsAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := dservertest.Start(t, Auctions, Bidders)
		vase, ada := Auctions.At(db, "vase"), Bidders.At(db, "ada")
		must(t, vase.CastAll(t.Context(), []any{Open{time.Hour}, Bid{"ada", 500}}))

		<-time.After(59 * time.Minute) // takes no time
		dservertest.Settle(t, db)
		if _, err := ada.State(t.Context()); !errors.Is(err, dserver.ErrNotFound) {
			t.Errorf("ada was told too early: %v", err)
		}

		<-time.After(2 * time.Minute)
		dservertest.Settle(t, db)
		if s, err := ada.State(t.Context()); err != nil || s.Won["vase"] != 500 {
			t.Errorf("ada won %v, %v", s.Won, err)
		}
	})
}

func TestTheHammerSendsToTheWinner(t *testing.T) {
	h := dservertest.ByHand(t, Auctions, Bidders)
	vase, ada := Auctions.At(h.DB, "vase"), Bidders.At(h.DB, "ada")
	ctx := t.Context()
	must(t, vase.CastAll(ctx, []any{Open{time.Hour}, Bid{"ada", 500}, Hammer{}}))

	h.Step() // Open
	h.Step() // Bid
	if b, err := dserver.Query(ctx, vase, Best{}); err != nil || b.Who != "ada" {
		t.Errorf("%v leads, %v", b, err)
	}
	if s, err := ada.Status(ctx); err != nil || s.Queued != 0 {
		t.Errorf("ada has %d messages before the hammer, %v", s.Queued, err)
	}
	h.Step() // Hammer
	if s, err := ada.Status(ctx); err != nil || s.Queued != 1 {
		t.Errorf("ada has %d messages after the hammer, %v", s.Queued, err)
	}
	if n := h.Drain(); n != 1 { // Won
		t.Errorf("%d messages were left", n)
	}
	if s, err := ada.State(ctx); err != nil || s.Won["vase"] != 500 {
		t.Errorf("ada won %v, %v", s.Won, err)
	}
}

func TestACallIsAnsweredByAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := dservertest.ByHand(t, Auctions, Bidders)
		answer := make(chan error, 1)
		go func() { answer <- Auctions.At(h.DB, "vase").Call(t.Context(), Bid{"ada", 500}, nil) }()
		synctest.Wait() // until the bid is on the queue
		h.Step()
		if err := <-answer; !errors.Is(err, ErrNotOpen) {
			t.Errorf("before the auction is open: %v", err)
		}
	})
}

func TestEachOrderHasOneWinner(t *testing.T) {
	winners := map[string]int{}
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(Auctions, Bidders)
		vase := Auctions.At(db, "vase")
		must(t, vase.Cast(t.Context(), Open{time.Minute}))
		o.Drain() // each order begins with an open auction

		bids := []Bid{{"ada", 500}, {"bob", 700}}
		taken := make([]bool, len(bids))
		for i, b := range bids {
			o.Go(b.Who, func(ctx context.Context) error {
				err := vase.Call(ctx, b, nil)
				taken[i] = err == nil
				if errors.Is(err, ErrTooLow) || errors.Is(err, ErrNotOpen) {
					return nil
				}
				return err
			})
		}
		o.Run()

		winner := Bid{Who: "nobody"} // the highest of the bids that were taken
		for i, b := range bids {
			if taken[i] {
				winner = b
			}
		}
		for _, b := range bids {
			s, err := Bidders.At(db, b.Who).State(t.Context())
			if b == winner && (err != nil || s.Won["vase"] != b.Cents) || b != winner && len(s.Won) > 0 {
				t.Errorf("%s won, and %s has %v, %v", winner.Who, b.Who, s.Won, err)
			}
		}
		winners[winner.Who]++
	})
	if len(winners) != 3 {
		t.Errorf("the winners were %v, not ada, bob and nobody: this proves little", winners)
	}
}

func TestABidCountsOnceWithEachFault(t *testing.T) {
	dservertest.EachFault(t, func(t *testing.T, f *dservertest.Faults) {
		f.Start(Auctions, Bidders)
		send := func(m any, key string) error {
			return f.Do(func(ctx context.Context, db backend.Database) error {
				return Auctions.At(db, "vase").Call(ctx, m, nil, dserver.Once(key))
			})
		}
		must(t, send(Open{time.Minute}, "open"))
		must(t, send(Bid{"ada", 500}, "ada's bid"))
		must(t, send(Hammer{}, "hammer"))
		f.Settle()
		must(t, f.Do(func(ctx context.Context, db backend.Database) error {
			ada, err := Bidders.At(db, "ada").State(ctx)
			if err == nil && ada.Won["vase"] != 500 {
				t.Errorf("%v: ada won %v", f, ada.Won)
			}
			return err
		}))
	})
}

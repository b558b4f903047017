package dservertest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
)

// Tea is the state of a shop's shelf.
type Tea struct{ Tins int }

type (
	Stock struct{ Tins int }
	Buy   struct{ dserver.Returns[int] } // how many tins are left
	Close struct{}
	Shut  struct{ In time.Duration }
)

var errNoTea = &dserver.Error{Code: "no-tea", Text: "there is no tea"}

var teas = dserver.Define("tea",
	dserver.HandleCast(func(_ *dserver.Context, s *Tea, m Stock) error {
		s.Tins += m.Tins
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, s *Tea, _ Buy) (int, error) {
		if s.Tins == 0 {
			return 0, errNoTea
		}
		s.Tins--
		return s.Tins, nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, _ *Tea, m Shut) error {
		ctx.SetTimer("shut", m.In, Close{})
		return nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, s *Tea, _ Close) error {
		s.Tins = 0
		return nil
	}),
)

// test runs what is the body of a test function, as go test does, and prints nothing itself.
func test(body func(t *testing.T)) {
	verbose := flag.Lookup("test.v").Value
	before := verbose.String()
	_ = verbose.Set("false")
	defer func() { _ = verbose.Set(before) }()
	all := func(_, _ string) (bool, error) { return true, nil }
	if !testing.RunTests(all, []testing.InternalTest{{Name: "Test", F: body}}) {
		fmt.Println("it failed")
	}
}

func ExampleStart() {
	test(func(t *testing.T) { // func TestTheShopSellsWhatItHas(t *testing.T) {
		db := dservertest.Start(t, teas)
		green := teas.At(db, "green")
		if err := green.Cast(t.Context(), Stock{1}); err != nil {
			t.Fatal(err)
		}
		fmt.Println(dserver.Call(t.Context(), green, Buy{}))
		_, err := dserver.Call(t.Context(), green, Buy{})
		fmt.Println(errors.Is(err, errNoTea))
	})
	// Output:
	// 0 <nil>
	// true
}

// In a bubble of testing/synctest hours take no time.
func ExampleSettle() {
	test(func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := dservertest.Start(t, teas)
			green := teas.At(db, "green")
			if err := green.CastAll(t.Context(), []any{Stock{9}, Shut{8 * time.Hour}}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				dservertest.Settle(t, db)
				fmt.Println(green.State(t.Context()))
				<-time.After(9 * time.Hour)
			}
		})
	})
	// Output:
	// {9} <nil>
	// {0} <nil>
}

// By hand nothing happens by itself: the test looks between two messages.
func ExampleByHand() {
	test(func(t *testing.T) {
		h := dservertest.ByHand(t, teas)
		green := teas.At(h.DB, "green")
		if err := green.CastAll(t.Context(), []any{Stock{2}, Buy{}, Buy{}}); err != nil {
			t.Fatal(err)
		}
		for h.Step() {
			fmt.Println(green.State(t.Context()))
		}
	})
	// Output:
	// {2} <nil>
	// {1} <nil>
	// {0} <nil>
}

// Two want the last tin. In each order one of them gets it.
func ExampleEachOrder() {
	first, second := 0, 0
	test(func(t *testing.T) {
		dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
			green := teas.At(o.Start(teas), "green")
			if err := green.Cast(t.Context(), Stock{1}); err != nil {
				t.Fatal(err)
			}
			o.Drain() // each order begins with one tin
			var bought [2]bool
			for i, who := range []string{"ann", "bob"} {
				o.Go(who, func(ctx context.Context) error {
					_, err := dserver.Call(ctx, green, Buy{})
					bought[i] = err == nil
					if errors.Is(err, errNoTea) {
						return nil
					}
					return err
				})
			}
			o.Run()
			if bought[0] == bought[1] {
				t.Error("the tin was sold twice, or not at all")
			}
			if bought[0] {
				first++
			} else {
				second++
			}
		})
	})
	fmt.Println(first > 0, second > 0)
	// Output: true true
}

// A tin that is bought with a key is bought once, whatever dies while it is.
func ExampleEachFault() {
	test(func(t *testing.T) {
		dservertest.EachFault(t, func(t *testing.T, f *dservertest.Faults) {
			f.Start(teas)
			send := func(m any, key string) {
				err := f.Do(func(ctx context.Context, db backend.Database) error {
					return teas.At(db, "green").Call(ctx, m, nil, dserver.Once(key))
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			send(Stock{3}, "delivery")
			send(Buy{}, "ann's tin")
			err := f.Do(func(ctx context.Context, db backend.Database) error {
				s, err := teas.At(db, "green").State(ctx)
				if err == nil && s.Tins != 2 {
					t.Errorf("%v: %d tins are left", f, s.Tins)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	})
	fmt.Println("with each fault two of three tins are left")
	// Output: with each fault two of three tins are left
}

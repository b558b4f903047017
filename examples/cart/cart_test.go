package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/dserver/dservertest"
	"github.com/dserver-go/dserver/internal/dbtest"
)

// Ada puts something in and orders; Bob puts in something else. In each order of what they do, the placed order is what
// Ada saw, it has what was acknowledged before, and what comes later is refused.
func TestNothingIsLostBetweenTwoPeople(t *testing.T) {
	ends := map[string]int{}
	dservertest.EachOrder(t, func(t *testing.T, o *dservertest.Order) {
		db := o.Start(Carts)
		cart := Carts.At(db, "household")
		if err := cart.Cast(t.Context(), Put{"tea", 1, 350}); err != nil {
			t.Fatal(err)
		}
		o.Drain()
		var ada, bob error
		o.Go("ada", func(ctx context.Context) error {
			if ada = cart.Call(ctx, Put{"tea", 1, 350}, nil); ada != nil {
				return ada
			}
			_, ada = dserver.Call(ctx, cart, Place{Number: "1", Cents: 700})
			return nil
		})
		o.Go("bob", func(ctx context.Context) error {
			bob = cart.Call(ctx, Put{"cake", 1, 120}, nil)
			return nil
		})
		o.Run()
		c, err := cart.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ends[fmt.Sprintf("changed=%v late=%v order=%q cents=%d",
			errors.Is(ada, ErrChanged), errors.Is(bob, ErrPlaced), c.Placed, c.Cents())]++
	})
	if len(ends) != 2 || ends[`changed=true late=false order="" cents=820`] == 0 ||
		ends[`changed=false late=true order="1" cents=700`] == 0 {
		t.Errorf("it ended so, and so often: %v", ends)
	}
}

func TestPressingTwiceOrdersOnce(t *testing.T) {
	cart := Carts.At(dservertest.Start(t, Carts), "household")
	for i, want := range []error{nil, nil, ErrPlaced} {
		_, err := dserver.Call(t.Context(), cart, Place{Number: []string{"1", "1", "2"}[i]})
		if !errors.Is(err, want) {
			t.Errorf("the order number %d: %v", i, err)
		}
	}
}

func TestLinesKeepTheirOrder(t *testing.T) {
	cart := Carts.At(dservertest.Start(t, Carts), "household")
	for _, m := range []any{Put{"a", 1, 1}, Put{"b", 1, 1}, Put{"c", 1, 1}, Up{"c"}, Put{"a", 2, 1}, Take{"b"}, Put{"b", 1, 1}} {
		if err := cart.Call(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	c, err := cart.State(t.Context())
	if got := fmt.Sprint(c.Items); got != "[{c 1 1} {a 3 1} {b 1 1}]" || err != nil {
		t.Errorf("the cart has %s, %v", got, err)
	}
}

func TestTheProgramCountsWhatBothPutIn(t *testing.T) {
	database := dbtest.Name(t)
	for range 2 {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-db", database}, &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"order by ", " 100 tea     350.00", " 200 cake    240.00"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("it printed %q, without %q", &out, want)
			}
		}
	}
}

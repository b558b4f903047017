package dserver_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Order is paid by a request to the world outside.
type Order struct {
	Cents  int64
	Charge string
}

// Checkout charges a card, and is answered with what the gateway calls the charge.
type Checkout struct {
	dserver.Returns[string]
	Card string
}

// ErrDeclined is a decision of the gateway: it is not tried again.
var ErrDeclined = &dserver.Error{Code: "declined", Text: "the card was declined"}

// gateway stands for a service that charges once per key, and is sometimes away.
type gateway struct{ away int }

func (g *gateway) charge(_ context.Context, card string, cents int64, key string) (string, error) {
	switch {
	case g.away > 0:
		g.away--
		return "", errors.New("the gateway is away") // tried again, with the same key
	case card == "stolen" || key == "":
		return "", ErrDeclined
	}
	return fmt.Sprintf("%d from %s", cents, card), nil
}

func orders(g *gateway) *dserver.Definition[Order] {
	return dserver.Define("order",
		dserver.Init(func(_ *dserver.Context, o *Order) error {
			o.Cents = 1500
			return nil
		}),
		dserver.HandleLockedCall(
			func(ctx *dserver.LockedContext, o Order, m Checkout) (string, error) { // outside of any transaction
				return g.charge(ctx, m.Card, o.Cents, ctx.IdempotencyKey())
			},
			func(ctx *dserver.Context, o *Order, m Checkout, charge string) (string, error) { // in the commit that unlocks
				o.Charge = charge
				return charge, nil
			}),
	)
}

// Work for the world outside runs while the server is locked, as often as it takes. What it found is applied once.
func ExampleHandleLockedCall() {
	def := orders(&gateway{away: 1})
	db, end := serve(def)
	defer end()
	ctx := context.Background()

	charge, err := dserver.Call(ctx, def.At(db, "7"), Checkout{Card: "visa"})
	fmt.Println(charge, err)
	_, err = dserver.Call(ctx, def.At(db, "8"), Checkout{Card: "stolen"})
	fmt.Println(errors.Is(err, ErrDeclined))
	// Output:
	// 1500 from visa <nil>
	// true
}

package main

import (
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Order is the state of one order.
type Order struct {
	Cents  int64
	Charge string // the provider's number of the charge; "" while the order is not paid
}

// Place says what an order costs.
type Place struct{ Cents int64 }

// Pay charges a card, and is answered with the receipt. Of an order that is paid it is answered with the same receipt.
type Pay struct {
	dserver.Returns[Receipt]
	Card string
}

// Receipt says what was charged.
type Receipt struct {
	Charge string
	Cents  int64
}

// Errors by which an order refuses.
var (
	ErrNoOrder  = &dserver.Error{Code: "no-order", Text: "there is no such order"}
	ErrPaid     = &dserver.Error{Code: "paid", Text: "the order is paid already"}
	ErrDeclined = &dserver.Error{Code: "declined", Text: "the card was declined"}
)

// Orders is the address of orders, for those who place and pay them. They need no provider.
var Orders = dserver.Define[Order]("order")

// PaidThrough is what workers run. A card is charged under the lock: outside of any transaction, as a transaction may run
// again, and with the key of the message, by which the provider can tell that it is asked again.
func PaidThrough(g Gateway) *dserver.Definition[Order] {
	return Orders.With(
		// Nobody knows whether a charge whose answer never came was made. So the order is not given up: the provider is
		// asked with the same key for most of an hour, and again when an operator says so.
		dserver.Settings[Order]{MaxAttempts: 100, WorkLimit: 10 * time.Second, Halt: true},

		dserver.HandleCast(func(_ *dserver.Context, o *Order, m Place) error {
			if o.Charge != "" {
				return ErrPaid
			}
			o.Cents = m.Cents
			return nil
		}),
		dserver.HandleCall(func(ctx *dserver.Context, o *Order, _ Pay) (Receipt, error) {
			switch {
			case o.Charge != "":
				return o.receipt(), nil // the button was pressed twice
			case o.Cents == 0:
				return Receipt{}, ErrNoOrder
			}
			ctx.Lock() // and the two functions below have the message
			return Receipt{}, nil
		}),
		dserver.HandleLockedCall(
			func(ctx *dserver.LockedContext, o Order, m Pay) (string, error) {
				return g.Charge(ctx, ctx.IdempotencyKey(), m.Card, o.Cents)
			},
			func(_ *dserver.Context, o *Order, _ Pay, charge string) (Receipt, error) {
				o.Charge = charge
				return o.receipt(), nil
			}),
	)
}

func (o *Order) receipt() Receipt { return Receipt{o.Charge, o.Cents} }

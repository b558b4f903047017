package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Invoice is paid by a request to the world outside, which must not take for ever.
type Invoice struct {
	Paying bool // locked work asks the bank
	Paid   string
	Unsure bool // somebody has to ask the bank what became of it
}

// Settle pays, and is answered with what the bank calls the payment.
type Settle struct{ dserver.Returns[string] }

// PaymentTooSlow is sent by a timer.
type PaymentTooSlow struct{}

var ErrPaymentTooSlow = &dserver.Error{Code: "payment-too-slow", Text: "the bank has not answered in time"}

func invoices(pay func(ctx context.Context, key string) (string, error)) *dserver.Definition[Invoice] {
	return dserver.Define("invoice",
		dserver.HandleCall(func(ctx *dserver.Context, i *Invoice, _ Settle) (string, error) {
			i.Paying = true
			ctx.SetTimer("payment", 20*time.Millisecond, PaymentTooSlow{}, dserver.Priority()) // past the lock
			ctx.Lock()
			return "", nil
		}),
		dserver.HandleLockedCall(
			func(ctx *dserver.LockedContext, _ Invoice, _ Settle) (string, error) {
				return pay(ctx, ctx.IdempotencyKey())
			},
			func(ctx *dserver.Context, i *Invoice, _ Settle, payment string) (string, error) {
				i.Paying, i.Paid = false, payment
				ctx.CancelTimer("payment")
				return payment, nil
			}),
		dserver.HandleCast(func(ctx *dserver.Context, i *Invoice, _ PaymentTooSlow) error {
			if i.Paying {
				i.Paying, i.Unsure = false, true
				ctx.Unlock(ErrPaymentTooSlow) // the caller of Settle gets it, and the server goes on
			}
			return nil
		}),
	)
}

// A timer that goes past the lock ends work that takes too long. Either the payment is applied or the timer ends it, and
// its caller is told which. What the bank has done by then stays done.
func ExampleContext_Unlock() {
	def := invoices(func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done() // the bank is away
		return "", ctx.Err()
	})
	db, end := serve(def)
	defer end()
	ctx := context.Background()

	i := def.At(db, "7")
	_, err := dserver.Call(ctx, i, Settle{})
	fmt.Println(errors.Is(err, ErrPaymentTooSlow), err)
	state, err := i.State(ctx)
	fmt.Println(state.Paid, state.Unsure, err)
	// Output:
	// true the bank has not answered in time
	//  true <nil>
}

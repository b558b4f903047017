package dserver_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Account is money.
type Account struct{ Cents int64 }

// Deposit adds money.
type Deposit struct{ Cents int64 }

// Transfer moves money to another account.
type Transfer struct {
	dserver.Returns[int64] // what is left
	To                     dserver.Ref
	Cents                  int64
}

// Balance asks what is there.
type Balance struct{ dserver.Returns[int64] }

// ErrFunds refuses a Transfer.
var ErrFunds = &dserver.Error{Code: "funds", Text: "not enough money"}

// account is the address that handlers name. Accounts has the handlers: a definition whose handlers name itself would
// be an initialization cycle.
var (
	account  = dserver.Define[Account]("account")
	Accounts = account.With(
		dserver.HandleCast(func(_ *dserver.Context, a *Account, m Deposit) error {
			a.Cents += m.Cents
			return nil
		}),
		dserver.HandleCall(func(ctx *dserver.Context, a *Account, m Transfer) (int64, error) {
			if m.Cents > a.Cents {
				return 0, ErrFunds
			}
			a.Cents -= m.Cents
			ctx.Cast(m.To, Deposit{m.Cents}) // in the same commit: it is never taken from here and not sent
			return a.Cents, nil
		}),
		dserver.HandleCall(func(_ *dserver.Context, a *Account, _ Balance) (int64, error) { return a.Cents, nil }),
	)
)

// What a handler sends to other servers is part of its commit: sent once if the handler succeeds, and never if not.
func ExampleContext_Cast() {
	db, end := serve(Accounts)
	defer end()
	ctx := context.Background()

	ada, bob := Accounts.At(db, "ada"), Accounts.At(db, "bob")
	if err := ada.Cast(ctx, Deposit{100}); err != nil {
		fmt.Println(err)
	}
	left, err := dserver.Call(ctx, ada, Transfer{To: account.Ref("bob"), Cents: 70})
	fmt.Println(left, err)
	_, err = dserver.Call(ctx, ada, Transfer{To: account.Ref("bob"), Cents: 70})
	fmt.Println(errors.Is(err, ErrFunds))
	arrived, err := dserver.Call(ctx, bob, Balance{}) // sent after the transfer was acknowledged, so it sees it
	fmt.Println(arrived, err)
	// Output:
	// 30 <nil>
	// true
	// 70 <nil>
}

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// Account is the state of one account. What it has sent and got is kept by the other account's id, so that an audit can
// tell money on its way from money that is lost.
type Account struct {
	Cents int64
	Sent  map[string]int64
	Got   map[string]int64
}

// Open puts the first money into an account.
type Open struct{ Cents int64 }

// Transfer takes money from the account and sends it to another one. It returns what is left.
type Transfer struct {
	dserver.Returns[int64]
	To    string
	Cents int64
}

// Deposit is money that another account has sent.
type Deposit struct {
	From  string
	Cents int64
}

// ErrFunds refuses a transfer.
var ErrFunds = &dserver.Error{Code: "funds", Text: "not enough money"}

// account is the address that the handlers send to: Go refuses a variable whose handlers name it.
var account = dserver.Define[Account]("account")

// Accounts handle transfers.
var Accounts = account.With(
	dserver.HandleCast(func(_ *dserver.Context, a *Account, m Open) error {
		a.Cents += m.Cents
		return nil
	}),
	dserver.HandleCall(func(ctx *dserver.Context, a *Account, m Transfer) (int64, error) {
		if m.Cents <= 0 || m.Cents > a.Cents {
			return a.Cents, ErrFunds
		}
		a.Cents -= m.Cents
		a.Sent[m.To] += m.Cents
		ctx.Cast(account.Ref(m.To), Deposit{ctx.Self().ID, m.Cents}) // in the same commit: never one without the other
		return a.Cents, nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, a *Account, m Deposit) error {
		a.Cents += m.Cents
		a.Got[m.From] += m.Cents
		return nil
	}),
)

// Report is what an audit found.
type Report struct {
	Total    int64 // in all accounts, and on its way
	OnItsWay int64
}

// Audit adds up all money at one moment: all accounts are read from one snapshot, while transfers go on. It fails when
// an account got more from another than that has sent.
func Audit(ctx context.Context, db backend.Database) (r Report, err error) {
	err = db.Read(ctx, func(tx backend.ReadTx) error {
		accounts, err := read(ctx, &moment{db, tx})
		if err != nil {
			return err
		}
		r, err = audit(accounts)
		return err
	})
	return r, err
}

func read(ctx context.Context, db backend.Database) (map[string]Account, error) {
	accounts := map[string]Account{}
	for ref, err := range dserver.Servers(ctx, db, Accounts.Name()) {
		if err != nil {
			return nil, err
		}
		accounts[ref.ID], err = Accounts.At(db, ref.ID).State(ctx)
		if err != nil && !errors.Is(err, dserver.ErrNotFound) { // it may have messages and no state yet
			return nil, err
		}
	}
	return accounts, nil
}

func audit(accounts map[string]Account) (r Report, err error) {
	for from, a := range accounts {
		r.Total += a.Cents
		for to, sent := range a.Sent {
			onItsWay := sent - accounts[to].Got[from]
			if onItsWay < 0 {
				return r, fmt.Errorf("%s sent %d to %s, which got %d more", from, sent, to, -onItsWay)
			}
			r.Total += onItsWay
			r.OnItsWay += onItsWay
		}
	}
	return r, nil
}

// moment is the database as it is in one snapshot: all reads of it see the same.
type moment struct {
	backend.Database
	tx backend.ReadTx
}

// Read runs fn on the snapshot.
func (m *moment) Read(_ context.Context, fn func(backend.ReadTx) error) error { return fn(m.tx) }

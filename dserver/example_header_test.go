package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Purchase and Parcel are the states of servers that send to each other.
type (
	Purchase struct{ Goods string }
	Parcel   struct{ Goods string }
)

// Acquire is sent to a purchase, which sends Pack to a parcel.
type (
	Acquire struct{ Goods string }
	Pack    struct{ Goods string }
)

var packed = make(chan string, 1)

var purchases = dserver.Define("purchase",
	dserver.HandleCast(func(ctx *dserver.Context, p *Purchase, m Acquire) error {
		p.Goods = m.Goods
		ctx.Cast(parcels.Ref(ctx.Self().ID), Pack(m)) // with the headers of Acquire
		return nil
	}),
)

var parcels = dserver.Define("parcel",
	dserver.HandleCast(func(ctx *dserver.Context, p *Parcel, m Pack) error {
		p.Goods = m.Goods
		request := ctx.Header("request")
		ctx.AfterCommit(func() { packed <- m.Goods + ", as request " + request + " asked for" })
		return nil
	}),
)

// A header travels with its message, and with what handlers send because of it.
func ExampleHeader() {
	db, end := serve(purchases, parcels)
	defer end()

	if err := purchases.At(db, "17").Cast(context.Background(), Acquire{"tea"}, dserver.Header("request", "r-1")); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-packed)
	// Output: tea, as request r-1 asked for
}

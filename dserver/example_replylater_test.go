package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Bakery hands out bread, and keeps those waiting for whom there is none yet.
type Bakery struct {
	Bread   []string
	Waiting []dserver.From[string] // addresses of callers, which are plain data
}

// Bake brings a loaf.
type Bake struct{ Loaf string }

// Fetch is answered as soon as there is one.
type Fetch struct{ dserver.Returns[string] }

var bakeries = dserver.Define("bakery",
	dserver.HandleCall(func(ctx *dserver.Context, b *Bakery, m Fetch) (string, error) {
		if len(b.Bread) == 0 {
			b.Waiting = append(b.Waiting, dserver.ReplyLater(ctx, m))
			return "", nil // nobody gets this
		}
		loaf := b.Bread[0]
		b.Bread = b.Bread[1:]
		return loaf, nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, b *Bakery, m Bake) error {
		if len(b.Waiting) == 0 {
			b.Bread = append(b.Bread, m.Loaf)
			return nil
		}
		b.Waiting[0].Reply(ctx, m.Loaf)
		b.Waiting = b.Waiting[1:]
		return nil
	}),
)

// ReplyLater keeps a call open until some later handler, in whatever process, answers it.
func ExampleReplyLater() {
	db, end := serve(bakeries)
	defer end()
	ctx := context.Background()

	corner := bakeries.At(db, "corner")
	fetched := make(chan string)
	go func() {
		loaf, err := dserver.Call(ctx, corner, Fetch{})
		fetched <- fmt.Sprint(loaf, " ", err)
	}()
	if err := corner.Cast(ctx, Bake{"rye"}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-fetched)
	// Output: rye <nil>
}

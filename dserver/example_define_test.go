package dserver_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Cart shows what a state may be. A handler that changes one field, entry or item writes that alone.
type Cart struct {
	Owner   string           // a key for each field
	Prices  map[string]int64 // a key for each entry
	Lines   []CartLine       // a key for each item, as its items have an id, and one for its place in the order
	Opened  time.Time        // one value
	Coupons []string         `dserver:"coupons,whole"` // one value, under another name than the field's
	cache   int64            `dserver:"-"`             // not stored: gone at the latest when another process goes on
}

// CartLine is an item of a list with ids: moving it writes a key or two, however long the list is.
type CartLine struct {
	Article string `dserver:"id"`
	Amount  int
}

// AddLine puts an article first.
type AddLine struct {
	Article string
	Cents   int64
}

var carts = dserver.Define("cart",
	dserver.HandleCast(func(_ *dserver.Context, c *Cart, m AddLine) error {
		if slices.ContainsFunc(c.Lines, func(l CartLine) bool { return l.Article == m.Article }) {
			return fmt.Errorf("%s is there already", m.Article)
		}
		c.Lines = slices.Insert(c.Lines, 0, CartLine{m.Article, 1})
		c.Prices[m.Article] = m.Cents
		c.cache++
		return nil
	}),
)

// Define checks the types of state and messages: what cannot be stored and read back is refused when the program
// starts.
func ExampleDefine() {
	db, end := serve(carts)
	defer end()
	ctx := context.Background()

	ada := carts.At(db, "ada")
	for _, article := range []string{"tea", "cup"} {
		if err := ada.Call(ctx, AddLine{article, 250}, nil); err != nil {
			fmt.Println(err)
		}
	}
	state, err := ada.State(ctx)
	fmt.Println(state.Lines, state.Prices["tea"], err)

	defer func() { fmt.Println("refused:", recover() != nil) }()
	dserver.Define[struct{ Anything any }]("wrong")
	// Output:
	// [{cup 1} {tea 1}] 250 <nil>
	// refused: true
}

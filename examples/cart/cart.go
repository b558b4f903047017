package main

import (
	"slices"

	"github.com/dserver-go/dserver/dserver"
)

// Cart is the state of a shop's cart. A household has one, and several people with it in their browsers.
type Cart struct {
	Items  []Item // in the order in which they were put in
	Placed string // the number of the order, once it is placed
}

// Item is one line of a cart. The field with the tag id names it among the others: a change of one line writes that
// line, and the order of the lines is kept.
type Item struct {
	Article string `dserver:"id"`
	N       int
	Cents   int64 // each
}

// Put adds to what is in the cart.
type Put struct {
	Article string
	N       int
	Cents   int64
}

// Take removes an article.
type Take struct{ Article string }

// Up moves an article ahead of all others.
type Up struct{ Article string }

// Show asks what is in the cart.
type Show struct{ dserver.Returns[Cart] }

// Place turns the cart into an order, and is answered with it. Cents is the sum that the buyer has seen: somebody else
// may have put something in meanwhile, and nobody pays for what they did not see.
type Place struct {
	dserver.Returns[Cart]
	Number string
	Cents  int64
}

// Errors by which a cart refuses.
var (
	ErrPlaced  = &dserver.Error{Code: "placed", Text: "the order is placed already"}
	ErrChanged = &dserver.Error{Code: "changed", Text: "the cart has changed: look again"}
	ErrNone    = &dserver.Error{Code: "none", Text: "there is no such article in the cart"}
)

// Carts change by messages such as "one more of these". A cart that was read, changed and written back would lose what
// the other person did in between.
var Carts = dserver.Define("cart",
	dserver.HandleCast(func(_ *dserver.Context, c *Cart, m Put) error {
		if c.Placed != "" {
			return ErrPlaced
		}
		if i := c.find(m.Article); i >= 0 {
			c.Items[i].N += m.N
			return nil
		}
		c.Items = append(c.Items, Item(m))
		return nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, c *Cart, m Take) error {
		if c.Placed != "" {
			return ErrPlaced
		}
		c.Items = slices.DeleteFunc(c.Items, func(item Item) bool { return item.Article == m.Article })
		return nil
	}),
	dserver.HandleCast(func(_ *dserver.Context, c *Cart, m Up) error {
		i := c.find(m.Article)
		if i < 0 {
			return ErrNone
		}
		item := c.Items[i]
		c.Items = slices.Insert(slices.Delete(c.Items, i, i+1), 0, item)
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, c *Cart, _ Show) (Cart, error) { return *c, nil }),
	dserver.HandleCall(func(_ *dserver.Context, c *Cart, m Place) (Cart, error) {
		switch {
		case c.Placed == m.Number:
			return *c, nil // the button was pressed twice
		case c.Placed != "":
			return *c, ErrPlaced
		case c.Cents() != m.Cents:
			return *c, ErrChanged
		}
		c.Placed = m.Number
		return *c, nil
	}),
)

func (c *Cart) find(article string) int {
	return slices.IndexFunc(c.Items, func(item Item) bool { return item.Article == article })
}

// Cents is the sum of all lines.
func (c *Cart) Cents() (sum int64) {
	for _, item := range c.Items {
		sum += int64(item.N) * item.Cents
	}
	return sum
}

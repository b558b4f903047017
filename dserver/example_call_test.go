package dserver_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Booth sells numbered seats.
type Booth struct {
	Left int
	Sold map[int]string // a row in the store for each seat
}

// Open puts seats on sale.
type Open struct{ Seats int }

// Buy is answered with the number of the seat.
type Buy struct {
	dserver.Returns[int] // first, so that it costs no memory
	Who                  string
}

// ErrSoldOut is a decision that callers branch on. Its code crosses processes.
var ErrSoldOut = &dserver.Error{Code: "sold-out", Text: "no seats left"}

var booths = dserver.Define("booth",
	dserver.HandleCast(func(_ *dserver.Context, b *Booth, m Open) error {
		b.Left += m.Seats
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, b *Booth, m Buy) (int, error) {
		if b.Left == 0 {
			return 0, ErrSoldOut // rolls back whatever this handler changed
		}
		seat := len(b.Sold) + 1
		b.Left--
		b.Sold[seat] = m.Who // maps are never nil in a handler
		return seat, nil
	}),
)

// A call waits until its message has taken effect, and infers the type of the answer.
func ExampleCall() {
	db, end := serve(booths)
	defer end()
	ctx := context.Background()

	hall := booths.At(db, "hall")
	if err := hall.Cast(ctx, Open{Seats: 1}); err != nil {
		fmt.Println(err)
	}
	for _, who := range []string{"Ada", "Bob"} {
		seat, err := dserver.Call(ctx, hall, Buy{Who: who})
		switch {
		case errors.Is(err, ErrSoldOut):
			fmt.Println(who, "stays at home")
		case err != nil:
			fmt.Println(err)
		default:
			fmt.Println(who, "has seat", seat)
		}
	}
	// Output:
	// Ada has seat 1
	// Bob stays at home
}

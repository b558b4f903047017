package dserver_test

import (
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Tank is a state with a rule that is worth a test.
type Tank struct{ Litres int }

// Fill adds litres, up to a hundred.
type Fill struct{ Litres int }

func fill(ctx *dserver.Context, t *Tank, m Fill) error {
	if t.Litres+m.Litres > 100 {
		return fmt.Errorf("%d litres do not fit", m.Litres)
	}
	t.Litres += m.Litres
	ctx.AfterCommit(func() { fmt.Println("filled") })
	return nil
}

var _ = dserver.Define("tank", dserver.HandleCast(fill))

// A handler is a function: with the zero Context it is tested without a store. What it asks of the Context is not done.
func ExampleContext() {
	tank := Tank{Litres: 80}
	fmt.Println(fill(&dserver.Context{}, &tank, Fill{15}), tank.Litres)
	fmt.Println(fill(&dserver.Context{}, &tank, Fill{15}), tank.Litres)
	// Output:
	// <nil> 95
	// 15 litres do not fit 95
}

package dserver_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Ratio is a state whose handler has a bug.
type Ratio struct{ Value int }

// Divide breaks when By is 0.
type Divide struct {
	dserver.Returns[int]
	By int
}

var ratios = dserver.Define("ratio",
	dserver.Settings[Ratio]{MaxAttempts: 3},
	dserver.HandleCall(func(_ *dserver.Context, r *Ratio, m Divide) (int, error) {
		r.Value = 100 / m.By
		return r.Value, nil
	}),
)

// A handler that breaks is rolled back. When it was tried often enough its caller is told, and the server goes on.
func ExampleSettings() {
	db, end := serve(ratios)
	defer end()
	ctx := context.Background()

	r := ratios.At(db, "one")
	_, err := dserver.Call(ctx, r, Divide{By: 0})
	fmt.Println(errors.Is(err, dserver.ErrFault))
	n, err := dserver.Call(ctx, r, Divide{By: 4})
	fmt.Println(n, err)
	// Output:
	// true
	// 25 <nil>
}

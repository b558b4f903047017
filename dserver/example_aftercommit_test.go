package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Gauge is a number that dashboards show.
type Gauge struct{ Value int }

// Set changes it.
type Set struct{ Value int }

var gauges = dserver.Define("gauge",
	dserver.HandleCast(func(ctx *dserver.Context, g *Gauge, m Set) error {
		if m.Value < 0 {
			return fmt.Errorf("%d is negative", m.Value) // nothing is printed
		}
		g.Value = m.Value
		ctx.AfterCommit(func() { fmt.Println("stored", m.Value) })
		return nil
	}),
)

// AfterCommit is for logs, metrics and hints to caches: it runs after the commit, at most once, in this process.
func ExampleContext_AfterCommit() {
	db, end := serve(gauges)
	ctx := context.Background()
	for _, v := range []int{7, -1} {
		if err := gauges.At(db, "speed").Call(ctx, Set{v}, nil); err != nil {
			fmt.Println("refused:", err)
		}
	}
	end()
	// Unordered output:
	// stored 7
	// refused: -1 is negative
}

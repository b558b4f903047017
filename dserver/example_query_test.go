package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Thermometer keeps its highest reading.
type Thermometer struct{ Highest float64 }

// Reading is a measurement.
type Reading struct{ Celsius float64 }

// Fahrenheit asks for the highest reading.
type Fahrenheit struct{ dserver.Returns[float64] }

var thermometers = dserver.Define("thermometer",
	dserver.HandleCast(func(_ *dserver.Context, t *Thermometer, m Reading) error {
		t.Highest = max(t.Highest, m.Celsius)
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, t *Thermometer, _ Fahrenheit) (float64, error) {
		return t.Highest*9/5 + 32, nil
	}),
)

// A query runs a handler on a snapshot of the committed state: past the queue, without a consumer, storing nothing.
func ExampleQuery() {
	db, end := serve(thermometers)
	defer end()
	ctx := context.Background()

	roof := thermometers.At(db, "roof")
	if err := roof.Call(ctx, Reading{Celsius: 35}, nil); err != nil { // a message without an answer can be called too
		fmt.Println(err)
	}
	f, err := dserver.Query(ctx, roof, Fahrenheit{})
	fmt.Println(f, err)
	state, err := roof.State(ctx) // or a copy of the whole state
	fmt.Println(state.Highest, err)
	// Output:
	// 95 <nil>
	// 35 <nil>
}

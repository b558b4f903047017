package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// Follow yields the state now and after each change, whichever process made it. The loop sends the next reading, and ends when
// it has seen enough.
func ExampleDServer_Follow() {
	db, end := serve(thermometers)
	defer end()
	ctx := context.Background()

	roof := thermometers.At(db, "roof")
	for state, err := range roof.Follow(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(state.Highest)
		if state.Highest == 40 {
			break
		}
		if err := roof.Cast(ctx, Reading{Celsius: state.Highest + 20}); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// 0
	// 20
	// 40
}

// FollowQuery yields what a query answers, and again when that is something else: the second reading is no news.
func ExampleFollowQuery() {
	db, end := serve(thermometers)
	defer end()
	ctx := context.Background()

	roof := thermometers.At(db, "roof")
	readings := []any{Reading{Celsius: 20}, Reading{Celsius: 5}, Reading{Celsius: 40}}
	for fahrenheit, err := range dserver.FollowQuery(ctx, roof, Fahrenheit{}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(fahrenheit)
		if fahrenheit == 104 {
			break
		}
		if err := roof.CastAll(ctx, readings[:2]); err != nil {
			fmt.Println(err)
		}
		readings = readings[1:]
	}
	// Output:
	// 32
	// 68
	// 104
}

package dserver_test

import (
	"context"
	"fmt"

	"github.com/dserver-go/dserver/dserver"
)

// A message with Priority goes ahead of the queue, and past the lock.
func ExamplePriority() {
	db, remove := temporary()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	l := logs.At(db, "today") // nobody consumes yet
	for _, line := range []string{"first", "second"} {
		if err := l.Cast(ctx, Line{line}); err != nil {
			fmt.Println(err)
		}
	}
	if err := l.Cast(ctx, Line{"urgent"}, dserver.Priority()); err != nil {
		fmt.Println(err)
	}

	go dserver.Run(ctx, db, logs)
	if err := l.Call(ctx, Count{}, nil); err != nil {
		fmt.Println(err)
	}
	state, err := l.State(ctx)
	fmt.Println(state.Lines, err)
	// Output: [urgent first second] <nil>
}

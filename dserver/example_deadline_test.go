package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// The context's deadline is the call's time limit. A call that gives up does not withdraw its message: what was sent
// stays sent.
func ExampleDServer_Call() {
	db, remove := temporary()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	l := logs.At(db, "today")
	short, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	err := l.Call(short, Line{"hello"}, nil) // nobody consumes
	fmt.Println(errors.Is(err, context.DeadlineExceeded))

	go dserver.Run(ctx, db, logs)
	n, err := dserver.Call(ctx, l, Count{})
	fmt.Println(n, err)
	// Output:
	// true
	// 1 <nil>
}

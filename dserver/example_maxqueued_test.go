package dserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Press is a state: what was printed.
type Press struct{ Pages []string }

// PrintPage is sent to a press.
type PrintPage struct{ Page string }

// The bound stands in the address, as senders need it and consumers do not.
var press = dserver.Define("press", dserver.Settings[Press]{MaxQueued: 2})

var presses = press.With(
	dserver.HandleCast(func(_ *dserver.Context, p *Press, m PrintPage) error {
		p.Pages = append(p.Pages, m.Page)
		return nil
	}),
)

// withRoom sends again while the queue is full, as a send to a full channel waits. A try that is refused costs one read.
func withRoom(ctx context.Context, send func() error) error {
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := send()
		if !errors.Is(err, dserver.ErrQueueFull) {
			return err
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2)): // so that many senders do not come at once
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// A queue with a bound refuses what it has no room for. Its sender waits and tries again, and so is as fast as the consumer.
func ExampleSettings_maxQueued() {
	db, remove := temporary()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	office := press.At(db, "office")
	for _, page := range []string{"1", "2", "3"} { // nobody prints yet
		if err := office.Cast(ctx, PrintPage{page}); errors.Is(err, dserver.ErrQueueFull) {
			fmt.Println("no room for page", page)
		}
	}

	go dserver.Run(ctx, db, presses)
	for _, page := range []string{"3", "4", "5"} {
		if err := withRoom(ctx, func() error { return office.Cast(ctx, PrintPage{page}) }); err != nil {
			fmt.Println(err)
		}
	}
	if err := withRoom(ctx, func() error { return office.Call(ctx, PrintPage{"6"}, nil) }); err != nil {
		fmt.Println(err)
	}
	state, err := office.State(ctx)
	fmt.Println(state.Pages, err)
	// Output:
	// no room for page 3
	// [1 2 3 4 5 6] <nil>
}

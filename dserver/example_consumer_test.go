package dserver_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/dserver"
)

// A consumer with settings, as a program runs it: until ctrl-C, when it finishes the turns in hand.
func ExampleConsumer() {
	db, remove := temporary()
	defer remove()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	consumer := dserver.Consumer{
		Cache:  256 << 20, // bytes of states
		Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel),
	}
	stopped := make(chan error, 1)
	go func() { stopped <- consumer.Run(ctx, db, booths, thermometers) }()

	stop() // or ctrl-C
	fmt.Println(<-stopped)
	// Output: <nil>
}

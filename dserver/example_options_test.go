package dserver_test

import (
	"context"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Tally counts votes.
type Tally struct{ Votes int }

// Vote is answered with the number of votes.
type Vote struct{ dserver.Returns[int] }

var tallies = dserver.Define("tally",
	dserver.HandleCall(func(_ *dserver.Context, t *Tally, _ Vote) (int, error) {
		t.Votes++
		return t.Votes, nil
	}),
)

// Once makes it safe to send again, after a time-out or a crash: the message takes effect once per key, and a call gets
// the first one's answer.
func ExampleOnce() {
	db, end := serve(tallies)
	defer end()
	ctx := context.Background()

	t := tallies.At(db, "mayor")
	for _, voter := range []string{"Ada", "Ada", "Bob"} {
		n, err := dserver.Call(ctx, t, Vote{}, dserver.Once(voter))
		fmt.Println(voter, n, err)
	}
	// Output:
	// Ada 1 <nil>
	// Ada 1 <nil>
	// Bob 2 <nil>
}

// After delays a message. It is stored at once, and comes to the queue when its time has come.
func ExampleAfter() {
	db, end := serve(tallies)
	defer end()
	ctx := context.Background()

	t := tallies.At(db, "mayor")
	began := time.Now()
	n, err := dserver.Call(ctx, t, Vote{}, dserver.After(30*time.Millisecond))
	fmt.Println(n, err, time.Since(began) >= 30*time.Millisecond)
	// Output: 1 <nil> true
}

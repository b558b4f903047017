package dserver_test

import (
	"context"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// Session ends when nobody has used it for a while.
type Session struct {
	User  string
	Ended bool
}

// Use keeps a session alive.
type Use struct {
	User string
	For  time.Duration
}

// Expire ends it.
type Expire struct{}

var sessions = dserver.Define("session",
	dserver.HandleCast(func(ctx *dserver.Context, s *Session, m Use) error {
		s.User = m.User
		ctx.SetTimer("expire", m.For, Expire{}) // replaces the timer of that name
		return nil
	}),
	dserver.HandleCast(func(ctx *dserver.Context, s *Session, _ Expire) error {
		s.Ended = true
		ctx.AfterCommit(func() { expired <- s.User })
		return nil
	}),
)

var expired = make(chan string, 1)

// A timer is set and cancelled in the commit of its handler, survives every process, and fires once.
func ExampleContext_SetTimer() {
	db, end := serve(sessions)
	defer end()
	ctx := context.Background()

	if err := sessions.At(db, "1").Cast(ctx, Use{"Ada", 20 * time.Millisecond}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-expired, "was logged out")
	// Output: Ada was logged out
}

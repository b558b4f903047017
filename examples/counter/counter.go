package main

import "github.com/dserver-go/dserver/dserver"

// Counter is the durable state: each exported field has a key of its own, and only changed fields are written.
type Counter struct{ Count int64 }

// Increment is a message without an answer.
type Increment struct{ By int64 }

// Value is a request that is answered with an int64.
type Value struct{ dserver.Returns[int64] }

// Counters says how counters handle their messages.
var Counters = dserver.Define("counter",
	dserver.HandleCast(func(ctx *dserver.Context, c *Counter, m Increment) error {
		c.Count += m.By
		return nil
	}),
	dserver.HandleCall(func(ctx *dserver.Context, c *Counter, m Value) (int64, error) {
		return c.Count, nil
	}),
)

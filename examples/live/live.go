package main

import "github.com/dserver-go/dserver/dserver"

// Counter is the state: how often somebody clicked.
type Counter struct{ Clicks int64 }

// Click is a click. Value asks how many there are.
type (
	Click struct{}
	Value struct{ dserver.Returns[int64] }
)

// Counters says how counters handle their messages.
var Counters = dserver.Define("live-counter",
	dserver.HandleCast(func(_ *dserver.Context, c *Counter, _ Click) error {
		c.Clicks++
		return nil
	}),
	dserver.HandleCall(func(_ *dserver.Context, c *Counter, _ Value) (int64, error) { return c.Clicks, nil }),
)

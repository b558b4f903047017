//go:build !linux

package sqlite

import "time"

// notices are none here: commits of other processes are found by looks in intervals.
type notices struct{ come bool }

func listen(string, func() time.Duration) *notices { return new(notices) }

func (*notices) close() {}

func notify(string) {}

//go:build !linux

package sqlite

// notices are none here: commits of other processes are found by looks in intervals.
type notices struct{ come chan struct{} }

func listen(string) *notices { return new(notices) }

func (*notices) close() {}

func notify(string) {}

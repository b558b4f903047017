package dservertest

import "testing"

// LimitSteps makes an endless conversation one of n messages, until the test ends.
func LimitSteps(t testing.TB, n int) {
	before := mostSteps
	mostSteps = n
	t.Cleanup(func() { mostSteps = before })
}

// SettleFor is Faults.Settle that fails another test.
func SettleFor(t testing.TB, f *Faults) {
	before := f.t
	defer func() { f.t = before }()
	f.t = t
	f.Settle()
}

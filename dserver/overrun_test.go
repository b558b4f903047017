package dserver

import (
	"testing"
	"time"
)

func TestGuardThatIsLateLeavesTheNextBatchAlone(t *testing.T) {
	g, b := &guard{}, &batch{started: time.Now()}
	g.watch(&turn{}, b)
	defer g.rest()
	g.fire() // for the batch before
	if b.isAbandoned() {
		t.Error("a batch that has just begun was given up")
	}
}

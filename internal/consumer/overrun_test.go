package consumer

import (
	"testing"
	"time"

	"github.com/dserver-go/dserver/internal/turn"
)

func TestGuardThatIsLateLeavesTheNextBatchAlone(t *testing.T) {
	g, v, b := &guard{}, &visit{}, &turn.Batch{Started: time.Now()}
	v.Def = define()
	v.Batch = b
	g.watch(v, b)
	defer g.rest()
	g.fire() // for the batch before
	if v.IsAbandoned() {
		t.Error("a batch that has just begun was given up")
	}
}

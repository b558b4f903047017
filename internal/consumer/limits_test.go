package consumer

import (
	"fmt"
	"testing"

	"github.com/dserver-go/dserver/internal/limitstest"
)

// What operators and users are told of limits is what the code has.
func TestLimitsOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	limitstest.Check(t, "../../docs/operations.md", map[string]string{
		"the end of `Run` waits": limitstest.Time(defaultGrace) + " (`Consumer.Grace`) for turns in hand, then " + limitstest.Time(lastGrace),
		"before the end of that grace the context of locked work ends by":               fmt.Sprintf("a tenth of it, at most %s", limitstest.Time(maxWorkEnds)),
		"servers that wait for a turn in memory, of all types; for one of their type's": fmt.Sprintf("%s; %[1]s each. More wait in the store", limitstest.Thousands(maxRunnable)),
		"messages that join a turn of their sender's process without the queue":         limitstest.Bytes(maxLocalBytes),
		"states kept in memory": limitstest.Bytes(defaultCacheBytes) + " (`Consumer.Cache`)",
		"turns at once":         fmt.Sprintf("%d per CPU (`Consumer.Turns`)", defaultTurnsPerCPU),
	})
}

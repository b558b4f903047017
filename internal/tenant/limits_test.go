package tenant

import (
	"fmt"
	"testing"

	"github.com/dserver-go/dserver/internal/limitstest"
)

// What operators and users are told of limits is what the code has.
func TestLimitsOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	limitstest.Check(t, "../../docs/operations.md", map[string]string{
		"a type's name, an id, a key of `Once`, a timer's name": limitstest.Bytes(MaxNameBytes),
		"messages in one turn":                        fmt.Sprintf("%d, or %s; ", MaxBatch, limitstest.Bytes(maxBatchBytes)),
		"an error's text; the stack in a dead letter": limitstest.Bytes(MaxErrorText) + "; " + limitstest.Bytes(maxStack),
		"a key of `Once` is kept for":                 limitstest.Time(onceKept) + ", and while its message waits",
	})
}

package lease

import (
	"testing"

	"github.com/dserver-go/dserver/internal/limitstest"
)

// What operators and users are told of limits is what the code has.
func TestLimitsOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	limitstest.Check(t, "../../docs/operations.md", map[string]string{
		"a lock whose holder does not beat is taken over after": limitstest.Time(term),
	})
}

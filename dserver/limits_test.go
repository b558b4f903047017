package dserver

import (
	"testing"

	"github.com/dserver-go/dserver/internal/limitstest"
)

// What operators and users are told of limits is what the code has.
func TestLimitsOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	limitstest.Check(t, "../docs/operations.md", map[string]string{
		"a message, a reply": "nearly " + limitstest.Bytes(maxBodyBytes),
	})
}

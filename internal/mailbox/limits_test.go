package mailbox

import (
	"strconv"
	"testing"

	"github.com/dserver-go/dserver/internal/limitstest"
)

// What operators and users are told of limits is what the code has.
func TestLimitsOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	limitstest.Check(t, "../../docs/operations.md", map[string]string{
		"a server waits for its `AfterCommit` functions":                 limitstest.Time(actPatience) + "; those of " + limitstest.Thousands(maxActs) + " turns may wait",
		"after an error of the store a server is left alone for":         limitstest.Time(RetryInterval),
		"a process that does not beat is removed with its answers after": limitstest.Time(sweepAfter),
		"clocks that differ are logged beyond":                           limitstest.Time(clockLimit) + "; " + strconv.Itoa(maxClockLines) + " processes at a time",
	})
}

package follow

import (
	"fmt"
	"testing"
	"time"

	"github.com/dserver-go/dserver/internal/limitstest"
)

// What operators and users are told of limits is what the code has.
func TestLimitsOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	limitstest.Check(t, "../../docs/operations.md", map[string]string{
		"a server that is followed is read, by each process": fmt.Sprintf("%d times a second at most, for all followers together", time.Second/pace),
	})
}

package turn

import (
	"fmt"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/limitstest"
)

// What operators and users are told of limits is what the code has.
func TestLimitsOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	limitstest.Check(t, "../../docs/operations.md", map[string]string{
		"what one turn writes":               fmt.Sprintf("%d MB", backend.MaxTransactionBytes/1_000_000),
		"a turn's handlers; its transaction": limitstest.Time(DefaultHandlerLimit) + " (`Settings.HandlerLimit`, at most that); " + limitstest.Time(backend.MaxDuration),
		"messages in one turn":               "; none is begun after " + limitstest.Time(maxBatchTime) + ", or a tenth of `Settings.HandlerLimit`",
		"attempts of a message":              fmt.Sprintf("%d (`Settings.MaxAttempts`)", DefaultMaxAttempts),
		"the pause after an attempt": fmt.Sprintf("%s (`Settings.BackOff`), then %d times as long each time, up to %s (`Settings.MaxBackOff`, at most %s); up to a quarter less",
			limitstest.Time(DefaultBackOff), backOffFactor, limitstest.Time(DefaultMaxBackOff), limitstest.Time(LongestBackOff)),
		"an attempt of locked work": limitstest.Time(DefaultWorkLimit) + " (`Settings.WorkLimit`)",
	})
}

// The pauses between attempts are those that the documents tell: the table above, and G7's.
func TestBackOffIsWhatTheDocumentsSay(t *testing.T) {
	for count, most := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 400 * time.Millisecond, 3: 1600 * time.Millisecond, 4: 6400 * time.Millisecond,
		5: 25600 * time.Millisecond, 6: 30 * time.Second, 100: 30 * time.Second,
	} {
		for range 100 {
			if wait := DefaultSettings().BackOffAfter(count); wait > most || wait < most*3/4 {
				t.Fatalf("after attempt %d it waits %v, not up to %v", count, wait, most)
			}
		}
	}
}

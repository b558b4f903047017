package dserver

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// What operators and users are told of limits is what the code has.
func TestLimitsOfTheDocumentsAreThoseOfTheCode(t *testing.T) {
	want := map[string]string{
		"a message, a reply":                 "nearly " + inBytes(maxBodyBytes),
		"what one turn writes":               fmt.Sprintf("%d MB", backend.MaxTransactionBytes/1_000_000),
		"a turn's handlers; its transaction": inTime(handlerLimit) + "; " + inTime(backend.MaxDuration),

		"a type's name, an id, a key of `Once`, a timer's name": inBytes(maxNameBytes),
		"messages in one turn":                        fmt.Sprintf("%d, or %s; none is begun after %s", maxBatch, inBytes(maxBatchBytes), inTime(maxBatchTime)),
		"an error's text; the stack in a dead letter": inBytes(maxErrorText) + "; " + inBytes(maxStack),
		"attempts of a message":                       fmt.Sprintf("%d (`Settings.MaxAttempts`)", defaultMaxAttempts),
		"the pause after an attempt": fmt.Sprintf("%s, then %d times as long each time, up to %s; up to a quarter less",
			inTime(firstBackOff), backOffFactor, inTime(longestBackOff)),
		"an attempt of locked work":                             inTime(defaultWorkLimit) + " (`Settings.WorkLimit`)",
		"a lock whose holder does not beat is taken over after": inTime(lease),
		"a key of `Once` is kept for":                           inTime(onceKept) + ", and while its message waits",
		"a server waits for its `AfterCommit` functions":        inTime(patience) + "; those of " + inThousands(maxActs) + " turns may wait",
		"the end of `Run` waits":                                inTime(shutdownGrace) + " for turns in hand, then " + inTime(lastGrace),

		"after an error of the store a server is left alone for":                inTime(retryInterval),
		"a process that does not beat is removed with its answers after":        inTime(sweepAfter),
		"messages that join a turn of their sender's process without the queue": inBytes(maxLocalBytes),
		"states kept in memory": inBytes(defaultCacheBytes) + " (`Consumer.Cache`)",
		"turns at once":         fmt.Sprintf("%d per CPU (`Consumer.Turns`)", defaultTurnsPerCPU),
	}
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Limits\n")
	found := map[string]string{}
	for row := range strings.Lines(table) {
		if cells := strings.Split(strings.Trim(row, "| \n"), " | "); len(cells) == 2 {
			found[cells[0]] = cells[1]
		}
	}
	for what, limit := range want {
		if found[what] != limit {
			t.Errorf("docs/operations.md has %q as the limit of %q; the code has %q", found[what], what, limit)
		}
	}
}

func inBytes(n int) string {
	for _, unit := range []string{"B", "KiB"} {
		if n%1024 != 0 {
			return fmt.Sprint(n, " ", unit)
		}
		n /= 1024
	}
	return fmt.Sprint(n, " MiB")
}

func inTime(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return fmt.Sprint(int(d/time.Hour), " h")
	case d >= time.Minute:
		return fmt.Sprint(int(d/time.Minute), " min")
	case d >= time.Second:
		return fmt.Sprint(int(d/time.Second), " s")
	}
	return fmt.Sprint(int(d/time.Millisecond), " ms")
}

func inThousands(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }

// The pauses between attempts are those that the documents tell: the table above, and G7's.
func TestBackOffIsWhatTheDocumentsSay(t *testing.T) {
	for count, most := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 400 * time.Millisecond, 3: 1600 * time.Millisecond, 4: 6400 * time.Millisecond,
		5: 25600 * time.Millisecond, 6: 30 * time.Second, 100: 30 * time.Second,
	} {
		for range 100 {
			if wait := backOff(count); wait > most || wait < most*3/4 {
				t.Fatalf("after attempt %d it waits %v, not up to %v", count, wait, most)
			}
		}
	}
}

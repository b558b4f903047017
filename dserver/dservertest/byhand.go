package dservertest

import (
	"io"
	"slices"
	"testing"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/consumer"
)

// Hand handles messages one at a time, when the test says so. It is for one goroutine.
type Hand struct {
	// DB is a database in memory. What is sent with it stays queued until Step or Drain handles it, so a Call must be
	// made in a goroutine of its own.
	DB backend.Database

	t     testing.TB
	steps *consumer.Stepper
}

// ByHand opens a database in memory in which nothing happens by itself: the test handles the messages of the types, and
// looks at what is queued and stored in between.
func ByHand(t testing.TB, types ...dserver.Type) *Hand {
	t.Helper()
	h := &Hand{DB: open(t, types), t: t}
	h.serve(t.Output(), types)
	return h
}

func (h *Hand) serve(log io.Writer, types []dserver.Type) {
	h.t.Helper()
	how := consumer.Options{Cold: true, Steps: func(s *consumer.Stepper) { h.steps = s }}
	h.t.Cleanup(serve(h.t, log, h.DB, how, types))
}

// Step handles one message: of those that are next of their servers, the one that was sent first. A message that breaks
// its handler is next again at once. What is due by now (timers, messages with After) is queued before. It reports
// whether there was a message. If only locked work runs, it waits for its end.
func (h *Hand) Step() bool {
	h.t.Helper()
	for {
		h.must(h.steps.Move())
		if ready := h.ready(); len(ready) > 0 {
			h.steps.Step(slices.MinFunc(ready, func(a, b consumer.Step) int { return a.Stamp.Compare(b.Stamp) }))
			return true
		}
		if !h.steps.Works() {
			return false
		}
		<-h.steps.Woken()
	}
}

// Drain handles messages, those that they send as well, until nothing is queued or due by now. It returns how many they
// were, and fails the test when they do not end.
func (h *Hand) Drain() int {
	h.t.Helper()
	for n := range mostSteps {
		if !h.Step() {
			return n
		}
	}
	h.t.Fatalf("dservertest: %d messages were handled, and there is no end", mostSteps)
	return 0
}

// mostSteps is how many messages are believed not to be an endless conversation.
var mostSteps = 100_000

func (h *Hand) ready() []consumer.Step {
	h.t.Helper()
	ready, err := h.steps.Ready()
	h.must(err)
	return ready
}

func (h *Hand) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("dservertest: %v", err)
	}
}

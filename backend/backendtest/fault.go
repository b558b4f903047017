package backendtest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/dserver-go/dserver/backend"
)

// FaultKind is what can go wrong with a commit.
type FaultKind int

const (
	// Retry: the commit loses a race that nobody else ran, so fn runs again.
	Retry FaultKind = iota

	// LostOutcome: the commit happens, but its answer is lost, and it takes a while to find out. The caller sees a slow
	// success, and others see what was committed before the caller does. If ctx ends meanwhile, it is ErrCommitUnknown.
	LostOutcome

	// UnknownCommitted: the commit happens, and the caller gets ErrCommitUnknown.
	UnknownCommitted

	// UnknownRolledBack: the commit does not happen, and the caller gets ErrCommitUnknown.
	UnknownRolledBack

	// CrashBefore: the process dies before the commit. As a dead process is told nothing, the call ends with both
	// ErrCommitUnknown and ErrClosed, all others on the handle with ErrClosed, and its watches fire.
	CrashBefore

	// CrashAfter: as CrashBefore, but the commit happened.
	CrashAfter
)

// faultKinds has all kinds.
func faultKinds() []FaultKind {
	return []FaultKind{Retry, LostOutcome, UnknownCommitted, UnknownRolledBack, CrashBefore, CrashAfter}
}

// String returns words without spaces, since it is part of test names.
func (k FaultKind) String() string {
	return [...]string{
		"retry", "lost-outcome", "unknown-but-committed", "unknown-and-rolled-back", "crash-before", "crash-after",
	}[k]
}

// commits reports whether the commit that meets the fault takes effect.
func (k FaultKind) commits() bool {
	return k == Retry || k == LostOutcome || k == UnknownCommitted || k == CrashAfter
}

// crashes reports whether the fault ends the handle.
func (k FaultKind) crashes() bool { return k == CrashBefore || k == CrashAfter }

// mostCommits is how many commits EachFault believes a scenario to have. Beyond that it does not end by itself.
const mostCommits = 10_000

// EachFault proves that scenario holds whatever goes wrong: it runs it on the model without a fault, and then with each
// kind of fault at its first commit, at its second, and so on until it ends before the fault comes. The commits are
// those of the handles that [Fault.Open] gave, counted together; transactions that write nothing are not counted.
//
// Each run is a subtest named for its fault, so a failure names what replays it: -run 'TestName/crash-after/3'.
// A scenario may use testing/synctest, with its handles opened in the bubble.
func EachFault(t *testing.T, scenario func(t *testing.T, f *Fault)) {
	t.Helper()
	EachFaultOn(t, Model, scenario)
}

// EachFaultOn is EachFault on another store.
func EachFaultOn(t *testing.T, open Opener, scenario func(t *testing.T, f *Fault)) {
	t.Helper()
	run := func(t *testing.T, f *Fault) {
		f.open = open(t)
		scenario(t, f)
	}
	if !t.Run("no-fault", func(t *testing.T) { run(t, &Fault{}) }) {
		return // the faults would only say it again
	}
	for _, kind := range faultKinds() {
		t.Run(kind.String(), func(t *testing.T) { eachCommit(t, kind, run) })
	}
}

// eachCommit runs one kind of fault at each commit, until the scenario fails or no longer reaches the fault.
func eachCommit(t *testing.T, kind FaultKind, run func(*testing.T, *Fault)) {
	for number := 1; number <= mostCommits; number++ {
		f := &Fault{kind: kind, number: number}
		passed := t.Run(strconv.Itoa(number), func(t *testing.T) { run(t, f) })
		switch {
		case f.open == nil: // this number was not asked for by -run
		case passed && number == 1 && !f.Reached():
			t.Error("the scenario commits nothing, so no fault was tried")
			return
		case !passed || !f.Reached():
			return
		case number == mostCommits:
			t.Errorf("the scenario still goes on after %d commits", number)
		}
	}
}

// Fault is the fault of one run of a scenario.
type Fault struct {
	kind   FaultKind
	number int // of the commit that meets it, from 1; 0 is none
	open   func() backend.Database

	mu      sync.Mutex // guards what is below
	commits int
	ctx     context.Context
	cancel  context.CancelFunc
}

// Open opens a handle onto the scenario's store, as a process does when it starts: at first, and after a crash.
func (f *Fault) Open() backend.Database {
	return &faulty{inner: f.open(), draw: f.draw, interrupt: f.interrupt, dead: make(chan struct{})}
}

// Context returns the context to give to what the scenario calls. It ends when the fault is one in which the caller's
// context ends, and after that Context returns a new one. It has no deadline.
func (f *Fault) Context() context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx == nil || f.ctx.Err() != nil {
		// Not derived from the test's: that is another bubble's when the scenario uses synctest.
		f.ctx, f.cancel = context.WithCancel(context.Background())
	}
	return f.ctx
}

// Reached reports whether the fault has happened.
func (f *Fault) Reached() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.number > 0 && f.commits >= f.number
}

// Crashed reports whether the fault has ended a handle.
func (f *Fault) Crashed() bool { return f.Reached() && f.kind.crashes() }

// Committed reports whether the commit that met the fault took effect: what its caller could not know, and the
// scenario's oracle must.
func (f *Fault) Committed() bool { return f.Reached() && f.kind.commits() }

// String tells the fault, for messages.
func (f *Fault) String() string {
	if f.number == 0 {
		return "no fault"
	}
	return fmt.Sprintf("%v at commit %d", f.kind, f.number)
}

// draw counts a commit and tells whether it meets the fault.
func (f *Fault) draw() (FaultKind, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commits++
	return f.kind, f.commits == f.number
}

func (f *Fault) interrupt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cancel != nil {
		f.cancel()
	}
}

package dserver

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

// misuses logs what handlers ask of a Context after its turn, once for each place in the program that does: a goroutine
// that kept the Context would otherwise believe that it had sent something. A panic would end its process, which is worse
// than the mistake.
type misuses struct {
	log  zerolog.Logger
	seen sync.Map // places -> nothing
}

// late notes that a Context was used when its turn was over.
func (c *Context) late() {
	if c.turn == nil {
		return
	}
	m, ok := c.turn.Value(turnKey{}).(*misuses)
	if !ok {
		return // a Query's, of which nothing would come in its time either
	}
	function, place := callerOutside()
	if _, known := m.seen.LoadOrStore(place, nil); !known {
		m.log.Error().Stringer(logServer, c.self).Str(logFunction, function).Str(logPlace, place).
			Msg("a Context was used after its handler's turn: what it was asked for does not happen")
	}
}

// insteadOfCalling is what to do where a handler calls its own server.
const insteadOfCalling = "a handler must not call its own server: use the state that it is given, or Context.Cast"

// checkHandler refuses a call that waits for its sender: a handler of the server itself, which has made it with a context
// that is not its own.
func (h handle) checkHandler(p *process) error {
	ref := h.Ref()
	for _, c := range (*p.consumers.Load())[ref.Type] {
		if c.isHandledHere(ref) {
			return fmt.Errorf("dserver: nothing was sent: the call of %v would wait for itself: %s", ref, insteadOfCalling)
		}
	}
	return nil
}

// isHandledHere reports whether this goroutine runs a handler of the server.
func (c *consumer) isHandledHere(ref Ref) bool {
	c.mu.Lock()
	s := c.types[ref.Type].servers[ref.ID]
	c.mu.Unlock()
	return s != nil && s.handling.Load() != 0 && s.goroutine.Load() == goroutineID()
}

// calledIn is how a stack shows a call that waits.
const calledIn = ownFunctions + "handle.callQueued("

// waitsForItself reports whether one of the goroutines of a handler that overran, or of those that it started, waits for a
// call, and this process for an answer of the handler's server to a call that was sent meanwhile.
func (t *turn) waitsForItself(b *batch, stacks []string) bool {
	calls := func(stack string) bool { return strings.Contains(stack, calledIn) }
	return slices.ContainsFunc(stacks, calls) && t.c.process.calls(t.s.ref(), b.started)
}

// callerOutside is the innermost function, and the place in it, that is not of this package.
func callerOutside() (function, place string) {
	var counters [16]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters[:])])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if !strings.HasPrefix(f.Function, ownFunctions) {
			return f.Function, fmt.Sprintf("%s:%d", f.File, f.Line)
		}
	}
	return "", "an unknown place"
}

// ownFunctions is how the names of this package's functions begin.
const ownFunctions = "github.com/dserver-go/dserver/dserver."

package consumer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dserver-go/dserver/internal/mailbox"
	"github.com/dserver-go/dserver/internal/stacks"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// insteadOfCalling is what to do where a handler calls its own server.
const insteadOfCalling = "a handler must not call its own server: use the state that it is given, or Context.Cast"

// checkHandler refuses a call that waits for its sender: a handler of the server itself, which has made it with a context
// that is not its own.
func (h Handle) checkHandler(p *mailbox.Process) error {
	ref := h.Ref
	for _, m := range p.MembersOf(ref.Type) {
		if m.(*consumer).isHandledHere(ref) {
			return fmt.Errorf("dserver: nothing was sent: the call of %v would wait for itself: %s", ref, insteadOfCalling)
		}
	}
	return nil
}

// isHandledHere reports whether this goroutine runs a handler of the server.
func (c *consumer) isHandledHere(ref tenant.Ref) bool {
	c.mu.Lock()
	var a *active
	if s := c.types[ref.Type].servers[ref.ID]; s != nil {
		a = s.active
	}
	c.mu.Unlock()
	return a != nil && a.handling.Load() != 0 && a.goroutine.Load() == stacks.Goroutine()
}

// calledIn is how a stack shows a call that waits.
const calledIn = "internal/consumer.Handle.callQueued("

// waitsForItself reports whether one of the goroutines of a handler that overran, or of those that it started, waits for a
// call, and this process for an answer of the handler's server to a call that was sent meanwhile.
func (t *visit) waitsForItself(b *turn.Batch, stacks []string) bool {
	calls := func(stack string) bool { return strings.Contains(stack, calledIn) }
	return slices.ContainsFunc(stacks, calls) && t.c.Process.Calls(t.Ref, b.Started)
}

package consumer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/tenant"
)

// stray is a function of the user's that did not return in its time. Its turn or its lock goes on without it, and its
// goroutine is left to itself: Go has no way to end one. A Run that ends waits for it as long as for the turns in hand.
type stray struct {
	ref       tenant.Ref
	what      string
	goroutine uint64 // 0: not known
}

// noteStray notes a stray.
func (c *consumer) noteStray(ref tenant.Ref, what string, goroutine uint64) *stray {
	s := &stray{ref, what, goroutine}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strays[s] = struct{}{}
	return s
}

// forgetStray forgets a stray that returned after all. It may be nil.
func (c *consumer) forgetStray(s *stray) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.strays, s)
}

// maxStraysNamed bounds the error of Run.
const maxStraysNamed = 10

// leaveBehind logs what has not come to an end, and makes Run's error of it.
func (c *consumer) leaveBehind() error {
	var names []string
	for _, s := range c.unfinished() {
		stack, _ := c.Process.Stacks.Where(s.goroutine, time.Time{})
		c.log.Error().Stringer(logs.Server, s.ref).Str(logs.Function, s.what).Func(logs.WithStack(stack)).
			Msg("it did not return, and was left behind by the end of Run")
		if len(names) < maxStraysNamed {
			names = append(names, fmt.Sprintf("%s in %v", s.what, s.ref))
		}
	}
	if len(names) == 0 {
		return errors.New("dserver: run: the store did not answer in time")
	}
	return fmt.Errorf("dserver: run: left behind, as it did not return within %v: %s", c.grace+lastGrace, strings.Join(names, ", "))
}

// unfinished is the strays, and what else of the user's still runs.
func (c *consumer) unfinished() []stray {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []stray
	for s := range maps.Keys(c.strays) {
		all = append(all, *s)
	}
	for _, ref := range c.Process.Acts.Of(c.runs) {
		all = append(all, stray{ref, "an AfterCommit function", 0})
	}
	for _, t := range c.types {
		for _, s := range t.servers {
			if s.scheduled {
				all = append(all, stray{s.ref(), "a turn", s.goroutine.Load()})
			}
		}
	}
	slices.SortFunc(all, func(a, b stray) int {
		return strings.Compare(a.ref.String()+" "+a.what, b.ref.String()+" "+b.what)
	})
	return all
}

package backend

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Calls are the calls of a database that are under way, for backends: those that Close waits for, and names where they
// do not return. The zero value is open.
type Calls struct {
	mu     sync.Mutex
	latest *Call
	closed chan struct{} // made by Close; closed when no call is left
}

// Call is one of Transact or Read.
type Call struct {
	verb        string
	fn          uintptr // its code
	began       time.Time
	older, next *Call
}

// Enter begins a call of verb with fn, a function. It returns nil after Close.
func (c *Calls) Enter(verb string, fn any) *Call {
	x := &Call{verb: verb, fn: reflect.ValueOf(fn).Pointer(), began: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return nil
	}
	if x.older = c.latest; x.older != nil {
		x.older.next = x
	}
	c.latest = x
	return x
}

// Leave ends a call.
func (c *Calls) Leave(x *Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.older != nil {
		x.older.next = x.next
	}
	if x.next != nil {
		x.next.older = x.older
	} else {
		c.latest = x.older
	}
	if c.closed != nil && c.latest == nil {
		close(c.closed)
	}
}

// Close lets no more calls in.
func (c *Calls) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return
	}
	c.closed = make(chan struct{})
	if c.latest == nil {
		close(c.closed)
	}
}

// Await waits after Close until all have left, for at most MaxClose. Its error, ErrLeftBehind, says what is left.
func (c *Calls) Await() error {
	limit := time.NewTimer(MaxClose)
	defer limit.Stop()
	select {
	case <-c.closed:
		return nil
	case <-limit.C:
		return c.Left()
	}
}

// Left is ErrLeftBehind with the calls that are under way, or nil when there is none.
func (c *Calls) Left() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for x := c.latest; x != nil; x = x.older {
		all = append(all, x.String())
	}
	if len(all) == 0 {
		return nil
	}
	slices.Reverse(all) // the oldest first
	const shown = 5
	n, more := len(all), ""
	if n > shown {
		all, more = all[:shown], ", ..."
	}
	return fmt.Errorf("%w (%d: %s%s): nothing of it will be committed, but its goroutines stay; end the process",
		ErrLeftBehind, n, strings.Join(all, ", "), more)
}

func (x *Call) String() string {
	name := "a function"
	if f := runtime.FuncForPC(x.fn); f != nil {
		name = f.Name()
	}
	return fmt.Sprintf("%s of %s for %v", x.verb, name, time.Since(x.began).Round(time.Millisecond))
}

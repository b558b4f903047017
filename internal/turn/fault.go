package turn

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/dserver-go/dserver/internal/tenant"
)

// Fault is a failure that is no decision of the handler: the message is tried again.
type Fault struct {
	Text  string
	Stack string
	Hangs bool // Stack is of a goroutine that has not returned: nothing of the message is in it
	Halts bool // it was the last attempt, and the server stops
}

func (f *Fault) Error() string { return f.Text }

// Hung is where something has not returned. Other stacks may quote the message, so they are for its dead letter alone.
func (f *Fault) Hung() string {
	if f.Hangs {
		return f.Stack
	}
	return ""
}

// asFault is the fault in an error, or nil.
func asFault(err error) *Fault {
	if err == nil { // before anything is put on the heap
		return nil
	}
	var f *Fault
	_ = errors.As(err, &f)
	return f
}

// Panicked is the fault of a panic, with its stack. It is called where the panic was recovered.
func Panicked(p any) *Fault {
	return &Fault{Text: fmt.Sprintf("panic: %v", p), Stack: string(debug.Stack())}
}

// Kept is a decision with which the handler's changes are committed all the same.
type Kept struct{ Err *tenant.Error }

func (k *Kept) Error() string { return k.Err.Error() }

// Unwrap returns the decision.
func (k *Kept) Unwrap() error { return k.Err }

func isKept(err error) bool {
	var k *Kept
	return errors.As(err, &k)
}

// invoke runs one handler, and makes a fault of its panic.
func invoke(h *Handler, s *Scope, state any, body []byte) (reply []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, Panicked(p)
		}
	}()
	return h.Run(s, state, body)
}

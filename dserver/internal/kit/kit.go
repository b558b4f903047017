// Package kit is what package dservertest asks of a consumer beside what everybody may: it travels in the context that
// Run is given, so that neither the API nor a global variable has to know of it.
package kit

import (
	"context"
	"time"

	"github.com/dserver-go/dserver/backend"
)

// Request is how a consumer is to run. The zero value is how it always does.
type Request struct {
	// Cold makes each message a turn of its own, which decodes the state from the store.
	Cold bool

	// Beat is how often the process of the consumer tells that it lives; 0: as it always does. Others take it for dead
	// after a few of these, so all consumers of a store need the same.
	Beat time.Duration

	// Park makes it park a server that cannot go on at once, instead of after a while.
	Park bool

	// Joined is called, if it is not nil, when the handles of this process find the consumer.
	Joined func()

	// Steps is called, if it is not nil, with what runs the consumer by hand. It then takes nothing by itself.
	Steps func(Stepper)
}

type requestKey struct{}

// With returns a context that carries a request.
func With(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// From is the request of a context, the zero one if it has none.
func From(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}

// Server is a server that has something to do.
type Server struct {
	Type, ID string
	Stamp    backend.Versionstamp // of the message that is next; zero: locked work has ended
	Message  string               // its name
}

// Stepper runs a consumer by hand. Its methods are for one goroutine.
type Stepper interface {
	// Ready is the servers with a message that can be handled now, in the order of their types and ids. A message that
	// faulted can: back-offs are not waited for.
	Ready() ([]Server, error)

	// Step handles that message.
	Step(s Server)

	// Works reports whether locked work runs. Woken receives when it has ended, and perhaps at other times.
	Works() bool
	Woken() <-chan struct{}

	// Due is when the next timer or delayed message is, or the zero time.
	Due() (time.Time, error)

	// Move puts on their queues what is due.
	Move() error
}

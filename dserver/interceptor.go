package dserver

import (
	"context"
	"maps"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/tenant"
)

// Interceptor is functions of the program that run around what the library does with its messages: for traces, metrics, logs,
// access rules and headers that every message gets. Each field may be nil, and costs nothing then. Intercept says where they run.
//
// Send, Handle and Work are given next, which does the thing itself. They call it once, before they return and on their
// goroutine, with the ctx that they were given or one that was made of it; or they do not call it, and return an error. They may
// return another error than next does, but none of them makes a success of a failure: a nil for an error of next is that error.
// Where several interceptors are given, the first is outermost.
type Interceptor struct {
	// Enabled reports whether Send, Handle and Work have anything to do now, as that of slog's Handler does: where all
	// interceptors say that they have not, none of them runs, and nothing is made for them. It is asked with the context of the
	// sender or of the turn, and only about what has no headers: what has some is never left out. It must be quick, and may be
	// asked by several goroutines at once. Nil: they have.
	Enabled func(ctx context.Context) bool

	// Send runs around Cast, CastAll, Call and Info of a handle, and around Context.Cast and Context.SetTimer. It may set headers.
	// Its error is that of the send; then nothing was sent, unless next was called. It runs when the message was checked and
	// encoded, and around a Call until its answer is there. A panic passes to the sender.
	//
	// Where Send.From is set, it runs within the turn of that server: as a handler, it may run more than once for one message,
	// and touches nothing outside. What it returns as an error fails the handler.
	Send func(ctx context.Context, s *Send, next func(context.Context) error) error

	// Sent is told of each send that Send runs around, when it is over: of a Call, when its answer is there. Of what a handler
	// sends it is told at once, as part of the turn, and again when the turn runs again. It is called by several goroutines at
	// once, and a panic passes to the sender.
	Sent func(s Sent)

	// Handle runs around a handler and around the apply of locked work: within its turn and its time limit, once for each time
	// that it runs. It does not run for what no handler of the program sees: a message that is locked at once or that cannot be
	// read. What next returns is what the handler did, as an *Error; a panic is an ErrFault. The values of the ctx that next is
	// given are those of the handler's Context.Context. What Handle returns, and a panic, is treated as the handler's: an error is
	// a decision, for which all that the handler changed and sent is rolled back. A fault of the handler stays one. What Handle
	// does outside happens again when the turn runs again, as of a handler.
	Handle func(ctx context.Context, h *Handling, next func(context.Context) error) error

	// Work runs around each attempt of locked work, outside of any transaction. The ctx that next is given is the LockedContext's.
	// As an error of the work, only an *Error is a decision, and any other error, or a panic, is tried again.
	Work func(ctx context.Context, h *Handling, next func(context.Context) error) error

	// Turned is told what became of a turn, when its senders have their answers. It must be quick, as the server's next turn waits
	// for it, and is called by several goroutines at once. A panic is logged. Like AfterCommit, it may be lost with its process.
	Turned func(t *Turn)
}

// Intercept is db with interceptors: those who use what it returns use db, and run the interceptors around that. Handles that
// are made with it send through Send; a Run that is given it, and Info, run Handle and Work and tell Turned. It is one line
// where a program opens its store. All else is as with db: a handle that is made with it and one that is made with db share
// the process, and their messages join the same turns. Closing either closes db.
//
// Of a database that has interceptors it is one that has more, within those.
func Intercept(db backend.Database, interceptors ...Interceptor) backend.Database {
	inner, outer := inside(db)
	if outer != nil {
		interceptors = append(outer.all[:len(outer.all):len(outer.all)], interceptors...)
	}
	return &intercepted{inner, newHooks(interceptors)}
}

// Send is messages on their way to one server: one, or those of a CastAll.
type Send struct {
	To      Ref
	Verb    string        // the method: Cast, CastAll, Call, Info or SetTimer
	Message string        // its name on the wire; of several, that of the first
	Count   int           // how many messages
	After   time.Duration // for which it is delayed, by After or a timer
	From    Ref           // the server whose handler sends; zero outside of handlers

	headers tenant.Headers
	owned   bool // nobody else has the headers
}

// Header is a header that the message will have; "" when it has none of this key.
func (s *Send) Header(key string) string { return s.headers[key] }

// SetHeader gives the message a header; an empty value takes it away. It counts before next is called. A header that cannot
// be (Header) is an error of the send.
func (s *Send) SetHeader(key, value string) {
	if !s.owned {
		s.headers, s.owned = maps.Clone(s.headers), true
	}
	if s.headers == nil {
		s.headers = tenant.Headers{}
	}
	s.headers[key] = value
}

// made is the headers that are sent. What is set afterwards does not change them.
func (s *Send) made() (tenant.Headers, error) {
	if !s.owned {
		return s.headers, nil
	}
	s.owned = false
	maps.DeleteFunc(s.headers, func(_, value string) bool { return value == "" })
	return s.headers, s.headers.Check()
}

// Sent is a send that is over. It is a value, so that nothing has to be made for who is told of it.
type Sent struct {
	Send               // as it was before any interceptor, without the headers that they have set
	Took time.Duration // with the interceptors around it; 0 of what a handler sends, which is sent with its turn
	Err  error         // as the sender gets it
}

// Handling is a message as it is handled, or as locked work is done for it.
type Handling struct {
	Server  Ref
	Message string               // its name on the wire
	Stamp   backend.Versionstamp // as Context.Stamp
	Sent    time.Time            // as Context.Sent
	Attempt int                  // as Context.Attempt
	Run     int                  // of the turn's handlers, which run again when it has lost a race; the first is 1
	Call    bool                 // somebody waits for the answer
	Info    bool                 // it was sent by Info
	Timer   string               // the timer that sent it; "" for none
	Apply   bool                 // it is the apply of locked work that has ended

	headers tenant.Headers
}

// Header is a header of the message; "" when it has none of this key.
func (h *Handling) Header(key string) string { return h.headers[key] }

// Headers is a copy of all headers of the message.
func (h *Handling) Headers() map[string]string { return maps.Clone(h.headers) }

// Turn is what became of a turn: one transaction for one server.
type Turn struct {
	Server    Ref
	Began     time.Time
	Messages  []Handled     // that it handled, or of which nothing was committed as they faulted; none of a turn that only lost a race
	Conflicts int           // how often its transaction ran again, as it had lost a race with another
	Handlers  time.Duration // that its handlers took, over all runs
	Commit    time.Duration // from the end of the handlers to the answer of the store
	Cached    bool          // the state had not to be read
	TookOver  bool          // it took the lock of a consumer that vanished over, and handled nothing
	Err       error         // of the store, when the turn did not commit as far as is known; it is tried again
}

// Handled is what became of one message.
type Handled struct {
	Handling          // its Run is 0
	Err        *Error // that its handler or its work decided on; ErrFault when it faulted; nil when all is well
	Faulted    bool   // nothing of it was committed; it is tried again unless it is a dead letter or a call that was not queued
	DeadLetter bool   // it is one now
	Locks      bool   // it is locked work now, which has begun

	// Took is how long its handler ran, the last time, with the interceptors around it; 0 when none did.
	Took time.Duration
}

package dserver

import (
	"errors"

	"github.com/dserver-go/dserver/internal/tenant"
)

// Error is a failure as it crosses processes. Declare one per condition that callers branch on,
//
//	var ErrSoldOut = &dserver.Error{Code: "sold-out", Text: "no tickets left"}
//
// return it from a handler, wrapped if you like, and test with errors.Is, which compares codes. Any other error that a
// handler returns arrives with Code "" and its text.
type Error struct {
	Code string `cbor:"code,omitempty"`
	Text string `cbor:"text"`
}

// Error returns the text.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code
	}
	return e.Text
}

// Is reports whether target is an *Error of the same code. Errors without a code equal only themselves.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (e.Code != "" || t == e)
}

// Errors that the library answers with; codes that begin with dserver/ are its own. Those of a store (too large,
// closed, damaged, commit unknown) are in package backend.
var (
	// When sending: the definition has handlers, and none for this message. Nothing was sent.
	ErrNoHandler = &Error{Code: "dserver/no-handler", Text: "dserver: no handler"}

	// When sending with Once: the key was used for another message. Nothing was sent.
	ErrKeyReused = &Error{Code: "dserver/key-reused", Text: "dserver: idempotency key used for another message"}

	// When sending: Settings.MaxQueued messages wait for the server. Nothing was sent, and no key of Once was used up: the
	// same send may be tried again, after a pause, and succeeds when consumers have made room.
	ErrQueueFull = &Error{Code: "dserver/queue-full", Text: "dserver: queue full"}

	// When calling: a reply was asked for, and the message has none. It has taken effect. A definition with handlers knows that
	// beforehand, and sends nothing then.
	ErrNoReply = &Error{Code: "dserver/no-reply", Text: "dserver: no reply"}

	// When asking with Info: an operator has paused the server. Nothing has happened: send a Call, which waits for its Resume.
	ErrPaused = &Error{Code: "dserver/paused", Text: "dserver: the server is paused"}

	// When changing what was read (Mend, SetState): it was changed meanwhile, and nothing was written. Read it again.
	ErrChanged = &Error{Code: "dserver/changed", Text: "dserver: it was changed meanwhile"}

	// When asking with Info: the server is pinned to a label that no consumer of this process lists. Nothing has happened: send
	// a Call, which is handled where the server runs.
	ErrElsewhere = &Error{Code: "dserver/elsewhere", Text: "dserver: the server runs elsewhere"}

	// When waiting: the message panicked, overran its time or could not be decoded, on its last attempt. What it did
	// was rolled back each time. An operator finds the message among the dead letters.
	ErrFault = &Error{Code: "dserver/fault", Text: "dserver: set aside"}

	// When waiting: a statement of the handler (Context.Exec) failed, as on a row that is there already. The message has had no
	// effect. The same message may succeed when the tables have changed.
	ErrStatement = &Error{Code: "dserver/statement", Text: "dserver: a statement failed"}

	// When waiting: this process was taken for dead by the others, so its replies were removed, or it cannot read the
	// reply. The message may have taken effect: call again with Once.
	ErrReplyLost = &Error{Code: "dserver/reply-lost", Text: "dserver: the reply was lost"}

	// When waiting: the server was killed before it handled the message.
	ErrKilled = &Error{Code: "dserver/killed", Text: "dserver: killed"}

	// When waiting: an operator took the message off the queue before it was handled.
	ErrWithdrawn = &Error{Code: "dserver/withdrawn", Text: "dserver: withdrawn"}

	// When calling or reading: the state is sound, and this program cannot read it: a field has another type than it was
	// stored with, or the Upgrade that is needed fails or is missing. The text says what to write. The server's messages
	// wait for a program that can.
	ErrState = &Error{Code: "dserver/state", Text: "dserver: this program cannot read the state"}

	// When reading: the server has no state, or what was named is gone.
	ErrNotFound = &Error{Code: "dserver/not-found", Text: "dserver: not found"}
)

// asError is err as it is sent: with the code of the *Error in its chain, and the text of the whole chain.
func asError(err error) *tenant.Error {
	var e *Error
	code := ""
	if errors.As(err, &e) {
		code = e.Code
	}
	return &tenant.Error{Code: code, Text: tenant.Truncate(err.Error(), tenant.MaxErrorText)}
}

// public is an error of the rooms below as users see it: the *tenant.Error in its chain is an *Error.
func public(err error) error {
	if err == nil { // before anything is put on the heap
		return nil
	}
	var e *tenant.Error
	if !errors.As(err, &e) {
		return err
	}
	if _, bare := err.(*tenant.Error); bare { //nolint:errorlint // one that is wrapped keeps its text
		return (*Error)(e)
	}
	return &chain{err, (*Error)(e)}
}

// chain is an error with an *Error of the library in it.
type chain struct {
	whole  error
	public *Error
}

func (c *chain) Error() string { return c.whole.Error() }

// Unwrap returns what errors.Is and errors.As find.
func (c *chain) Unwrap() []error { return []error{c.public, c.whole} }

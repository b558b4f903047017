package tenant

import (
	"errors"
	"fmt"
)

// Error is a failure as it is stored, and as it crosses processes: what package dserver shows as its Error.
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

// The library's own failures. What they mean to a user stands with the errors of package dserver that they become.
var (
	ErrNoHandler = &Error{Code: "dserver/no-handler", Text: "dserver: no handler"}
	ErrKeyReused = &Error{Code: "dserver/key-reused", Text: "dserver: idempotency key used for another message"}
	ErrElsewhere = &Error{Code: "dserver/elsewhere", Text: "dserver: the server runs elsewhere"}
	ErrNoReply   = &Error{Code: "dserver/no-reply", Text: "dserver: no reply"}
	ErrPaused    = &Error{Code: "dserver/paused", Text: "dserver: the server is paused"}
	ErrChanged   = &Error{Code: "dserver/changed", Text: "dserver: it was changed meanwhile"}
	ErrQueueFull = &Error{Code: "dserver/queue-full", Text: "dserver: queue full"}
	ErrFault     = &Error{Code: "dserver/fault", Text: "dserver: set aside"}
	ErrReplyLost = &Error{Code: "dserver/reply-lost", Text: "dserver: the reply was lost"}
	ErrKilled    = &Error{Code: "dserver/killed", Text: "dserver: killed"}
	ErrWithdrawn = &Error{Code: "dserver/withdrawn", Text: "dserver: withdrawn"}
	ErrState     = &Error{Code: "dserver/state", Text: "dserver: this program cannot read the state"}
	ErrStatement = &Error{Code: "dserver/statement", Text: "dserver: a statement failed"}
	ErrNotFound  = &Error{Code: "dserver/not-found", Text: "dserver: not found"}
)

// MaxErrorText bounds what a handler's error may add to a reply or a dead letter.
const MaxErrorText = 4 << 10

// AsError is err as it is sent: with the code of the *Error in its chain, and the text of the whole chain.
func AsError(err error) *Error {
	var e *Error
	code := ""
	if errors.As(err, &e) {
		code = e.Code
	}
	return &Error{Code: code, Text: Truncate(err.Error(), MaxErrorText)}
}

// Truncate bounds a text.
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

// Because is one of the library's failures with what happened.
func Because(e *Error, format string, args ...any) *Error {
	return &Error{Code: e.Code, Text: e.Text + ": " + Truncate(fmt.Sprintf(format, args...), MaxErrorText)}
}

// Doing says what was being done to a server, but for the library's own failures, which do: all but ErrState, which does
// not say of which server.
func Doing(what string, r Ref, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) && e.Code != ErrState.Code {
		return err
	}
	return fmt.Errorf("dserver: %s of %v: %w", what, r, err)
}

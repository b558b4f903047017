package dserver

import (
	"errors"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
)

// Field names of log lines. They are none of zerolog's own (level, time, message, error): of a name that a line has twice
// most parsers lose one value.
const (
	logTypes       = "types"
	logServer      = "server"
	logMessage     = "msg_name" // "message" is zerolog's name of the line's text
	logStamp       = "stamp"
	logCode        = "code" // of an error
	logAttempts    = "attempts"
	logMaxAttempts = "max_attempts"
	logWait        = "wait" // until the next attempt
	logShow        = "show" // the command that shows a message that was set aside
	logPanic       = "panic"
	logStack       = "stack"
	logSchema      = "schema"
	logFunction    = "function"
	logKey         = "key"
	logPlace       = "place" // in the program: file and line
)

// counted is what became of an attempt that failed. It is zero when another consumer counted it, or took the message.
type counted struct {
	attempts int
	wait     time.Duration // until the next one
	last     bool          // there is none: the message was set aside, or
	halts    bool          // the server stops
}

// about begins a line about a message.
func (t *turn) about(line *zerolog.Event, message string) *zerolog.Event {
	return line.Stringer(logServer, t.s.ref()).Str(logMessage, message)
}

// tellCounted logs what became of an attempt that failed. The last one is told from others: somebody must act then.
func (t *turn) tellCounted(w work, n counted, f *fault) {
	most := t.s.def.settings.maxAttempts
	switch {
	case n == counted{}:
		t.about(t.c.log.Warn(), w.envelope.Name).Str(zerolog.ErrorFieldName, f.Text).
			Func(withStack(f.hung())).Msg("a message broke its handler, and another consumer counts or has it")
	case n.halts:
		t.about(t.c.log.Error(), w.envelope.Name).Int(logAttempts, n.attempts).Int(logMaxAttempts, most).
			Stringer(logStamp, w.item.Stamp).Str(zerolog.ErrorFieldName, f.Text).
			Str(logShow, showCommand(t.s.ref(), w.item.Stamp)).Func(withStack(f.hung())).
			Msg("the server halts until an operator acts")
	case n.last:
		t.tellSetAside(w.envelope.Name, w.item.Stamp, n.attempts, because(ErrFault, "%s", f.Text), f.hung())
	default:
		t.about(t.c.log.Warn(), w.envelope.Name).Int(logAttempts, n.attempts).Int(logMaxAttempts, most).
			Stringer(logWait, n.wait.Round(time.Millisecond)).Str(zerolog.ErrorFieldName, f.Text).
			Func(withStack(f.hung())).Msg("a message broke its handler, and is tried again")
	}
}

// tellSetAside logs that a message is a dead letter now, and how to see it. What a handler refused is its decision; what
// has no attempts left is for somebody to mend.
func (t *turn) tellSetAside(message string, stamp backend.Versionstamp, attempts int, err *Error, stack string) {
	line, text := t.c.log.Warn(), "a message was refused, and set aside"
	if errors.Is(err, ErrFault) {
		line, text = t.c.log.Error(), "a message was set aside after its last attempt"
	}
	t.about(line, message).Int(logAttempts, attempts).Int(logMaxAttempts, t.s.def.settings.maxAttempts).
		Stringer(logStamp, stamp).Str(logCode, err.Code).Str(zerolog.ErrorFieldName, err.Text).
		Str(logShow, showCommand(t.s.ref(), stamp)).Func(withStack(stack)).Msg(text)
}

// tellLetters logs the dead letters of a batch that was committed. Those of messages that were never on the queue have the
// stamps of the commit: nothing is appended before them (settle).
func (t *turn) tellLetters() {
	order := uint16(0)
	for _, r := range t.batch.results {
		if r.err == nil || r.declined {
			continue
		}
		if r.isCall() {
			t.tellGivenUp(r)
			continue
		}
		attempts := 1
		if r.released != nil {
			attempts = r.released.attempt
		}
		var stamp backend.Versionstamp
		if r.item != nil {
			stamp = r.item.Stamp
		} else if v, err := t.version.Get(); err == nil {
			stamp = v.WithOrder(order)
			order++
		}
		t.tellSetAside(r.envelope.Name, stamp, attempts, r.err, "")
	}
}

// tellEnded logs that a handler ended locked work that nobody waits for, so that its message is a dead letter.
func (t *turn) tellEnded() {
	if !t.lockEnd.setsAside {
		return
	}
	for i, item := range t.lockEnd.items {
		t.tellSetAside(t.lockEnd.answers.envelopes[i].Name, item.Stamp, t.lockEnd.attempts, t.lockEnd.why, "")
	}
}

// tellGivenUp logs that locked work for a call has no attempts left. Its caller is told, and nothing is set aside.
func (t *turn) tellGivenUp(r result) {
	if r.released == nil || !errors.Is(r.err, ErrFault) {
		return
	}
	t.about(t.c.log.Error(), r.envelope.Name).Int(logAttempts, r.released.attempt).
		Int(logMaxAttempts, t.s.def.settings.maxAttempts).Str(logCode, r.err.Code).Str(zerolog.ErrorFieldName, r.err.Text).
		Msg("locked work for a call failed in its last attempt; its caller is told")
}

// withStack adds a stack to a line, if there is one.
func withStack(stack string) func(*zerolog.Event) {
	return func(line *zerolog.Event) {
		if stack != "" {
			line.Str(logStack, stack)
		}
	}
}

// about begins a line about locked work.
func (h *holder) about(line *zerolog.Event) *zerolog.Event {
	r := h.lock.record
	return line.Stringer(logServer, h.ref).Str(logMessage, r.Name).Int(logAttempts, r.Attempt).
		Int(logMaxAttempts, h.def.settings.maxAttempts)
}

// tellHalted logs that locked work has no attempts left, and why.
func (h *holder) tellHalted(c *consumer, f *fault) {
	h.about(c.log.Error()).Str(zerolog.ErrorFieldName, f.Text).Func(withStack(f.hung())).
		Msg("the server halts under its lock until an operator acts")
}

// showCommand is what to type to see a message, with the database in $DSERVER_DB.
func showCommand(ref Ref, stamp backend.Versionstamp) string {
	return "dserver show " + quoted(ref.String()) + " " + stamp.String()
}

// quoted is an argument of a shell.
func quoted(argument string) string {
	isPlain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+=,", r)
	}
	if strings.IndexFunc(argument, func(r rune) bool { return !isPlain(r) }) < 0 {
		return argument
	}
	return "'" + strings.ReplaceAll(argument, "'", `'\''`) + "'"
}

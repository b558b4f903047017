package consumer

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/internal/logs"
	"github.com/dserver-go/dserver/internal/tenant"
	"github.com/dserver-go/dserver/internal/turn"
)

// about begins a line about a message.
func (t *visit) about(line *zerolog.Event, message string) *zerolog.Event {
	return line.Stringer(logs.Server, t.Ref).Str(logs.Message, message)
}

// tellCounted logs, and tells the hooks, what became of an attempt that failed. The last one is told from others: somebody must act then.
func (t *visit) tellCounted(w turn.Work, n turn.Counted, f *turn.Fault) {
	most := t.Def.Settings.MaxAttempts
	t.tellFault(w, tenant.Because(tenant.ErrFault, "%s", f.Text), n.Last && !n.Halts)
	switch {
	case n == turn.Counted{}:
		t.about(t.c.log.Warn(), w.Envelope.Name).Str(zerolog.ErrorFieldName, f.Text).
			Func(logs.WithStack(f.Hung())).Msg("a message broke its handler, and another consumer counts or has it")
	case n.Halts:
		t.about(t.c.log.Error(), w.Envelope.Name).Int(logs.Attempts, n.Attempts).Int(logs.MaxAttempts, most).
			Stringer(logs.Stamp, w.Item.Stamp).Str(zerolog.ErrorFieldName, f.Text).
			Str(logs.Show, showCommand(t.Ref, w.Item.Stamp)).Func(logs.WithStack(f.Hung())).
			Msg("the server halts until an operator acts")
	case n.Last:
		t.tellSetAside(w.Envelope.Name, w.Item.Stamp, n.Attempts, tenant.Because(tenant.ErrFault, "%s", f.Text), f.Hung())
	default:
		t.about(t.c.log.Warn(), w.Envelope.Name).Int(logs.Attempts, n.Attempts).Int(logs.MaxAttempts, most).
			Stringer(logs.Wait, n.Wait.Round(time.Millisecond)).Str(zerolog.ErrorFieldName, f.Text).
			Func(logs.WithStack(f.Hung())).Msg("a message broke its handler, and is tried again")
	}
}

// tellSetAside logs that a message is a dead letter now, and how to see it. What a handler refused is its decision; what
// has no attempts left is for somebody to mend.
func (t *visit) tellSetAside(message string, stamp backend.Versionstamp, attempts int, err *tenant.Error, stack string) {
	line, text := t.c.log.Warn(), "a message was refused, and set aside"
	if errors.Is(err, tenant.ErrFault) {
		line, text = t.c.log.Error(), "a message was set aside after its last attempt"
	}
	t.about(line, message).Int(logs.Attempts, attempts).Int(logs.MaxAttempts, t.Def.Settings.MaxAttempts).
		Stringer(logs.Stamp, stamp).Str(logs.Code, err.Code).Str(zerolog.ErrorFieldName, err.Text).
		Str(logs.Show, showCommand(t.Ref, stamp)).Func(logs.WithStack(stack)).Msg(text)
}

// tellNewer logs, once for each server, that its state is one of a newer version of the program.
func (t *visit) tellNewer() {
	if t.IsNewer() && t.c.logged.isNew(t.Ref) {
		t.c.log.Warn().Stringer(logs.Server, t.Ref).Int(logs.Schema, t.Head.Meta.Schema).
			Msg("the state was written by a newer version of the program: left to consumers that have it")
	}
}

// tellLetters logs the dead letters of a batch that was committed. Those of messages that were never on the queue have the
// stamps of the commit: nothing is appended before them (turn's settle).
func (t *visit) tellLetters() {
	order := 0
	for _, r := range t.Batch.Results {
		if r.Err == nil || r.Declined {
			continue
		}
		if r.IsCall() {
			t.tellGivenUp(r)
			continue
		}
		attempts := 1
		if r.Released != nil {
			attempts = r.Released.Attempt
		}
		var stamp backend.Versionstamp
		if r.Item != nil {
			stamp = r.Item.Stamp
		} else if v, err := t.Version.Get(); err == nil {
			stamp = v.Plus(order)
			order++
		}
		t.tellSetAside(r.Envelope.Name, stamp, attempts, r.Err, "")
	}
}

// tellEnded logs that a handler ended locked work that nobody waits for, so that its message is a dead letter.
func (t *visit) tellEnded() {
	if !t.LockEnd.SetsAside {
		return
	}
	for i, item := range t.LockEnd.Items {
		t.tellSetAside(t.LockEnd.Answers.Envelopes[i].Name, item.Stamp, t.LockEnd.Attempts, t.LockEnd.Why, "")
	}
}

// tellGivenUp logs that locked work for a call has no attempts left. Its caller is told, and nothing is set aside.
func (t *visit) tellGivenUp(r turn.Result) {
	if r.Released == nil || !errors.Is(r.Err, tenant.ErrFault) {
		return
	}
	t.about(t.c.log.Error(), r.Envelope.Name).Int(logs.Attempts, r.Released.Attempt).
		Int(logs.MaxAttempts, t.Def.Settings.MaxAttempts).Str(logs.Code, r.Err.Code).Str(zerolog.ErrorFieldName, r.Err.Text).
		Msg("locked work for a call failed in its last attempt; its caller is told")
}

// showCommand is what to type to see a message, with the database in $DSERVER_DB.
func showCommand(ref tenant.Ref, stamp backend.Versionstamp) string {
	return "dserver show " + quoted(ref.String()) + " " + stamp.String()
}

// quoted is an argument of a shell, as the tool takes it: what cannot be seen is escaped as in a Go string, in quotes.
func quoted(argument string) string {
	isHidden := func(r rune) bool { return !strconv.IsPrint(r) }
	if strings.HasPrefix(argument, `"`) || !utf8.ValidString(argument) || strings.ContainsFunc(argument, isHidden) {
		return "'" + strings.ReplaceAll(strconv.Quote(argument), "'", `\x27`) + "'"
	}
	isPlain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+=,", r)
	}
	if strings.IndexFunc(argument, func(r rune) bool { return !isPlain(r) }) < 0 {
		return argument
	}
	return "'" + strings.ReplaceAll(argument, "'", `'\''`) + "'"
}

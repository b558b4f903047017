package display

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/operate"
)

// Status says how a server is, in a few words.
func Status(s dserver.Status) string {
	switch {
	case s.Unreadable != "":
		return "unreadable"
	case s.Paused && s.PausedBy != "":
		return "paused by " + JSONName(s.PausedBy)
	case s.Paused:
		return "paused"
	case s.Halted:
		return fmt.Sprintf("halted, attempts: %d", s.Attempts)
	case s.Unlisted:
		return fmt.Sprintf("no consumer lists its label %s", NamesOf([]string{s.Label}))
	case s.Unhandled != "":
		return "no consumer handles " + JSONName(s.Unhandled)
	case s.Locked && s.Attempts > 1:
		return fmt.Sprintf("locked, attempts: %d", s.Attempts)
	case s.Locked:
		return "locked"
	case s.Attempts > 0:
		return fmt.Sprintf("failing, attempts: %d", s.Attempts)
	case s.Queued > 0:
		return "has work"
	case s.Delayed > 0:
		return fmt.Sprintf("waits, delayed: %d", s.Delayed)
	}
	return "idle"
}

// Urgency is how soon a person should look. What stops a server, and will not pass by itself, comes first.
type Urgency int

// The least is that nobody has to look.
const (
	Well      Urgency = iota
	Paused            // somebody has stopped it, and may have forgotten
	Dead              // dead letters: the server goes on without them
	Backlog           // more waits than should
	Failing           // it is tried again, and may pass
	Overdue           // locked work takes longer than it may
	Unserved          // no consumer can run it
	Halted            // it has stopped until somebody acts
	Illegible         // no program can read its state
)

// String is a word for it.
func (u Urgency) String() string {
	return [...]string{"well", "paused", "dead letters", "backlog", "failing", "lock overdue", "unserved", "halted", "unreadable"}[u]
}

// Trouble is something of a server that needs a person.
type Trouble struct {
	Urgency Urgency
	What    string // in a sentence
	Do      string // what to do about it
}

// Troubles is what of a server needs a person, the most urgent first. It is empty for the servers that dserver.Troubles leaves
// out.
func Troubles(s dserver.Status) (all []Trouble) {
	add := func(is bool, u Urgency, what, do string) {
		if is {
			all = append(all, Trouble{u, what, do})
		}
	}
	add(s.Unreadable != "", Illegible, "Its state cannot be read: "+s.Unreadable,
		"Start a program that reads this state. The state is sound, and nothing is lost: all messages wait.")
	add(s.Halted, Halted, fmt.Sprintf("It has halted after %s, and nothing behind the message is handled.", counted(s.Attempts, "attempt")),
		"Look at the message that halted it. Edit it in its place, or delete it, or mend the program and resume the server.")
	add(s.Unlisted, Unserved, fmt.Sprintf("No consumer lists its label %s, so its messages wait.", NamesOf([]string{s.Label})),
		"Start a consumer that lists the label, or pin the server elsewhere.")
	add(s.Unhandled != "", Unserved, fmt.Sprintf("No consumer handles its next message, %s.", Quoted(s.Unhandled)),
		"Start a program that handles it, or edit its name, or delete it.")
	retried := s.Attempts
	if s.Locked { // work begins with its first attempt
		retried--
	}
	add(isOverdue(s.Lock) && retried <= 0 && !s.Halted, Overdue, fmt.Sprintf("It is locked for %s, and that takes longer than the %v that one attempt may take.", named(s.Lock.Message), s.Lock.Limit),
		"See whether the other system still works on it. Unlock ends it: the message becomes a dead letter, and its caller is told.")
	add(retried > 0 && !s.Halted, Failing, failingText(s, retried),
		"Read the error. Edit or delete the message if it is wrong; if the program is, mend that: the message is tried again by itself.")
	add(s.Queued > operate.MaxBacklog, Backlog, fmt.Sprintf("%d messages wait.", s.Queued),
		"See whether its consumers run, and what its handlers take so long for.")
	add(s.DeadLetters > 0, Dead, "It has "+counted(int(s.DeadLetters), "dead letter")+".",
		"Read there why. Retry what may work now, edit and retry what was wrong, discard what nobody needs.")
	by := ""
	if s.PausedBy != "" {
		by = " by " + Quoted(s.PausedBy)
	}
	add(s.Paused, Paused, fmt.Sprintf("It was paused%s, and its messages wait.", by), "Resume it when it may go on.")
	slices.SortStableFunc(all, func(a, b Trouble) int { return cmp.Compare(b.Urgency, a.Urgency) })
	return all
}

func isOverdue(l dserver.Lock) bool { return l.Limit > 0 && time.Since(l.Since) > l.Limit }

func failingText(s dserver.Status, attempts int) string {
	for _, f := range s.Failing {
		if f.Message != "" {
			return fmt.Sprintf("%s fails, and is tried again. Attempts so far: %d.", Quoted(f.Message), f.Attempts)
		}
	}
	return fmt.Sprintf("A message fails, and is tried again. Attempts so far: %d.", attempts)
}

func named(message string) string {
	if message == "" {
		return "a message"
	}
	return Quoted(message)
}

func counted(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

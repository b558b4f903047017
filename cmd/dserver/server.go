package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// status is a server as JSON has it.
type status struct {
	Server      string    `json:"server"`
	Queued      int64     `json:"queued"`
	Delayed     int       `json:"delayed,omitempty"` // by After; at most 1,000 are counted
	DeadLetters int64     `json:"dead_letters"`
	Attempts    int       `json:"attempts,omitempty"` // of the message at the head
	Failing     []failing `json:"failing,omitempty"`  // what is tried again, or has halted the server
	Locked      bool      `json:"locked,omitempty"`
	Lock        *lock     `json:"lock,omitempty"`
	Paused      bool      `json:"paused,omitempty"`
	PausedBy    string    `json:"paused_by,omitempty"`
	PausedSince time.Time `json:"paused_since,omitzero"`
	Halted      bool      `json:"halted,omitempty"`
	Unreadable  string    `json:"unreadable,omitempty"` // why a consumer could not read the state
	Created     time.Time `json:"created,omitzero"`
	Version     int       `json:"version,omitempty"` // of the state's schema

	Label     string `json:"label,omitempty"`     // of the consumers that run it
	Unlisted  bool   `json:"unlisted,omitempty"`  // no consumer lists the label
	Unhandled string `json:"unhandled,omitempty"` // the next message, when no consumer handles it

	words string // how it is, for people
}

// failing is a message, or locked work, that fails, as JSON has it.
type failing struct {
	Stamp       string    `json:"stamp"`
	Message     string    `json:"message"`
	Lane        string    `json:"lane,omitempty"`
	Locked      bool      `json:"locked,omitempty"` // it is under the lock
	Attempts    int       `json:"attempts"`
	MaxAttempts int       `json:"max_attempts,omitempty"`
	Error       string    `json:"error,omitempty"`
	Stack       string    `json:"stack,omitempty"`
	Since       time.Time `json:"since,omitzero"` // of the last attempt
	Next        time.Time `json:"next,omitzero"`  // when it is tried again
}

func newFailing(f dserver.Failing) failing {
	o := failing{
		Stamp: f.Stamp.String(), Message: jsonName(f.Message), Locked: f.Locked, Attempts: f.Attempts, MaxAttempts: f.MaxAttempts,
		Error: jsonText(f.Error), Stack: jsonText(f.Stack), Since: f.Since, Next: f.Next,
	}
	if !f.Locked {
		o.Lane = lane(f.Priority)
	}
	return o
}

// failingFields is what fails, for people: what, why and where.
func failingFields(f dserver.Failing) []field {
	what := fmt.Sprintf("%s %v, attempts: %s", name(f.Message), f.Stamp, tries(f))
	if f.Locked {
		what = "locked work of " + what
	}
	fields := []field{{"fails", bad(what)}}
	if f.Error != "" {
		fields = append(fields, field{"error", bad(f.Error)})
	}
	if !f.Since.IsZero() {
		fields = append(fields, field{"failed at", moment(f.Since)})
	}
	if !f.Next.IsZero() {
		fields = append(fields, field{"next attempt", moment(f.Next)})
	}
	if f.Stack != "" {
		fields = append(fields, field{"stack", shownLines(f.Stack)})
	}
	return fields
}

// tries is how many attempts there were, of how many.
func tries(f dserver.Failing) string {
	if f.MaxAttempts == 0 {
		return strconv.Itoa(f.Attempts)
	}
	return fmt.Sprintf("%d of %d", f.Attempts, f.MaxAttempts)
}

func newStatus(r dserver.Ref, s dserver.Status) status {
	var all []failing
	for _, f := range s.Failing {
		all = append(all, newFailing(f))
	}
	return status{
		words: display.Status(s), Failing: all, Paused: s.Paused, PausedBy: jsonName(s.PausedBy), PausedSince: s.PausedSince, Lock: newLock(s),
		Server: jsonName(r.String()), Queued: s.Queued, DeadLetters: s.DeadLetters, Attempts: s.Attempts, Locked: s.Locked,
		Halted: s.Halted, Unreadable: jsonName(s.Unreadable), Created: s.Created, Version: s.Version, Unhandled: jsonName(s.Unhandled), Label: jsonName(s.Label), Unlisted: s.Unlisted, Delayed: s.Delayed,
	}
}

// word says how a server is.
func (s status) word() string { return s.words }

// needsPerson reports whether somebody has to look at it, but for its dead letters.
func (s status) needsPerson() bool {
	retried := s.Attempts
	if s.Locked { // work begins with its first attempt
		retried--
	}
	isOverdue := s.Lock != nil && s.Lock.Limit > 0 && time.Since(s.Lock.Since).Seconds() > s.Lock.Limit
	return s.Unreadable+s.Unhandled != "" || s.Unlisted || s.Halted || s.Paused || retried > 0 || isOverdue
}

// shown is word with its colour.
func (s status) shown() alarm { return alarm{s.word(), s.needsPerson()} }

// eachServer calls fn with the servers of a type, or of all types, in the order of their names.
func (t *tool) eachServer(ctx context.Context, typ string, fn func(dserver.Ref) error) error {
	types := []string{typ}
	if typ == "" {
		types = types[:0]
		for typ, err := range dserver.Types(ctx, t.db) {
			if err != nil {
				return err
			}
			types = append(types, typ)
		}
	}
	for _, typ := range types {
		for ref, err := range dserver.Servers(ctx, t.db, typ) {
			if err != nil {
				return err
			}
			if err := fn(ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// statusCommand tells how a server is.
type statusCommand struct{ shown }

// Run prints it.
func (c *statusCommand) Run(ctx context.Context, t *tool) error {
	found, err := t.statusOf(ctx, c.Server)
	if err != nil {
		return err
	}
	return t.out.fields(newStatus(c.Server.Ref, found), statusFields(c.Server, found)...)
}

// statusOf is the status of a server of which there is something.
func (t *tool) statusOf(ctx context.Context, at server) (dserver.Status, error) {
	found, err := at.At(t.db).Status(ctx)
	if err == nil && found.IsZero() {
		err = fmt.Errorf("there is nothing of %v; %s ls lists the servers%s", at, t.self(), t.near(ctx, at.Ref))
	}
	return found, err
}

// statusFields is a status for people.
func statusFields(at server, found dserver.Status) []field {
	s := newStatus(at.Ref, found)
	fields := []field{
		{"server", at.Ref}, {"status", s.shown()}, {"queued", s.Queued}, {"delayed", s.Delayed}, {"dead letters", some(s.DeadLetters)},
	}
	if !s.Created.IsZero() {
		fields = append(fields, field{"created", moment(s.Created)}, field{"schema version", s.Version})
	}
	if s.Label != "" {
		fields = append(fields, field{"label", s.Label})
	}
	if s.Unreadable != "" {
		fields = append(fields, field{"why", bad(s.Unreadable)})
	}
	if found.Paused {
		fields = append(fields, field{"paused since", moment(s.PausedSince)})
	}
	if found.Locked {
		fields = append(fields, field{"locked for", fmt.Sprintf("%s %v, attempt %d, by %s", name(found.Lock.Message), found.Lock.Stamp, found.Lock.Attempt, orNobody(found.Lock.Process))},
			field{"locked since", moment(found.Lock.Since)})
	}
	for _, f := range found.Failing {
		fields = append(fields, failingFields(f)...)
	}
	return fields
}

// self is how this program was called, for what to do next.
func (t *tool) self() string { return "dserver --db " + word(t.name) }

// moment is a time for people.
func moment(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.Local().Format("2006-01-02 15:04:05.000 -0700")
}

// unlockCommand ends locked work.
type unlockCommand struct{ shown }

// Run does it.
func (c *unlockCommand) Run(ctx context.Context, t *tool) error {
	err := c.Server.At(t.db).Unlock(ctx)
	if errors.Is(err, dserver.ErrNotFound) {
		return fmt.Errorf("%v is not locked; %s status %v tells how it is", c.Server, t.self(), c.Server)
	}
	if err != nil {
		return err
	}
	return t.out.line(map[string]string{"unlocked": jsonName(c.Server.Ref.String())}, "unlocked %v; the message is set aside: %s dead %v",
		c.Server, t.self(), c.Server)
}

// pauseCommand stops a server.
type pauseCommand struct{ shown }

// Run does it.
func (c *pauseCommand) Run(ctx context.Context, t *tool) error {
	if err := c.Server.At(t.db).Pause(ctx); err != nil {
		return err
	}
	return t.out.line(map[string]string{"paused": jsonName(c.Server.Ref.String())}, "paused %v; %s resume %v lets it go on", c.Server, t.self(), c.Server)
}

// resumeCommand lets a server go on that is paused or has halted.
type resumeCommand struct{ shown }

// Run does it.
func (c *resumeCommand) Run(ctx context.Context, t *tool) error {
	err := c.Server.At(t.db).Resume(ctx)
	if errors.Is(err, dserver.ErrNotFound) {
		return fmt.Errorf("%v has not halted, nor is it paused; %s status %v tells how it is", c.Server, t.self(), c.Server)
	}
	if err != nil {
		return err
	}
	return t.out.line(map[string]string{"resumed": jsonName(c.Server.Ref.String())}, "resumed %v", c.Server)
}

// pinCommand moves a server to the consumers of a label.
type pinCommand struct {
	shown
	Label text `arg:"" help:"The label that consumers list (Consumer.Labels); \"\" is not to pin it."`
}

// Run does it, and says so when nobody is there.
func (c *pinCommand) Run(ctx context.Context, t *tool) error {
	if err := c.Server.At(t.db).Pin(ctx, string(c.Label)); err != nil {
		return err
	}
	done := map[string]string{"pinned": jsonName(c.Server.Ref.String()), "label": jsonName(string(c.Label))}
	isListed, err := t.isListed(ctx, c.Server.Type, string(c.Label))
	if err != nil {
		return err
	}
	if !isListed {
		return t.out.line(done, "pinned %v to %s, which no consumer of its type lists now: it waits for one; %s consumers shows who lists what",
			c.Server, namesOf([]string{string(c.Label)}), t.self())
	}
	return t.out.line(done, "pinned %v to %s", c.Server, namesOf([]string{string(c.Label)}))
}

// isListed reports whether a process says that it runs the servers of a type that have a label. One that tells no types may.
func (t *tool) isListed(ctx context.Context, typ, label string) (bool, error) {
	for p, err := range dserver.Consumers(ctx, t.db) {
		if err != nil {
			return false, err
		}
		if (len(p.Types) == 0 || slices.Contains(p.Types, typ)) && (len(p.Labels) == 0 && label == "" || slices.Contains(p.Labels, label)) {
			return true, nil
		}
	}
	return false, nil
}

// resetCommand forgets a state.
type resetCommand struct {
	shown
	sure
}

// Run does it.
func (c *resetCommand) Run(ctx context.Context, t *tool) error {
	if err := c.confirmed(t, "forget the state of %v, and leave its queue and its dead letters", c.Server); err != nil {
		return err
	}
	if err := c.Server.At(t.db).Reset(ctx); err != nil {
		return err
	}
	return t.out.line(map[string]string{"reset": jsonName(c.Server.Ref.String())}, "reset %v", c.Server)
}

// killCommand removes a server.
type killCommand struct {
	shown
	sure
}

// Run does it.
func (c *killCommand) Run(ctx context.Context, t *tool) error {
	if err := c.confirmed(t, "remove the state, the queue and the dead letters of %v", c.Server); err != nil {
		return err
	}
	if err := c.Server.At(t.db).Kill(ctx); err != nil {
		return err
	}
	return t.out.line(map[string]string{"killed": jsonName(c.Server.Ref.String())}, "killed %v", c.Server)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// tailCommand prints what becomes of the messages of a server, or of a type, as it happens.
type tailCommand struct {
	What  tailed         `arg:"" name:"server" help:"The server: type/id, or quoted as ls shows it; or a type, of which those servers are looked at that have something to do or need a person, 500 at most."`
	Every *time.Duration `help:"The time from one look to the next; 200ms, of a type 1s." placeholder:"DURATION"`
	State bool           `help:"Print the server's state as well, now and after each change."`
}

// tailed is an argument: type/id, or a type.
type tailed struct{ dserver.Ref }

// UnmarshalText makes a mistake in it one of the command line.
func (w *tailed) UnmarshalText(text []byte) error {
	name, err := unquoted(string(text))
	if err != nil {
		return err
	}
	if strings.Contains(name, "/") {
		w.Ref, err = dserver.ParseRef(name)
		return err
	}
	if w.Type = name; name == "" {
		return errors.New("name a server, type/id, or a type")
	}
	return nil
}

func (w tailed) isType() bool { return w.ID == "" }

// String is how it is shown.
func (w tailed) String() string {
	if w.isType() {
		return quoted(w.Type)
	}
	return word(w.Ref.String())
}

// Validate is called by the command line's parser.
func (c *tailCommand) Validate() error {
	switch {
	case c.Every != nil && *c.Every <= 0:
		return errors.New("--every is a time above zero, such as 1s")
	case c.State && c.What.isType():
		return errors.New("--state is of one server: name it, type/id")
	}
	return nil
}

// looker is what is looked at again and again.
type looker interface {
	look(ctx context.Context) ([]event, error)
}

// Run prints until ctx ends.
func (c *tailCommand) Run(ctx context.Context, t *tool) error {
	var following sync.WaitGroup
	defer following.Wait()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	out := &tail{tool: t, ref: c.What.Ref}
	from, every := looker(out), 200*time.Millisecond
	states := make(chan outcome)
	if c.What.isType() {
		from, every = &typeTail{tail: out, known: map[dserver.Ref]*tail{}}, time.Second
	} else if out.s = c.What.At(t.db); c.State {
		following.Go(func() { send(ctx, out.s, states) })
	}
	if c.Every != nil {
		every = *c.Every
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		events, err := from.look(ctx)
		if err := errors.Join(out.told(err), out.print(events...)); err != nil {
			return err
		}
		for isDue := false; !isDue; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				isDue = true
			case o := <-states:
				if err := out.printOutcome(o); err != nil {
					return err
				}
			}
		}
	}
}

// outcome is what a follower was told.
type outcome struct {
	state any
	err   error
}

// send follows a state until ctx ends.
func send(ctx context.Context, s *dserver.DServer[any], to chan<- outcome) {
	for state, err := range s.Follow(ctx) {
		select {
		case to <- outcome{state, err}:
		case <-ctx.Done():
			return
		}
	}
}

func stateText(state any) string {
	if state == nil {
		return "no state"
	}
	return indented(plain(state))
}

// followState prints a place in a state now and after each change, until ctx ends.
func (t *tool) followState(ctx context.Context, s *dserver.DServer[any], path display.Place) error {
	l := &tail{tool: t}
	for state, err := range s.Follow(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			state, err = path.In(state)
		}
		if err == nil {
			err = t.out.line(plain(state), "%s\n%s", moment(time.Now()), block(stateText(state)))
		} else {
			err = l.told(err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tailRows is how many messages a look reads of the queue: those that are next.
const tailRows = 100

// tail is a server whose messages are printed as they come and go. It reads the head of the queue again and again, so it sees
// neither what comes and goes between two looks, nor what joins a turn in the process of its sender, nor how a message was
// answered.
type tail struct {
	*tool
	ref     dserver.Ref
	s       *dserver.DServer[any]
	begun   bool
	waiting []dserver.Queued // at the last look
	trouble string           // the status, where it is one to tell
	letters int64            // that were there at first, or were seen to come
	failed  string           // the error that was told last
}

// event is what happened, as JSON has it.
type event struct {
	Time   time.Time `json:"time"`             // of the look
	Server string    `json:"server,omitempty"` // of the tail of a type
	Event  string    `json:"event"`            // waits, queued, gone, set aside, status, state
	Queued *queued   `json:"queued,omitempty"`
	Letter *letter   `json:"letter,omitempty"`
	Count  int64     `json:"count,omitempty"` // of messages that were set aside, and not seen before
	Status *status   `json:"status,omitempty"`
	State  any       `json:"state,omitempty"`

	text any         // for people
	ref  dserver.Ref // of the tail of a type
}

// print writes events.
func (l *tail) print(events ...event) error {
	for _, e := range events {
		e.Time = time.Now()
		where := block("")
		if e.ref != (dserver.Ref{}) {
			e.Server, where = jsonName(e.ref.String()), block(word(e.ref.String())+"  ")
		}
		if err := l.out.line(e, "%s  %-9s  %v%v", moment(e.Time), e.Event, where, e.text); err != nil {
			return err
		}
	}
	return nil
}

func (l *tail) printOutcome(o outcome) error {
	if o.err != nil {
		return l.told(o.err)
	}
	return l.print(event{Event: "state", State: plain(o.state), text: block(stateText(o.state))})
}

// told tells an error that may pass, once, and returns one after which nothing can come.
func (l *tail) told(err error) error {
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, backend.ErrClosed):
		return err
	case err.Error() != l.failed:
		l.failed = err.Error()
		fmt.Fprintln(l.out.errs, "dserver:", visible(l.failed))
	}
	return nil
}

// look compares the server with the last look. The status is read before the queue: whose letter it counts has gone from that.
// After an error the next look compares with the same one.
func (l *tail) look(ctx context.Context) (events []event, err error) {
	found, err := l.s.Status(ctx)
	if err != nil {
		return nil, err
	}
	return l.compare(ctx, found)
}

// compare is look with a status that was just read.
func (l *tail) compare(ctx context.Context, found dserver.Status) (events []event, err error) {
	var waiting []dserver.Queued
	isCut := false
	if found.Queued > 0 || len(l.waiting) > 0 {
		if waiting, isCut, err = l.head(ctx); err != nil {
			return nil, err
		}
	}
	what := "queued"
	if !l.begun {
		what, l.letters = "waits", found.DeadLetters
	}
	known, aside := waiting, int64(0)
	for _, q := range l.waiting {
		if slices.ContainsFunc(waiting, isAt(q.Stamp)) {
			continue
		}
		e, waits, err := l.became(ctx, q, isCut)
		switch {
		case err != nil:
			return nil, err
		case waits && len(known) < 2*tailRows:
			known = append(known, q)
		case !waits:
			events = append(events, e)
		}
		if e.Letter != nil {
			aside++
		}
	}
	for _, q := range waiting {
		if !slices.ContainsFunc(l.waiting, isAt(q.Stamp)) {
			events = append(events, queuedEvent(what, q))
		}
	}
	l.begun, l.waiting = true, known
	return append(events, slices.Concat(l.unseen(found.DeadLetters, aside), l.status(found))...), nil
}

func isAt(stamp backend.Versionstamp) func(dserver.Queued) bool {
	return func(q dserver.Queued) bool { return q.Stamp == stamp }
}

// head is the messages that are next, and whether there are more.
func (l *tail) head(ctx context.Context) (waiting []dserver.Queued, isCut bool, err error) {
	for q, err := range l.s.Queue(ctx) {
		if err != nil || len(waiting) == tailRows {
			return waiting, true, err
		}
		waiting = append(waiting, q)
	}
	return waiting, false, nil
}

// became is what became of a message that is not seen any more. Where the head was cut, others may have gone ahead of it.
func (l *tail) became(ctx context.Context, q dserver.Queued, isCut bool) (e event, waits bool, err error) {
	if isCut {
		if _, err := l.s.Queued(ctx, q.Stamp); !errors.Is(err, dserver.ErrNotFound) {
			return e, err == nil, err
		}
	}
	d, err := l.s.DeadLetter(ctx, q.Stamp)
	switch {
	case errors.Is(err, dserver.ErrNotFound):
		return queuedEvent("gone", q), false, nil
	case err != nil:
		return e, false, err
	}
	found := newLetter(d)
	text := fmt.Sprintf("%s  %s  %s", found.Stamp, name(d.Message.Name), shorten(firstLine(found.Error), errorRunes))
	return event{Event: "set aside", Letter: &found, text: bad(text)}, false, nil
}

func queuedEvent(what string, found dserver.Queued) event {
	q := newQueued(found)
	return event{Event: what, Queued: &q, text: fmt.Sprintf("%s  %s  %s", q.Stamp, name(found.Message.Name), oneLine(q.Body, q.Raw))}
}

// unseen tells of letters whose messages were not seen on the queue. aside is how many were seen to become letters since the
// last look.
func (l *tail) unseen(letters, aside int64) []event {
	l.letters += aside
	more := letters - l.letters
	switch {
	case more < -aside: // some were retried or discarded
		l.letters = letters + aside
		return nil
	case more <= 0:
		return nil
	}
	l.letters = letters
	return []event{{Event: "set aside", Count: more, text: bad(fmt.Sprintf("%d that were not seen on the queue; %s dead %v lists them", more, l.self(), server{l.ref}))}}
}

// status tells of what keeps the server from its messages, when that is something else.
func (l *tail) status(found dserver.Status) []event {
	s := newStatus(l.ref, found)
	word := s.word()
	if isWell := !s.Halted && !s.Paused && !s.Locked && !s.Unlisted && s.Unreadable+s.Unhandled == "" && s.Attempts == 0; isWell {
		word = ""
	}
	if word == l.trouble {
		return nil
	}
	if l.trouble = word; word == "" {
		word = "goes on"
	}
	return []event{{Event: "status", Status: &s, text: alarm{word, s.needsPerson()}}}
}

// maxTailed is how many servers of a type are looked at.
const maxTailed = 500

// typeTail is the servers of a type whose messages are printed as they come and go: those that have something to do or need a
// person, which are in indexes. A server that comes into them is looked at until it is at rest, so a look costs as much as there is
// to do, up to a bound, whatever the number of servers.
type typeTail struct {
	*tail
	known map[dserver.Ref]*tail
	isOld bool // it was looked at before
	isCut bool // it was said that there are more servers
}

func (l *typeTail) look(ctx context.Context) (events []event, err error) {
	seen, isCut := map[dserver.Ref]bool{}, false
	for found, err := range dserver.Active(ctx, l.db, l.ref.Type) {
		if err != nil {
			return events, err
		}
		one := l.known[found.Ref]
		if isCut = one == nil && len(l.known) == maxTailed; isCut {
			break // those that are known are looked at below
		}
		if one == nil { // what it has when it comes has come since the last look
			one = &tail{tool: l.tool, ref: found.Ref, s: found.Ref.At(l.db), begun: l.isOld}
			l.known[found.Ref] = one
		}
		seen[found.Ref] = true
		more, err := one.compare(ctx, found.Status)
		if events = append(events, of(found.Ref, more)...); err != nil {
			return events, err
		}
	}
	for ref, one := range l.known {
		if seen[ref] {
			continue
		}
		more, err := one.look(ctx)
		if events = append(events, of(ref, more)...); err != nil {
			return events, err
		}
		if len(one.waiting) == 0 && one.trouble == "" && one.letters == 0 {
			delete(l.known, ref)
		}
	}
	l.isOld = true
	if isCut && !l.isCut {
		fmt.Fprintf(l.out.errs, "dserver: more than %d servers of type %s have something to do or need a person: not all are looked at\n", maxTailed, quoted(l.ref.Type))
	}
	l.isCut = isCut
	return events, nil
}

// of is events of a server.
func of(ref dserver.Ref, events []event) []event {
	for i := range events {
		events[i].ref = ref
	}
	return events
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// tailCommand prints what becomes of a server's messages, as it happens.
type tailCommand struct {
	shown
	Every time.Duration `default:"200ms" help:"The time from one look to the next."`
	State bool          `help:"Print the state as well, now and after each change."`
}

// Validate is called by the command line's parser.
func (c *tailCommand) Validate() error {
	if c.Every <= 0 {
		return errors.New("--every is a time above zero, such as 1s")
	}
	return nil
}

// Run prints until ctx ends.
func (c *tailCommand) Run(ctx context.Context, t *tool) error {
	var following sync.WaitGroup
	defer following.Wait()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	l := &tail{tool: t, ref: c.Server.Ref, s: c.Server.At(t.db)}
	states := make(chan outcome)
	if c.State {
		following.Go(func() { send(ctx, l.s, states) })
	}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		events, err := l.look(ctx)
		if err := errors.Join(l.told(err), l.print(events...)); err != nil {
			return err
		}
		for isDue := false; !isDue; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				isDue = true
			case o := <-states:
				if err := l.printOutcome(o); err != nil {
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
func (t *tool) followState(ctx context.Context, s *dserver.DServer[any], path place) error {
	l := &tail{tool: t}
	for state, err := range s.Follow(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			state, err = path.in(state)
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
	Time   time.Time `json:"time"`  // of the look
	Event  string    `json:"event"` // waits, queued, gone, set aside, status, state
	Queued *queued   `json:"queued,omitempty"`
	Letter *letter   `json:"letter,omitempty"`
	Count  int64     `json:"count,omitempty"` // of messages that were set aside, and not seen before
	Status *status   `json:"status,omitempty"`
	State  any       `json:"state,omitempty"`

	text any // for people
}

// print writes events.
func (l *tail) print(events ...event) error {
	for _, e := range events {
		e.Time = time.Now()
		if err := l.out.line(e, "%s  %-9s  %v", moment(e.Time), e.Event, e.text); err != nil {
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
	waiting, isCut, err := l.head(ctx)
	if err != nil {
		return nil, err
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
	return event{Event: "set aside", Letter: &found, text: text}, false, nil
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
	return []event{{Event: "set aside", Count: more, text: fmt.Sprintf("%d that were not seen on the queue; %s dead %v lists them", more, l.self(), server{l.ref})}}
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
	return []event{{Event: "status", Status: &s, text: word}}
}

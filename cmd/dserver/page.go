package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// showCommand prints a server on one page, or one message of it.
type showCommand struct {
	shown
	Stamp stamp `arg:"" optional:"" help:"The stamp of one message, as queue and dead show it."`
}

// Run prints it.
func (c *showCommand) Run(ctx context.Context, t *tool) error {
	if !c.Stamp.IsZero() {
		return t.showMessage(ctx, message{c.shown, c.Stamp}, false)
	}
	return t.showServer(ctx, c.Server)
}

// pageRows is how many messages of each kind a page has.
const pageRows = 10

// page is a server as JSON has it, with the first of what it has.
type page struct {
	status
	State   any       `json:"state,omitempty"`
	Queue   []queued  `json:"queue,omitempty"`
	Dead    []letter  `json:"dead,omitempty"`
	Later   []delayed `json:"later,omitempty"`
	Timers  []timer   `json:"timers,omitempty"`
	AreCut  []string  `json:"cut,omitempty"` // of which there are more
	NoState string    `json:"no_state,omitempty"`
}

// showServer prints all that is known of a server: how it is, its state, and the first of its messages, letters and timers.
func (t *tool) showServer(ctx context.Context, at server) error {
	found, err := t.statusOf(ctx, at)
	if err != nil {
		return err
	}
	p := page{status: newStatus(at.Ref, found)}
	srv := at.At(t.db)
	state, err := srv.State(ctx)
	switch {
	case errors.Is(err, dserver.ErrNotFound), errors.Is(err, dserver.ErrState):
		p.NoState = jsonText(err.Error())
	case err != nil:
		return err
	default:
		p.State = plain(state)
	}
	if p.Queue, err = firstOf(&p, "queue", srv.Queue(ctx), newQueued); err != nil {
		return err
	}
	if p.Dead, err = firstOf(&p, "dead", srv.DeadLetters(ctx), newLetter); err != nil {
		return err
	}
	if p.Later, err = firstOf(&p, "later", srv.Delayed(ctx), newDelayed); err != nil {
		return err
	}
	if p.Timers, err = firstOf(&p, "timers", srv.Timers(ctx), newTimer); err != nil {
		return err
	}
	if t.out.json {
		return t.out.object(p)
	}
	if err := t.out.fields(nil, statusFields(at, found)...); err != nil {
		return err
	}
	if p.NoState == "" {
		if err := t.out.line(nil, "\nstate\n%s", block(indented(p.State))); err != nil {
			return err
		}
	}
	return t.showLists(&p, at)
}

// firstOf is the first of a list, as JSON has them.
func firstOf[From, To any](p *page, name string, all func(func(From, error) bool), as func(From) To) (first []To, err error) {
	for found, err := range all {
		if err != nil {
			return nil, err
		}
		if len(first) == pageRows {
			p.AreCut = append(p.AreCut, name)
			break
		}
		first = append(first, as(found))
	}
	return first, nil
}

// showLists prints the lists of a page that have something.
func (t *tool) showLists(p *page, at server) error {
	sections := []struct {
		name string
		list *list
		add  func(l *list) error
		rows int
	}{
		{"queue", t.out.list("STAMP", "LANE", "MESSAGE", "KIND", "SENT", "BODY"), func(l *list) error {
			return eachRow(p.Queue, func(q queued) error {
				return l.add(q, q.Stamp, q.Lane, name(q.Message), kind(q.Call), moment(q.Sent), oneLine(q.Body, q.Raw))
			})
		}, len(p.Queue)},
		{"dead", t.out.list("STAMP", "MESSAGE", "ATTEMPTS", "SINCE", "ERROR"), func(l *list) error {
			return eachRow(p.Dead, func(d letter) error {
				return l.add(d, d.Stamp, name(d.Message), d.Attempts, moment(d.Since), bad(shorten(firstLine(d.Error), errorRunes)))
			})
		}, len(p.Dead)},
		{"later", t.out.list("ID", "DUE", "LANE", "MESSAGES"), func(l *list) error {
			return eachRow(p.Later, func(d delayed) error { return l.add(d, d.ID, moment(d.Due), d.Lane, len(d.Messages)) })
		}, len(p.Later)},
		{"timers", t.out.list("NAME", "DUE", "MESSAGE"), func(l *list) error {
			return eachRow(p.Timers, func(m timer) error { return l.add(m, quoted(m.Name), moment(m.Due), name(m.Message)) })
		}, len(p.Timers)},
	}
	for _, s := range sections {
		if s.rows == 0 {
			continue
		}
		if err := t.out.line(nil, "\n%s", s.name); err != nil {
			return err
		}
		if err := errors.Join(s.add(s.list), s.list.flush("")); err != nil {
			return err
		}
		if slices.Contains(p.AreCut, s.name) {
			if err := t.out.line(nil, "… the first %d; %s %s %v lists all", pageRows, t.self(), s.name, at); err != nil {
				return err
			}
		}
	}
	return nil
}

func eachRow[Row any](rows []Row, add func(Row) error) error {
	for _, row := range rows {
		if err := add(row); err != nil {
			return err
		}
	}
	return nil
}

// timer is a timer as JSON has it.
type timer struct {
	Name    string    `json:"name"`
	Due     time.Time `json:"due,omitzero"`
	Lane    string    `json:"lane"`
	Message string    `json:"message"`
	Body    any       `json:"body,omitempty"`
	Raw     []byte    `json:"raw,omitempty"`
}

func newTimer(f dserver.Timer) timer {
	o := timer{Name: jsonName(f.Name), Due: f.Due, Lane: lane(f.Priority), Message: jsonName(f.Message.Name)}
	o.Body, o.Raw = readable(f.Message.Body)
	return o
}

// timersCommand lists timers.
type timersCommand struct {
	shown
	limit
}

// Run prints a row per timer.
func (c *timersCommand) Run(ctx context.Context, t *tool) error {
	list := t.out.list("NAME", "DUE", "LANE", "MESSAGE", "BODY")
	for found, err := range c.Server.At(t.db).Timers(ctx) {
		if err != nil {
			return err
		}
		if c.isReached(list) {
			return errors.Join(list.flush(""), t.out.more(list.rows))
		}
		m := newTimer(found)
		if err := list.add(m, quoted(found.Name), moment(m.Due), m.Lane, name(found.Message.Name), oneLine(m.Body, m.Raw)); err != nil {
			return err
		}
	}
	return list.flush(fmt.Sprintf("%v has set no timer", c.Server))
}

// lock is what a server is locked for, as JSON has it.
type lock struct {
	Server  string    `json:"server,omitempty"` // in a list
	Stamp   string    `json:"stamp"`
	Message string    `json:"message"`
	Attempt int       `json:"attempt"`
	Since   time.Time `json:"since"`
	Limit   float64   `json:"limit_seconds,omitempty"` // of one attempt, if it is known
	Process string    `json:"process,omitempty"`       // of the holder
}

func newLock(s dserver.Status) *lock {
	if !s.Locked {
		return nil
	}
	l := s.Lock
	return &lock{Stamp: l.Stamp.String(), Message: jsonName(l.Message), Attempt: l.Attempt, Since: l.Since, Limit: l.Limit.Seconds(), Process: jsonName(l.Process)}
}

func orNobody(process string) string {
	if process == "" {
		return "nobody"
	}
	return process
}

// limitOf is how long an attempt may take, for people.
func limitOf(l dserver.Lock) string {
	if l.Limit == 0 {
		return "unknown"
	}
	return l.Limit.String()
}

// locksCommand lists the servers that are locked.
type locksCommand struct {
	Type text `arg:"" optional:"" help:"Only servers of this type."`
}

// Run prints a row per lock.
func (c *locksCommand) Run(ctx context.Context, t *tool) error {
	list := t.out.list("SERVER", "MESSAGE", "STAMP", "ATTEMPT", "SINCE", "LIMIT", "PROCESS")
	for found, err := range dserver.Active(ctx, t.db, typesOf(string(c.Type))...) {
		if err != nil {
			return err
		}
		if !found.Status.Locked {
			continue
		}
		l := newLock(found.Status)
		l.Server = jsonName(found.Ref.String())
		if err := list.add(l, found.Ref, name(found.Status.Lock.Message), l.Stamp, l.Attempt, moment(l.Since), limitOf(found.Status.Lock), orNobody(found.Status.Lock.Process)); err != nil {
			return err
		}
	}
	return list.flush("no server is locked")
}

// statsCommand counts.
type statsCommand struct {
	Type text `arg:"" optional:"" help:"Only servers of this type."`
}

// stats is what a type has, as JSON has it.
type stats struct {
	Type        string `json:"type"`
	Servers     int    `json:"servers"`
	Queued      int64  `json:"queued"`
	Delayed     int    `json:"delayed"`
	DeadLetters int64  `json:"dead_letters"`
	Failing     int    `json:"failing"` // servers
	Halted      int    `json:"halted"`
	Paused      int    `json:"paused"`
	Locked      int    `json:"locked"`
}

func (s *stats) add(found dserver.Status) {
	s.Servers++
	s.Queued += found.Queued
	s.Delayed += found.Delayed
	s.DeadLetters += found.DeadLetters
	for count, is := range map[*int]bool{&s.Failing: len(found.Failing) > 0, &s.Halted: found.Halted, &s.Paused: found.Paused, &s.Locked: found.Locked} {
		if is {
			*count++
		}
	}
}

// Run prints a row per type.
func (c *statsCommand) Run(ctx context.Context, t *tool) error {
	list := t.out.list("TYPE", "SERVERS", "QUEUED", "DELAYED", "DEAD", "FAILING", "HALTED", "PAUSED", "LOCKED")
	all := map[string]*stats{}
	var types []string
	err := t.eachServer(ctx, string(c.Type), func(ref dserver.Ref) error {
		found, err := ref.At(t.db).Status(ctx)
		if err != nil {
			return err
		}
		if all[ref.Type] == nil {
			all[ref.Type] = &stats{Type: jsonName(ref.Type)}
			types = append(types, ref.Type)
		}
		all[ref.Type].add(found)
		return nil
	})
	for _, typ := range types {
		if err != nil {
			return err
		}
		s := all[typ]
		err = list.add(s, quoted(typ), s.Servers, s.Queued, s.Delayed, some(s.DeadLetters), some(s.Failing), some(s.Halted), some(s.Paused), s.Locked)
	}
	return errors.Join(err, list.flush("there are no servers"))
}

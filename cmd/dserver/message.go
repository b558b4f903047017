package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// How much of a message a list shows.
const (
	bodyRunes  = 60
	errorRunes = 80
)

// queued is a message that waits, as JSON has it.
type queued struct {
	Stamp   string            `json:"stamp,omitempty"` // of one on the queue
	Lane    string            `json:"lane"`
	Message string            `json:"message"`       // empty when it is damaged
	Call    bool              `json:"call"`          // somebody waits for its answer
	Sent    time.Time         `json:"sent,omitzero"` // by the sender's clock
	Headers map[string]string `json:"headers,omitempty"`
	Bytes   int               `json:"bytes"`
	Body    any               `json:"body,omitempty"`
	Raw     []byte            `json:"raw,omitempty"` // instead of Body when it is no CBOR

	Notation string `json:"cbor,omitempty"` // instead of Body, when it was asked for
}

func newQueued(q dserver.Queued) queued {
	o := queued{
		Lane: lane(q.Priority), Message: jsonName(q.Message.Name), Call: q.Call, Sent: q.Sent,
		Headers: jsonHeaders(q.Headers), Bytes: len(q.Message.Body),
	}
	if !q.Stamp.IsZero() {
		o.Stamp = q.Stamp.String()
	}
	o.Body, o.Raw = readable(q.Message.Body)
	return o
}

func oneLine(body any, raw []byte) string {
	if raw != nil {
		return shorten(fmt.Sprintf("%x", raw), bodyRunes)
	}
	return shorten(compact(body), bodyRunes)
}

// queueCommand lists what waits.
type queueCommand struct {
	shown
	limit
}

// Run prints a row per message.
func (c *queueCommand) Run(ctx context.Context, t *tool) error {
	list := t.out.list("STAMP", "LANE", "MESSAGE", "KIND", "SENT", "BYTES", "BODY")
	for found, err := range c.Server.At(t.db).Queue(ctx) {
		if err != nil {
			return err
		}
		if c.isReached(list) {
			return errors.Join(list.flush(""), t.out.more(list.rows))
		}
		q := newQueued(found)
		if err := list.add(q, q.Stamp, q.Lane, name(found.Message.Name), kind(q.Call), moment(q.Sent), q.Bytes, oneLine(q.Body, q.Raw)); err != nil {
			return err
		}
	}
	return list.flush(fmt.Sprintf("nothing waits for %v", c.Server))
}

// limit is how many rows a list has at most.
type limit struct {
	Limit int `default:"-1" help:"How many messages at most; 0 is all. Without it 100, and all with --json."`
}

// rowsForPeople is how many rows a list has that says no limit.
const rowsForPeople = 100

func (l limit) isReached(list *list) bool {
	if l.Limit < 0 {
		return !list.json && list.rows == rowsForPeople
	}
	return l.Limit > 0 && list.rows == l.Limit
}

// more tells that a list was cut: programs, whose output has objects alone, on standard error.
func (p printer) more(rows int) error {
	w := p.w
	if p.json {
		w = p.errs
	}
	_, err := fmt.Fprintf(w, "… the first %d; --limit 0 shows all\n", rows)
	return err
}

// name is a message's, for people.
func name(message string) string {
	if message == "" {
		return "(damaged)"
	}
	return quoted(message)
}

func lane(priority bool) string {
	if priority {
		return "priority"
	}
	return "normal"
}

func kind(call bool) string {
	if call {
		return "call"
	}
	return "cast"
}

// messageCommand prints one message, wherever it is.
type messageCommand struct {
	message
	CBOR bool `name:"cbor" help:"Print the body in CBOR diagnostic notation (RFC 8949), which says what JSON cannot, too."`
}

// Run prints it.
func (c *messageCommand) Run(ctx context.Context, t *tool) error {
	return t.showMessage(ctx, c.message, c.CBOR)
}

// showMessage prints all that is known of a message; with its body in notation if that is asked for.
func (t *tool) showMessage(ctx context.Context, c message, asCBOR bool) error {
	waits, err := c.Server.At(t.db).Queued(ctx, c.Stamp.Versionstamp)
	if err == nil {
		q := newQueued(waits)
		fields := []field{
			{"stamp", q.Stamp}, {"status", "waits, " + q.Lane + " lane"}, {"message", name(waits.Message.Name)},
			{"kind", kind(q.Call)}, {"sent", moment(q.Sent)},
		}
		fields = append(fields, headerFields(waits.Headers)...)
		shown := body(q.Body, q.Raw)
		if asCBOR {
			shown, q.Notation, q.Body = notationField(waits.Message.Body)
		}
		return t.out.fields(q, append(fields, field{"bytes", q.Bytes}, shown)...)
	}
	if !errors.Is(err, dserver.ErrNotFound) {
		return err
	}
	dead, err := c.Server.At(t.db).DeadLetter(ctx, c.Stamp.Versionstamp)
	if errors.Is(err, dserver.ErrNotFound) {
		return t.noMessage(c)
	}
	if err != nil {
		return err
	}
	return t.showLetter(dead, asCBOR)
}

// notationField is a body in notation, for people and for JSON. One that has none is told in JSON's own way.
func notationField(b []byte) (shown field, text string, value any) {
	text, err := notation(b)
	if err != nil {
		v, raw := readable(b)
		return body(v, raw), "", v
	}
	return field{"body", block("\n" + text)}, text, nil
}

func body(v any, raw []byte) field {
	if raw != nil {
		return field{"raw", fmt.Sprintf("%x", raw)}
	}
	return field{"body", block("\n" + indented(v))}
}

// noMessage is the error when there is none of a stamp.
func (t *tool) noMessage(m message) error {
	return fmt.Errorf("%v has no message %v: it was handled or deleted; %s queue %v (or dead) lists what there is",
		m.Server, m.Stamp, t.self(), m.Server)
}

// waiting is messages on the queues of a server, or of many servers.
type waiting struct{ several }

// each does something to each chosen message that waits, each in a transaction of its own. What somebody else takes meanwhile is
// not counted.
func (w *waiting) each(ctx context.Context, t *tool, verb string, do func(at server, q dserver.Queued) error) error {
	p := t.progress()
	err := w.eachServer(ctx, t, func(at server) error {
		for q, err := range at.At(t.db).Queue(ctx) {
			if err != nil {
				return p.failed(at, err)
			}
			if w.Message != "" && string(w.Message) != q.Message.Name {
				continue
			}
			if w.DryRun {
				err = t.would(verb, at, q.Stamp, q.Message.Name)
			} else {
				err = do(at, q)
			}
			switch {
			case err == nil:
				p.step(at)
			case !errors.Is(err, dserver.ErrNotFound):
				return p.failed(at, fmt.Errorf("%v: %w", q.Stamp, err))
			}
		}
		return nil
	})
	switch {
	case err != nil || p.done > 0:
		return err
	case w.Server != (server{}):
		return fmt.Errorf("nothing that waits for %v is so; %s queue %v lists what does", w.Server, t.self(), w.Server)
	}
	return fmt.Errorf("nothing that waits for %v is so; %s ls --active --is queued lists for whom something does", w.where(), t.self())
}

// eachServer calls fn with the servers that are chosen and for which something waits.
func (w *waiting) eachServer(ctx context.Context, t *tool, fn func(at server) error) error {
	if w.Server != (server{}) {
		return fn(w.Server)
	}
	for found, err := range dserver.Active(ctx, t.db, typesOf(string(w.Type))...) {
		if err == nil && found.Status.Queued > 0 {
			err = fn(server{found.Ref})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteCommand removes a message that waits, on the queue or for its time, or those of queues that are chosen.
type deleteCommand struct {
	waiting
	ID string `arg:"" optional:"" name:"message" help:"The message's stamp, as queue shows it, or its id, as later does."`
	sure
}

// Validate is called by the command line's parser.
func (c *deleteCommand) Validate() error { return c.check(c.ID != "", false, "--message or --all") }

// Run removes it and says so. Several are asked about.
func (c *deleteCommand) Run(ctx context.Context, t *tool) error {
	if c.ID == "" {
		if !c.DryRun {
			if err := c.confirmed(t, "take all messages that are chosen off the queue of %v, and tell their callers", c.where()); err != nil {
				return err
			}
		}
		return c.each(ctx, t, "delete", func(at server, q dserver.Queued) error { return t.delete(ctx, at, q) })
	}
	var s stamp
	if s.UnmarshalText([]byte(c.ID)) != nil {
		return c.deleteLater(ctx, t)
	}
	q, err := c.Server.At(t.db).Queued(ctx, s.Versionstamp)
	switch {
	case err == nil && c.DryRun:
		return t.would("delete", c.Server, q.Stamp, q.Message.Name)
	case err == nil:
		err = t.delete(ctx, c.Server, q)
	}
	if errors.Is(err, dserver.ErrNotFound) {
		return t.noMessage(message{shown{c.Server}, s})
	}
	return err
}

// delete takes one message off its queue.
func (t *tool) delete(ctx context.Context, at server, q dserver.Queued) error {
	if err := at.At(t.db).Withdraw(ctx, q.Stamp); err != nil {
		return err
	}
	return t.out.line(map[string]string{"deleted": q.Stamp.String()}, "deleted %v from the queue of %v", q.Stamp, at)
}

func (c *deleteCommand) deleteLater(ctx context.Context, t *tool) error {
	if c.DryRun {
		return t.out.line(map[string]string{"would": "delete", "id": c.ID}, "would delete %v, which is delayed, of %v", c.ID, c.Server)
	}
	err := c.Server.At(t.db).WithdrawDelayed(ctx, c.ID)
	if errors.Is(err, dserver.ErrNotFound) {
		return fmt.Errorf("%v has no message %v: %s queue %v (or later, or dead) lists what there is", c.Server, quoted(c.ID), t.self(), c.Server)
	}
	if err != nil {
		return err
	}
	return t.out.line(map[string]string{"deleted": c.ID}, "deleted %v, which was delayed, of %v", c.ID, c.Server)
}

// delayed is what waits for its time, as JSON has it.
type delayed struct {
	ID       string    `json:"id"`
	Due      time.Time `json:"due,omitzero"`
	Lane     string    `json:"lane"`
	Call     bool      `json:"call"`
	Sent     time.Time `json:"sent,omitzero"`
	Messages []queued  `json:"messages"`
}

// laterCommand lists what waits for its time.
type laterCommand struct {
	shown
	limit
}

// Run prints a row per send.
func (c *laterCommand) Run(ctx context.Context, t *tool) error {
	list := t.out.list("ID", "DUE", "LANE", "MESSAGE", "KIND", "MESSAGES")
	for found, err := range c.Server.At(t.db).Delayed(ctx) {
		if err != nil {
			return err
		}
		if c.isReached(list) {
			return errors.Join(list.flush(""), t.out.more(list.rows))
		}
		d, first := newDelayed(found), "(damaged)"
		if len(found.Messages) > 0 {
			first = name(found.Messages[0].Name)
		}
		if err := list.add(d, d.ID, moment(d.Due), d.Lane, first, kind(d.Call), len(d.Messages)); err != nil {
			return err
		}
	}
	return list.flush(fmt.Sprintf("nothing of %v is delayed", c.Server))
}

func newDelayed(found dserver.Delayed) delayed {
	d := delayed{ID: jsonName(found.ID), Due: found.Due, Lane: lane(found.Priority), Call: found.Call, Sent: found.Sent, Messages: []queued{}}
	for _, m := range found.Messages {
		d.Messages = append(d.Messages, newQueued(dserver.Queued{Message: m, Priority: found.Priority, Sent: found.Sent, Headers: found.Headers}))
	}
	return d
}

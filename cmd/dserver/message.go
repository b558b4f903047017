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
	Stamp   string    `json:"stamp"`
	Lane    string    `json:"lane"`
	Message string    `json:"message"`       // empty when it is damaged
	Call    bool      `json:"call"`          // somebody waits for its answer
	Sent    time.Time `json:"sent,omitzero"` // by the sender's clock
	Bytes   int       `json:"bytes"`
	Body    any       `json:"body,omitempty"`
	Raw     []byte    `json:"raw,omitempty"` // instead of Body when it is no CBOR
}

func newQueued(q dserver.Queued) queued {
	o := queued{
		Stamp: q.Stamp.String(), Lane: "normal", Message: q.Message.Name, Call: q.Call, Sent: q.Sent,
		Bytes: len(q.Message.Body),
	}
	if q.Priority {
		o.Lane = "priority"
	}
	o.Body, o.Raw = readable(q.Message.Body)
	return o
}

// readable is a body as JSON can say it, or its bytes.
func readable(body []byte) (v any, raw []byte) {
	v, err := decodeBody(body)
	if err != nil {
		return nil, body
	}
	return v, nil
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
	Limit int `default:"100" help:"How many messages at most; 0 is all."`
}

// Run prints a row per message.
func (c *queueCommand) Run(ctx context.Context, t *tool) error {
	list := t.out.list("STAMP", "LANE", "MESSAGE", "KIND", "SENT", "BYTES", "BODY")
	for found, err := range c.Server.At(t.db).Queue(ctx) {
		if err != nil {
			return err
		}
		if c.Limit > 0 && list.rows == c.Limit {
			return errors.Join(list.flush(""), t.out.more(list.rows))
		}
		q := newQueued(found)
		if err := list.add(q, q.Stamp, q.Lane, name(q.Message), kind(q.Call), moment(q.Sent), q.Bytes, oneLine(q.Body, q.Raw)); err != nil {
			return err
		}
	}
	return list.flush(fmt.Sprintf("nothing waits for %v", c.Server))
}

// more tells people that a list was cut.
func (p printer) more(rows int) error {
	if p.json {
		return nil
	}
	_, err := fmt.Fprintf(p.w, "… the first %d; --limit 0 shows all\n", rows)
	return err
}

// name is a message's, for people.
func name(message string) string {
	if message == "" {
		return "(damaged)"
	}
	return message
}

func kind(call bool) string {
	if call {
		return "call"
	}
	return "cast"
}

// showCommand prints one message, wherever it is.
type showCommand struct{ message }

// Run prints all that is known of it.
func (c *showCommand) Run(ctx context.Context, t *tool) error {
	waits, err := c.Server.At(t.db).Queued(ctx, c.Stamp.Versionstamp)
	if err == nil {
		q := newQueued(waits)
		return t.out.fields(q, field{"stamp", q.Stamp}, field{"status", "waits, " + q.Lane + " lane"}, field{"message", name(q.Message)},
			field{"kind", kind(q.Call)}, field{"sent", moment(q.Sent)}, field{"bytes", q.Bytes}, body(q.Body, q.Raw))
	}
	if !errors.Is(err, dserver.ErrNotFound) {
		return err
	}
	dead, err := c.Server.At(t.db).DeadLetter(ctx, c.Stamp.Versionstamp)
	if errors.Is(err, dserver.ErrNotFound) {
		return t.noMessage(c.message)
	}
	if err != nil {
		return err
	}
	return t.showLetter(newLetter(dead))
}

func body(v any, raw []byte) field {
	if raw != nil {
		return field{"raw", fmt.Sprintf("%x", raw)}
	}
	return field{"body", "\n" + indented(v)}
}

// noMessage is the error when there is none of a stamp.
func (t *tool) noMessage(m message) error {
	return fmt.Errorf("%v has no message %v: it was handled or deleted; %s queue %v (or dead) lists what there is",
		m.Server, m.Stamp, t.self(), m.Server)
}

// deleteCommand removes a message that waits.
type deleteCommand struct{ message }

// Run removes it and says so.
func (c *deleteCommand) Run(ctx context.Context, t *tool) error {
	err := c.Server.At(t.db).Withdraw(ctx, c.Stamp.Versionstamp)
	if errors.Is(err, dserver.ErrNotFound) {
		return t.noMessage(c.message)
	}
	if err != nil {
		return err
	}
	return t.out.line(map[string]string{"deleted": c.Stamp.String()}, "deleted %v from the queue of %v", c.Stamp, c.Server)
}

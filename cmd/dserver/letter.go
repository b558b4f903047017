package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// letter is a message that was set aside, as JSON has it.
type letter struct {
	Stamp    string    `json:"stamp"`
	Message  string    `json:"message"`
	Attempts int       `json:"attempts"`
	Since    time.Time `json:"since"`
	Code     string    `json:"code,omitempty"`
	Error    string    `json:"error"`
	Stack    string    `json:"stack,omitempty"`
	Bytes    int       `json:"bytes"`
	Body     any       `json:"body,omitempty"`
	Raw      []byte    `json:"raw,omitempty"` // instead of Body when it is no CBOR
}

func newLetter(d dserver.DeadLetter) letter {
	o := letter{
		Stamp: d.Stamp.String(), Message: d.Message.Name, Attempts: d.Attempts, Since: d.Since.UTC(),
		Code: d.Err.Code, Error: d.Err.Text, Stack: d.Stack, Bytes: len(d.Message.Body),
	}
	o.Body, o.Raw = readable(d.Message.Body)
	return o
}

// deadCommand lists what was set aside.
type deadCommand struct {
	shown
	Limit int `default:"100" help:"How many messages at most; 0 is all."`
}

// Run prints a row per message.
func (c *deadCommand) Run(ctx context.Context, t *tool) error {
	list := t.out.list("STAMP", "MESSAGE", "ATTEMPTS", "SINCE", "BODY", "ERROR")
	for found, err := range c.Server.At(t.db).DeadLetters(ctx) {
		if err != nil {
			return err
		}
		if c.Limit > 0 && list.rows == c.Limit {
			return errors.Join(list.flush(""), t.out.more(list.rows))
		}
		d := newLetter(found)
		err := list.add(d, d.Stamp, name(d.Message), d.Attempts, moment(d.Since), oneLine(d.Body, d.Raw), shorten(firstLine(d.Error), errorRunes))
		if err != nil {
			return err
		}
	}
	return list.flush(fmt.Sprintf("nothing of %v was set aside", c.Server))
}

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// showLetter prints all that is known of one.
func (t *tool) showLetter(d letter) error {
	fields := []field{
		{"stamp", d.Stamp}, {"status", "set aside"}, {"message", name(d.Message)}, {"attempts", d.Attempts},
		{"since", moment(d.Since)}, {"error", d.Error},
	}
	if d.Code != "" {
		fields = append(fields, field{"code", d.Code})
	}
	fields = append(fields, field{"bytes", d.Bytes}, body(d.Body, d.Raw))
	if d.Stack != "" {
		fields = append(fields, field{"stack", "\n" + d.Stack})
	}
	return t.out.fields(d, fields...)
}

// dead finds a message that was set aside.
func (t *tool) dead(ctx context.Context, m message) (dserver.DeadLetter, error) {
	d, err := m.Server.At(t.db).DeadLetter(ctx, m.Stamp.Versionstamp)
	return d, t.noDead(err, m)
}

// noDead says what to do when it is gone.
func (t *tool) noDead(err error, m message) error {
	if errors.Is(err, dserver.ErrNotFound) {
		return fmt.Errorf("no message %v of %v was set aside; %s dead %v lists those that were", m.Stamp, m.Server, t.self(), m.Server)
	}
	return err
}

// retryCommand sends a message that was set aside again.
type retryCommand struct{ message }

// Run sends it as it is.
func (c *retryCommand) Run(ctx context.Context, t *tool) error {
	d, err := t.dead(ctx, c.message)
	if err != nil {
		return err
	}
	return t.retry(ctx, c.message, d)
}

func (t *tool) retry(ctx context.Context, m message, d dserver.DeadLetter) error {
	if err := t.noDead(m.Server.At(t.db).Retry(ctx, d), m); err != nil {
		return err
	}
	return t.out.line(map[string]string{"retried": m.Stamp.String()}, "%v is at the end of the queue of %v again", m.Stamp, m.Server)
}

// editCommand changes a message that was set aside, and sends it again.
type editCommand struct {
	message
	Name string `help:"Another name for the message." placeholder:"NAME"`
	Body string `arg:"" help:"The new body, as show prints it; - reads it from standard input."`
}

// Run sends it. What was bytes or a time in the old body is so in the new one.
func (c *editCommand) Run(ctx context.Context, t *tool) error {
	d, err := t.dead(ctx, c.message)
	if err != nil {
		return err
	}
	text := []byte(c.Body)
	if c.Body == "-" {
		if text, err = io.ReadAll(os.Stdin); err != nil {
			return err
		}
	}
	if d.Message.Body, err = encodeBody(text, d.Message.Body); err != nil {
		return fmt.Errorf("the body: %w; nothing was sent", err)
	}
	if c.Name != "" {
		d.Message.Name = c.Name
	}
	if d.Message.Name == "" {
		return errors.New("the message is damaged and has no name: give it one with --name; nothing was sent")
	}
	return t.retry(ctx, c.message, d)
}

// discardCommand removes a message that was set aside.
type discardCommand struct{ message }

// Run removes it and says so.
func (c *discardCommand) Run(ctx context.Context, t *tool) error {
	d, err := t.dead(ctx, c.message)
	if err != nil {
		return err
	}
	if err := t.noDead(c.Server.At(t.db).Discard(ctx, d), c.message); err != nil {
		return err
	}
	return t.out.line(map[string]string{"discarded": c.Stamp.String()}, "discarded %v of %v", c.Stamp, c.Server)
}

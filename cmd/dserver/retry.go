package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// chosen is one message that was set aside, or those of a server that a filter takes.
type chosen struct {
	shown
	Stamp stamp `arg:"" optional:"" help:"The message's stamp, as dead shows it."`
	filter
	All      bool `help:"All that were set aside."`
	Priority bool `help:"Ahead of the queue, not at its end."`
}

// Validate is called by the command line's parser.
func (c *chosen) Validate() error {
	one, several := !c.Stamp.IsZero(), c.All || c.filter != filter{}
	if one == several {
		return errors.New("give the stamp of one message, or choose several with --code, --message or --all")
	}
	return nil
}

// retryCommand sends what was set aside again.
type retryCommand struct{ chosen }

// Run sends it as it is.
func (c *retryCommand) Run(ctx context.Context, t *tool) error {
	return c.send(ctx, t, func(*dserver.DeadLetter) error { return nil })
}

// editCommand changes what was set aside, and sends it again.
type editCommand struct {
	chosen
	Name text   `help:"Another name for the message." placeholder:"NAME"`
	Body string `help:"The new body, as show prints it; - reads it from standard input." placeholder:"JSON"`
}

// Validate is called by the command line's parser.
func (c *editCommand) Validate() error {
	if c.Name == "" && c.Body == "" {
		return errors.New("nothing is to be changed: give --body, --name or both, or use retry")
	}
	return c.chosen.Validate()
}

// Run sends it. What was bytes or a time in the old body is so in the new one.
func (c *editCommand) Run(ctx context.Context, t *tool) (err error) {
	text := []byte(c.Body)
	if c.Body == "-" {
		if text, err = io.ReadAll(os.Stdin); err != nil {
			return err
		}
	}
	return c.send(ctx, t, func(d *dserver.DeadLetter) error { return c.change(d, text) })
}

func (c *editCommand) change(d *dserver.DeadLetter, text []byte) (err error) {
	if c.Body != "" {
		if d.Message.Body, err = encodeBody(text, d.Message.Body); err != nil {
			return fmt.Errorf("the body: %w; nothing was sent", err)
		}
	}
	if c.Name != "" {
		d.Message.Name = string(c.Name)
	}
	if d.Message.Name == "" {
		return errors.New("the message is damaged and has no name: give it one with --name; nothing was sent")
	}
	return nil
}

// send sends each chosen message again after change, each in a transaction of its own.
func (c *chosen) send(ctx context.Context, t *tool, change func(d *dserver.DeadLetter) error) error {
	if !c.Stamp.IsZero() {
		m := message{c.shown, c.Stamp}
		return t.noDead(c.sendOne(ctx, t, c.Stamp.Versionstamp, change), m)
	}
	stamps, err := c.stamps(ctx, t)
	if err != nil {
		return err
	}
	sent := 0
	for _, s := range stamps {
		err := c.sendOne(ctx, t, s, change)
		if errors.Is(err, dserver.ErrNotFound) { // somebody else has taken it meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("%v: %w; before it were sent: %d", s, err, sent)
		}
		sent++
	}
	if sent == 0 {
		return fmt.Errorf("nothing of %v that was set aside is so; %s dead %v lists what was", c.Server, t.self(), c.Server)
	}
	return nil
}

// stamps finds the chosen messages before any is sent: one that is set aside anew is not sent again.
func (c *chosen) stamps(ctx context.Context, t *tool) (stamps []backend.Versionstamp, err error) {
	for d, err := range c.Server.At(t.db).DeadLetters(ctx) {
		if err != nil {
			return nil, err
		}
		if c.takes(d) {
			stamps = append(stamps, d.Stamp)
		}
	}
	return stamps, nil
}

func (c *chosen) sendOne(ctx context.Context, t *tool, s backend.Versionstamp, change func(d *dserver.DeadLetter) error) error {
	srv := c.Server.At(t.db)
	d, err := srv.DeadLetter(ctx, s)
	if err != nil {
		return err
	}
	if err := change(&d); err != nil {
		return err
	}
	where, options := "at the end of", []dserver.Option(nil)
	if c.Priority {
		where, options = "ahead of", []dserver.Option{dserver.Priority()}
	}
	now, err := srv.Requeue(ctx, d, options...)
	if err != nil {
		return err
	}
	return t.out.line(map[string]string{"retried": s.String(), "stamp": now.String()}, "%v is %s the queue of %v again, as %v", s, where, c.Server, now)
}

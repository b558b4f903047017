package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// chosen is one message that was set aside, or those of a server that a filter takes.
type chosen struct {
	shown
	Stamp stamp `arg:"" optional:"" help:"The message's stamp, as dead shows it."`
	filter
	All    bool `help:"All that were set aside."`
	DryRun bool `help:"Say what would be done, and do nothing."`
}

// Validate is called by the command line's parser.
func (c *chosen) Validate() error {
	one, several := !c.Stamp.IsZero(), c.All || c.filter != filter{}
	if one == several {
		return errors.New("give the stamp of one message, or choose several with --code, --message or --all")
	}
	return nil
}

// each does something to each chosen message, each in a transaction of its own.
func (c *chosen) each(ctx context.Context, t *tool, verb string, do func(d *dserver.DeadLetter) error) error {
	if !c.Stamp.IsZero() {
		return t.noDead(c.one(ctx, t, verb, c.Stamp.Versionstamp, do), message{c.shown, c.Stamp})
	}
	stamps, err := c.stamps(ctx, t)
	if err != nil {
		return err
	}
	done := 0
	for _, s := range stamps {
		err := c.one(ctx, t, verb, s, do)
		if errors.Is(err, dserver.ErrNotFound) { // somebody else has taken it meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("%v: %w; before it were done: %d", s, err, done)
		}
		done++
	}
	if done == 0 {
		return fmt.Errorf("nothing of %v that was set aside is so; %s dead %v lists what was", c.Server, t.self(), c.Server)
	}
	return nil
}

// one does it to one message, or says that it would.
func (c *chosen) one(ctx context.Context, t *tool, verb string, s backend.Versionstamp, do func(d *dserver.DeadLetter) error) error {
	d, err := c.Server.At(t.db).DeadLetter(ctx, s)
	if err != nil {
		return err
	}
	if c.DryRun {
		return t.would(verb, c.Server, s, d.Message.Name)
	}
	return do(&d)
}

// would says what is not done.
func (t *tool) would(verb string, at server, s backend.Versionstamp, message string) error {
	return t.out.line(map[string]any{"would": verb, "stamp": s.String(), "message": jsonName(message)}, "would %s %v of %v, %s", verb, s, at, name(message))
}

// stamps finds the chosen messages before anything is done: one that is set aside anew is not taken again.
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

// retryCommand sends what was set aside again.
type retryCommand struct {
	chosen
	Priority bool `help:"Ahead of the queue, not at its end."`
}

// Run sends it as it is.
func (c *retryCommand) Run(ctx context.Context, t *tool) error {
	return c.each(ctx, t, "retry", func(d *dserver.DeadLetter) error { return t.retry(ctx, c.Server, *d, c.Priority) })
}

// retry sends one message again.
func (t *tool) retry(ctx context.Context, at server, d dserver.DeadLetter, priority bool) error {
	where, options := "at the end of", []dserver.Option(nil)
	if priority {
		where, options = "ahead of", []dserver.Option{dserver.Priority()}
	}
	now, err := at.At(t.db).Requeue(ctx, d, options...)
	if err != nil {
		return err
	}
	return t.out.line(map[string]string{"retried": d.Stamp.String(), "stamp": now.String()}, "%v is %s the queue of %v again, as %v", d.Stamp, where, at, now)
}

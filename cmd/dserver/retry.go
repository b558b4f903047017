package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dserver-go/dserver/backend"
	"github.com/dserver-go/dserver/dserver"
)

// several is messages of a server, or of many servers, and what is done to them.
type several struct {
	Server     server `arg:"" optional:"" help:"The server: type/id, or quoted as ls shows it."`
	Message    text   `help:"Only those of this name." placeholder:"NAME"`
	All        bool   `help:"All that there are."`
	Everywhere bool   `help:"Of all servers."`
	Type       text   `help:"Of all servers of this type." placeholder:"TYPE"`
	DryRun     bool   `help:"Say what would be done, and do nothing."`
}

// check says what is missing of which messages are meant. isOne: one was named; filters: several were chosen, by what is said in
// how.
func (s *several) check(isOne, filters bool, how string) error {
	if isOne == (filters || s.All || s.Message != "") {
		return fmt.Errorf("give the stamp of one <message>, or choose several with %s", how)
	}
	if (s.Server == server{}) != (s.Everywhere || s.Type != "") {
		return errors.New("name a <server>, or ask for those of all with --type or --everywhere")
	}
	return nil
}

// where is whose messages they are, for people.
func (s *several) where() any {
	switch {
	case s.Type != "":
		return "all servers of type " + quoted(string(s.Type))
	case s.Everywhere:
		return "all servers"
	}
	return s.Server
}

// chosen is one message that was set aside, or those of a server, or of all servers, that a filter takes.
type chosen struct {
	several
	Stamp stamp `arg:"" optional:"" help:"The message's stamp, as dead shows it."`
	Code  text  `help:"Only those whose error has this code." placeholder:"CODE"`
}

// Validate is called by the command line's parser.
func (c *chosen) Validate() error {
	return c.check(!c.Stamp.IsZero(), c.Code != "", "--code, --message or --all")
}

func (c *chosen) takes(d dserver.DeadLetter) bool { return filter{c.Code, c.several.Message}.takes(d) }

// each does something to each chosen message, each in a transaction of its own.
func (c *chosen) each(ctx context.Context, t *tool, verb string, do func(at server, d *dserver.DeadLetter) error) error {
	if !c.Stamp.IsZero() {
		return t.noDead(c.one(ctx, t, verb, c.Server, c.Stamp.Versionstamp, do), message{shown{c.Server}, c.Stamp})
	}
	p := t.progress()
	err := c.eachServer(ctx, t, func(at server) error {
		return p.failed(at, c.ofServer(ctx, t, verb, at, p, do))
	})
	if err == nil && p.done == 0 {
		return fmt.Errorf("nothing of %v that was set aside is so; %s dead --all lists what was", c.where(), t.self())
	}
	return err
}

// eachServer calls fn with the servers that are chosen and have something.
func (c *chosen) eachServer(ctx context.Context, t *tool, fn func(at server) error) error {
	if c.Server != (server{}) {
		return fn(c.Server)
	}
	return t.eachWithLetters(ctx, string(c.Type), func(ref dserver.Ref) error { return fn(server{ref}) })
}

// ofServer does it to the chosen messages of one server.
func (c *chosen) ofServer(ctx context.Context, t *tool, verb string, at server, p *progress, do func(at server, d *dserver.DeadLetter) error) error {
	stamps, err := c.stamps(ctx, t, at)
	if err != nil {
		return err
	}
	for _, s := range stamps {
		err := c.one(ctx, t, verb, at, s, do)
		if errors.Is(err, dserver.ErrNotFound) { // somebody else has taken it meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
		p.step(at)
	}
	return nil
}

// one does it to one message, or says that it would.
func (c *chosen) one(
	ctx context.Context, t *tool, verb string, at server, s backend.Versionstamp, do func(at server, d *dserver.DeadLetter) error,
) error {
	d, err := at.At(t.db).DeadLetter(ctx, s)
	if err != nil {
		return err
	}
	if c.DryRun {
		return t.would(verb, at, s, d.Message.Name)
	}
	return do(at, &d)
}

// would says what is not done.
func (t *tool) would(verb string, at server, s backend.Versionstamp, message string) error {
	return t.out.line(map[string]any{"would": verb, "stamp": s.String(), "message": jsonName(message)}, "would %s %v of %v, %s", verb, s, at, name(message))
}

// stamps finds the chosen messages before anything is done: one that is set aside anew is not taken again.
func (c *chosen) stamps(ctx context.Context, t *tool, at server) (stamps []backend.Versionstamp, err error) {
	for d, err := range at.At(t.db).DeadLetters(ctx) {
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
	return c.each(ctx, t, "retry", func(at server, d *dserver.DeadLetter) error { return t.retry(ctx, at, *d, c.Priority) })
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
	"github.com/dserver-go/dserver/statediff"
)

// stateCommand prints a state, or changes it.
type stateCommand struct {
	Show stateShowCommand `cmd:"" default:"withargs" help:"Print a server's state, or a place in it."`
	Set  stateSetCommand  `cmd:"" help:"Change one place in a server's state, if nobody has changed the state meanwhile."`
}

// stateShowCommand prints a server's state.
type stateShowCommand struct {
	shown
	Path   display.Place `arg:"" optional:"" help:"A place in it: Lines/0/Amount; names with a slash in quotes, as Go strings."`
	Follow bool          `help:"Print it again after each change, until interrupted."`
}

// Run prints it, the fields in the order of their names.
func (c *stateShowCommand) Run(ctx context.Context, t *tool) error {
	if c.Follow {
		return t.followState(ctx, c.Server.At(t.db), c.Path)
	}
	state, err := c.Server.At(t.db).State(ctx)
	if errors.Is(err, dserver.ErrNotFound) {
		return t.noState(ctx, c.Server)
	}
	if err == nil {
		state, err = c.Path.In(state)
	}
	if err != nil {
		return err
	}
	return t.out.line(plain(state), "%s", block(indented(plain(state))))
}

func (t *tool) noState(ctx context.Context, at server) error {
	return fmt.Errorf("%v has no state: it has handled no message, or was reset; %s ls lists the servers%s", at, t.self(), t.near(ctx, at.Ref))
}

// stateSetCommand changes a place in a state.
type stateSetCommand struct {
	shown
	Path   display.Place `arg:"" help:"The place, as of state: Lines/0/Amount."`
	Value  string        `arg:"" optional:"" help:"The value, as JSON; - reads it from standard input. What was bytes or a time is so again."`
	Create bool          `help:"There is nothing there yet, as what is zero is not stored. A name that the program does not know is kept, and not read."`
	Remove bool          `help:"Remove what is there: a field becomes zero, a map loses the entry."`
	Seen   stamp         `help:"Only if the state still has this version, which an earlier state set has printed." placeholder:"VERSION"`
	DryRun bool          `help:"Say what would be changed, and change nothing."`
}

// Validate is called by the command line's parser.
func (c *stateSetCommand) Validate() error {
	if c.Remove == (c.Value != "") || c.Remove && c.Create {
		return errors.New("give the value, or --remove")
	}
	return nil
}

// Run does it, over the version from which it has read what was there.
func (c *stateSetCommand) Run(ctx context.Context, t *tool) error {
	srv := c.Server.At(t.db)
	state, version, err := srv.Versioned(ctx)
	if err != nil {
		return err
	}
	if version.IsZero() {
		return t.noState(ctx, c.Server)
	}
	if !c.Seen.IsZero() {
		version = c.Seen.Versionstamp
	}
	change := statediff.Change{Path: c.Path, Create: c.Create, Remove: c.Remove}
	was, err := c.Path.In(state)
	if err != nil && !c.Create {
		return err
	}
	if !c.Remove {
		if change.Value, err = c.value(was); err != nil {
			return fmt.Errorf("the value: %w; nothing was changed", err)
		}
	}
	if !c.DryRun {
		if version, err = srv.ChangeState(ctx, version, change); err != nil {
			return c.explained(err)
		}
	}
	done := map[string]any{"server": jsonName(c.Server.Ref.String()), "path": jsonText(c.Path.String()), "before": plain(was), "after": plain(change.Value), "dry_run": c.DryRun}
	if c.DryRun {
		return t.out.line(done, "%s of %v would become %s; it is %s", c.Path.String(), c.Server, block(compact(plain(change.Value))), block(compact(plain(was))))
	}
	done["version"] = version.String()
	return t.out.line(done, "%s of %v was %s and is %s; the state is of version %v", c.Path.String(), c.Server, block(compact(plain(was))), block(compact(plain(change.Value))), version)
}

func (c *stateSetCommand) explained(err error) error {
	switch {
	case errors.Is(err, dserver.ErrChanged):
		return fmt.Errorf("%w; nothing was changed: look at it again, or pause the server first", err)
	case errors.Is(err, statediff.ErrNoPath):
		return fmt.Errorf("%w; with --create it is made", err)
	}
	return err
}

// value is what is to be there, like what was.
func (c *stateSetCommand) value(was any) (any, error) {
	text := []byte(c.Value)
	if c.Value == "-" {
		var err error
		if text, err = io.ReadAll(os.Stdin); err != nil {
			return nil, err
		}
	}
	return display.StateValue(text, was)
}

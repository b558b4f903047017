package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dserver-go/dserver/dserver"
)

// letter is a message that was set aside, as JSON has it.
type letter struct {
	Server   string            `json:"server,omitempty"` // in a list of several servers
	Stamp    string            `json:"stamp"`
	Message  string            `json:"message"`
	Attempts int               `json:"attempts"`
	Since    time.Time         `json:"since"`
	Code     string            `json:"code,omitempty"`
	Error    string            `json:"error"`
	Stack    string            `json:"stack,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`
	Bytes    int               `json:"bytes"`
	Body     any               `json:"body,omitempty"`
	Raw      []byte            `json:"raw,omitempty"` // instead of Body when it is no CBOR

	Notation string `json:"cbor,omitempty"` // instead of Body, when it was asked for
}

func newLetter(d dserver.DeadLetter) letter {
	o := letter{
		Stamp: d.Stamp.String(), Message: jsonName(d.Message.Name), Headers: jsonHeaders(d.Headers), Attempts: d.Attempts, Since: d.Since.UTC(),
		Code: jsonName(d.Err.Code), Error: jsonText(d.Err.Text), Stack: jsonText(d.Stack), Bytes: len(d.Message.Body),
	}
	o.Body, o.Raw = readable(d.Message.Body)
	return o
}

// filter chooses among messages that were set aside. What is not given chooses all.
type filter struct {
	Code    text `help:"Only those whose error has this code." placeholder:"CODE"`
	Message text `help:"Only those of this name." placeholder:"NAME"`
}

func (f filter) takes(d dserver.DeadLetter) bool {
	return (f.Code == "" || string(f.Code) == d.Err.Code) && (f.Message == "" || string(f.Message) == d.Message.Name)
}

// deadCommand lists what was set aside.
type deadCommand struct {
	Server server `arg:"" optional:"" help:"The server: type/id."`
	All    bool   `help:"List those of all servers."`
	filter
	limit
}

// Validate is called by the command line's parser.
func (c *deadCommand) Validate() error {
	if c.All == (c.Server != server{}) {
		return errors.New("name a server, type/id, or ask for --all")
	}
	return nil
}

// errLimit ends a list that has as many rows as it may have.
var errLimit = errors.New("enough rows")

// Run prints a row per message.
func (c *deadCommand) Run(ctx context.Context, t *tool) error {
	columns := []string{"STAMP", "MESSAGE", "ATTEMPTS", "SINCE", "BODY", "ERROR"}
	if c.All {
		columns = append([]string{"SERVER"}, columns...)
	}
	list := t.out.list(columns...)
	var err error
	if c.All {
		err = t.eachWithLetters(ctx, "", func(ref dserver.Ref) error { return c.add(ctx, t, list, ref) })
	} else {
		err = c.add(ctx, t, list, c.Server.Ref)
	}
	switch {
	case errors.Is(err, errLimit):
		return errors.Join(list.flush(""), t.out.more(list.rows))
	case err != nil:
		return err
	case c.All:
		return list.flush("nothing was set aside")
	}
	return list.flush(fmt.Sprintf("nothing of %v was set aside", c.Server))
}

// eachWithLetters calls fn with the servers of a type, or of all types, that have dead letters. They are in an index, so that the
// others, whatever their number, are not looked at.
func (t *tool) eachWithLetters(ctx context.Context, typ string, fn func(dserver.Ref) error) error {
	for found, err := range dserver.Troubles(ctx, t.db, typesOf(typ)...) {
		if err == nil && found.Status.DeadLetters > 0 {
			err = fn(found.Ref)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// typesOf is one type, or none for all.
func typesOf(typ string) []string {
	if typ == "" {
		return nil
	}
	return []string{typ}
}

func (c *deadCommand) add(ctx context.Context, t *tool, list *list, ref dserver.Ref) error {
	for found, err := range ref.At(t.db).DeadLetters(ctx) {
		if err != nil {
			return err
		}
		if !c.takes(found) {
			continue
		}
		if c.isReached(list) {
			return errLimit
		}
		d := newLetter(found)
		cells := []any{d.Stamp, name(found.Message.Name), d.Attempts, moment(d.Since), oneLine(d.Body, d.Raw), bad(shorten(firstLine(d.Error), errorRunes))}
		if c.All {
			d.Server = jsonName(ref.String())
			cells = append([]any{ref}, cells...)
		}
		if err := list.add(d, cells...); err != nil {
			return err
		}
	}
	return nil
}

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// showLetter prints all that is known of one.
func (t *tool) showLetter(found dserver.DeadLetter, asCBOR bool) error {
	d := newLetter(found)
	fields := []field{
		{"stamp", d.Stamp}, {"status", bad("set aside")}, {"message", name(found.Message.Name)}, {"attempts", d.Attempts},
		{"since", moment(d.Since)}, {"error", bad(found.Err.Text)},
	}
	if d.Code != "" {
		fields = append(fields, field{"code", quoted(found.Err.Code)})
	}
	fields = append(fields, headerFields(found.Headers)...)
	shown := body(d.Body, d.Raw)
	if asCBOR {
		shown, d.Notation, d.Body = notationField(found.Message.Body)
	}
	fields = append(fields, field{"bytes", d.Bytes}, shown)
	if d.Stack != "" {
		fields = append(fields, field{"stack", shownLines(found.Stack)})
	}
	return t.out.fields(d, fields...)
}

// noDead says what to do when it is gone.
func (t *tool) noDead(err error, m message) error {
	if errors.Is(err, dserver.ErrNotFound) {
		return fmt.Errorf("no message %v of %v was set aside; %s dead %v lists those that were", m.Stamp, m.Server, t.self(), m.Server)
	}
	return err
}

// discardCommand removes what was set aside.
type discardCommand struct {
	chosen
	sure
}

// Run removes it and says so. Several are asked about.
func (c *discardCommand) Run(ctx context.Context, t *tool) error {
	if c.Stamp.IsZero() && !c.DryRun {
		if err := c.confirmed(t, "remove all messages of %v that were set aside and are chosen", c.where()); err != nil {
			return err
		}
	}
	return c.each(ctx, t, "discard", func(at server, d *dserver.DeadLetter) error {
		if err := at.At(t.db).Discard(ctx, *d); err != nil {
			return err
		}
		return t.out.line(map[string]string{"discarded": d.Stamp.String()}, "discarded %v of %v", d.Stamp, at)
	})
}

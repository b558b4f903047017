package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/dserver"
	"github.com/dserver-go/dserver/internal/display"
)

// editCommand changes a message that waits, in its place, or changes what was set aside, and sends it again.
type editCommand struct {
	chosen
	Queued   bool   `help:"Of several: those that wait, in their place, instead of those that were set aside."`
	Priority bool   `help:"Of what was set aside: ahead of the queue, not at its end."`
	Name     text   `help:"Another name for the message." placeholder:"NAME"`
	Body     string `help:"The new body, as show prints it; - reads it from standard input." placeholder:"JSON"`
	CBOR     bool   `name:"cbor" help:"The body, and what the editor gets, are CBOR diagnostic notation (RFC 8949) instead of JSON: nothing is guessed from the old body."`
}

// Validate is called by the command line's parser.
func (c *editCommand) Validate() error {
	if c.Name == "" && c.Body == "" && c.Stamp.IsZero() {
		return errors.New("several messages are not edited by hand: give --body, --name or both")
	}
	if c.Queued && (c.Code != "" || c.Priority || !c.Stamp.IsZero()) {
		return errors.New("--queued is of several messages that wait: they have no --code, keep their place, and one is named by its stamp alone")
	}
	return c.chosen.Validate()
}

// Run changes it. What was bytes or a time in the old body is so in the new one.
func (c *editCommand) Run(ctx context.Context, t *tool) (err error) {
	text := []byte(c.Body)
	if c.Body == "-" {
		if text, err = io.ReadAll(os.Stdin); err != nil {
			return err
		}
	}
	if !c.Stamp.IsZero() {
		waits, err := c.Server.At(t.db).Queued(ctx, c.Stamp.Versionstamp)
		if err == nil {
			return c.mend(ctx, t, waits, text)
		}
		if !errors.Is(err, dserver.ErrNotFound) {
			return err
		}
	}
	if c.Queued {
		return (&waiting{c.several}).each(ctx, t, "edit", func(at server, q dserver.Queued) error { return c.mendOne(ctx, t, at, q, text) })
	}
	return c.each(ctx, t, "edit and retry", func(at server, d *dserver.DeadLetter) error {
		if d.Message, err = c.changed(ctx, d.Message, text); err != nil {
			return err
		}
		return t.retry(ctx, at, *d, c.Priority)
	})
}

// mend changes a message in its place.
func (c *editCommand) mend(ctx context.Context, t *tool, q dserver.Queued, text []byte) error {
	if c.DryRun {
		return t.would("edit", c.Server, q.Stamp, q.Message.Name)
	}
	err := c.mendOne(ctx, t, c.Server, q, text)
	switch {
	case errors.Is(err, dserver.ErrNotFound):
		return t.noMessage(message{shown{c.Server}, c.Stamp})
	case errors.Is(err, dserver.ErrChanged):
		return fmt.Errorf("%w; nothing was done: look at it again", err)
	}
	return err
}

func (c *editCommand) mendOne(ctx context.Context, t *tool, at server, q dserver.Queued, text []byte) error {
	m, err := c.changed(ctx, q.Message, text)
	if err != nil {
		return err
	}
	if err := at.At(t.db).Mend(ctx, q, m); err != nil {
		return err
	}
	return t.out.line(map[string]string{"edited": q.Stamp.String(), "stamp": q.Stamp.String()}, "%v is changed in its place on the queue of %v, and has all its attempts", q.Stamp, at)
}

// changed is a message as it is to be.
func (c *editCommand) changed(ctx context.Context, m dserver.Message, text []byte) (changed dserver.Message, err error) {
	if c.Body == "" && c.Name == "" {
		return byHand(ctx, m, c.form())
	}
	changed = m
	if c.Body != "" {
		if changed.Body, err = c.form().body(text, m.Body); err != nil {
			return m, fmt.Errorf("the body: %w; nothing was sent", err)
		}
	}
	changed.Name = cmp.Or(string(c.Name), m.Name)
	if changed.Name == "" {
		return m, errors.New("the message is damaged and has no name: give it one with --name; nothing was sent")
	}
	return changed, nil
}

// form is how a message stands in the editor.
type form struct {
	suffix string // of the file
	show   func(m dserver.Message) (string, error)
	parse  func(text []byte, was dserver.Message) (dserver.Message, error)
	body   func(text, old []byte) ([]byte, error)
}

var (
	jsonForm = form{".json", showJSON, parseEdited, encodeBody}
	cborForm = form{".cbor.txt", showNotation, parseNotated, func(text, _ []byte) ([]byte, error) { return parseNotation(string(text)) }}
)

func (c *editCommand) form() form {
	if c.CBOR {
		return cborForm
	}
	return jsonForm
}

// edited is a message as it stands in the editor.
type edited struct {
	Message string          `json:"message"`
	Body    json.RawMessage `json:"body"`
}

// notated is the same in CBOR.
type notated struct {
	Message string          `cbor:"message"`
	Body    cbor.RawMessage `cbor:"body"`
}

func showJSON(m dserver.Message) (string, error) {
	body, raw := readable(m.Body)
	if raw != nil {
		return "", errors.New("the body is no CBOR, and cannot be edited: give --body and --name")
	}
	return indented(map[string]any{"message": jsonName(m.Name), "body": body}), nil
}

func showNotation(m dserver.Message) (string, error) {
	text, err := notation(m.Body)
	if err != nil {
		return "", fmt.Errorf("the body has no notation (%w), and cannot be edited so: leave --cbor away, or give --body and --name", err)
	}
	name, err := cbor.Marshal(jsonName(m.Name))
	if err != nil {
		return "", err
	}
	message, err := notation(name)
	return "{\n  \"message\": " + message + ",\n  \"body\": " + strings.ReplaceAll(text, "\n", "\n  ") + "\n}", err
}

// byHand lets a person change a message in their editor. What they made of it stays in the file when it cannot be sent.
func byHand(ctx context.Context, m dserver.Message, as form) (changed dserver.Message, err error) {
	before, err := as.show(m)
	if err != nil {
		return m, fmt.Errorf("%w; nothing was sent", err)
	}
	before += "\n"
	file, err := os.CreateTemp("", "dserver-*"+as.suffix)
	if err != nil {
		return m, err
	}
	_, err = file.WriteString(before)
	if err := errors.Join(err, file.Close()); err != nil {
		return m, err
	}
	after, err := edit(ctx, file.Name())
	if err != nil {
		return m, fmt.Errorf("%w; nothing was sent", err)
	}
	if string(after) == before {
		return m, errors.Join(errors.New("nothing was changed, and nothing was sent"), os.Remove(file.Name()))
	}
	if changed, err = as.parse(after, m); err != nil {
		return m, fmt.Errorf("%w; nothing was sent, and what you wrote is in %s", err, file.Name())
	}
	return changed, os.Remove(file.Name())
}

// edit runs the editor on a file, and returns what is in it then.
func edit(ctx context.Context, path string) ([]byte, error) {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	run := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", path)
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := run.Run(); err != nil {
		return nil, fmt.Errorf("the editor %s: %w", editor, err)
	}
	return os.ReadFile(path)
}

// parseEdited checks what a person made of a message.
func parseEdited(text []byte, was dserver.Message) (m dserver.Message, err error) {
	var e edited
	if err := json.Unmarshal(text, &e); err != nil {
		return m, fmt.Errorf("not JSON: %w", err)
	}
	if m.Name, err = editedName(e.Message, e.Body != nil); err == nil {
		m.Body, err = encodeBody(e.Body, was.Body)
	}
	return m, err
}

// parseNotated is the same of CBOR.
func parseNotated(text []byte, _ dserver.Message) (m dserver.Message, err error) {
	all, err := parseNotation(string(text))
	if err != nil {
		return m, err
	}
	var e notated
	if err := display.Unmarshal(all, &e); err != nil {
		return m, fmt.Errorf("it is no map of a message and a body: %w", err)
	}
	m.Name, err = editedName(e.Message, e.Body != nil)
	m.Body = e.Body
	return m, err
}

func editedName(message string, hasBody bool) (name string, err error) {
	if name, err = unquoted(message); err == nil && (name == "" || !hasBody) {
		err = errors.New("it needs a message, which is its name, and a body")
	}
	return name, err
}

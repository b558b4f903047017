package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/dserver-go/dserver/dserver"
)

// sent is a message that is sent.
type sent struct {
	shown
	Name     text          `arg:"" help:"The message's name, as queue shows it."`
	Body     string        `arg:"" optional:"" default:"{}" help:"Its fields, as JSON; - reads it from standard input. JSON has neither bytes nor times."`
	Once     text          `help:"An idempotency key: sent again with it, the message is not taken again." placeholder:"KEY"`
	After    time.Duration `help:"Put it on the queue when this time has passed." placeholder:"DURATION"`
	Priority bool          `help:"Ahead of the queue, not at its end."`
}

// message is what is to be sent, and how.
func (s *sent) message() (m dserver.Message, how []dserver.Option, err error) {
	text := []byte(s.Body)
	if s.Body == "-" {
		if text, err = io.ReadAll(os.Stdin); err != nil {
			return m, nil, err
		}
	}
	m.Name = string(s.Name)
	if m.Body, err = encodeBody(text, nil); err != nil {
		return m, nil, fmt.Errorf("the body: %w; nothing was sent", err)
	}
	if s.Once != "" {
		how = append(how, dserver.Once(string(s.Once)))
	}
	if s.After > 0 {
		how = append(how, dserver.After(s.After))
	}
	if s.Priority {
		how = append(how, dserver.Priority())
	}
	return m, how, nil
}

// castCommand sends a message.
type castCommand struct{ sent }

// Run sends it.
func (c *castCommand) Run(ctx context.Context, t *tool) error {
	m, how, err := c.message()
	if err != nil {
		return err
	}
	if err := c.Server.At(t.db).Cast(ctx, m, how...); err != nil {
		return err
	}
	return t.out.line(map[string]string{"cast": jsonName(m.Name), "server": jsonName(c.Server.Ref.String())}, "cast %s to %v", quoted(m.Name), c.Server)
}

// callCommand sends a message and waits for its answer.
type callCommand struct {
	sent
	Timeout time.Duration `default:"30s" help:"How long to wait; the message is not withdrawn then."`
}

// Run prints the answer.
func (c *callCommand) Run(ctx context.Context, t *tool) error {
	m, how, err := c.message()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var reply cbor.RawMessage
	err = c.Server.At(t.db).Call(ctx, m, &reply, how...)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w; the message may yet take effect: %s show %v", err, t.self(), c.Server)
	case errors.Is(err, dserver.ErrNoReply):
		return t.out.line(map[string]string{"called": jsonName(m.Name)}, "%v has handled %s, which has no reply", c.Server, quoted(m.Name))
	case err != nil:
		return err
	}
	v, err := decodeBody(reply)
	if err != nil {
		return err
	}
	return t.out.line(map[string]any{"reply": v}, "%s", block(indented(v)))
}
